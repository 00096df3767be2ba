"""`sanderling model`: register, list, show, download, delete."""

from pathlib import Path
from typing import Annotated

import typer

from sanderling.cli.help import example
from sanderling.cli.output import JSON_HELP, Output, age_text, confirm, count_text, pairs_of, size_text, tags_text
from sanderling.cli.progress import Meter
from sanderling.sdk.model import Model
from sanderling.sdk.workspace import Workspace

app = typer.Typer(help="Register models and look at them.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Named = Annotated[str, typer.Argument(metavar="NAME[:VERSION]", help="The model; the latest version if none is given.")]


@app.command(epilog=example("sanderling model register model.pkl --name digits --tag data=uci-digits"))
def register(
    path: Annotated[Path, typer.Argument(help="The model's file or folder.")],
    name: Annotated[str | None, typer.Option(help="The model's name; the file's name if none is given.")] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A tag; may be repeated.")] = None,
    property_: Annotated[
        list[str] | None,
        typer.Option("--property", metavar="KEY=VALUE", help="A property, which never changes; may be repeated."),
    ] = None,
    description: Annotated[str | None, typer.Option(help="A sentence for people.")] = None,
    json_: Json = False,
) -> None:
    """Register a file or folder as the next version of a model."""
    out = Output(json_)
    tags, properties = pairs_of("tag", tag or []), pairs_of("property", property_ or [])
    workspace = Workspace.from_config()
    out.step(f"Registering {path} in workspace {workspace.name}")
    with Meter(out) as meter:
        model = Model.register(
            workspace, path, name, tags=tags, properties=properties, description=description, progress=meter
        )
    out.step(f"Registered {model.id}, {count_text(len(model.files), 'file')}, {size_text(model.size_bytes)}")
    out.result(model.to_json())


@app.command("list", epilog=example("sanderling model list --name digits"))
def list_(
    name: Annotated[str | None, typer.Option(help="Only versions of this model.")] = None,
    tag: Annotated[str | None, typer.Option(metavar="KEY[=VALUE]", help="Only models with this tag.")] = None,
    latest: Annotated[bool, typer.Option("--latest", help="Only the latest version of each.")] = False,
    json_: Json = False,
) -> None:
    """List the registered models."""
    out = Output(json_)
    models = Model.list(Workspace.from_config(), name=name, tag=tag, latest=latest)
    out.table(
        ("NAME", "#VERSION", "#SIZE", "REGISTERED", "TAGS", "DESCRIPTION"),
        [
            (
                m.name,
                m.version,
                size_text(m.size_bytes),
                age_text(m.created_time),
                tags_text(dict(m.tags)),
                m.description,
            )
            for m in models
        ],
        empty="no models yet; sanderling model register PATH --name NAME",
    )
    out.result([model.to_json() for model in models])


@app.command(epilog=example("sanderling model show digits:1"))
def show(name: Named, json_: Json = False) -> None:
    """Show one model and its files."""
    out = Output(json_)
    model = Model.get(Workspace.from_config(), name)
    out.facts(
        [
            ("model", model.id),
            ("description", model.description),
            ("tags", tags_text(dict(model.tags))),
            ("properties", tags_text(dict(model.properties))),
            ("registered", age_text(model.created_time)),
            ("size", size_text(model.size_bytes)),
        ]
    )
    out.line()
    out.table(("FILE", "#SIZE", "DIGEST"), [(f.path, size_text(f.size), f.digest) for f in model.files])
    out.result(model.to_json())


@app.command(epilog=example("sanderling model download digits:1 --to ./models"))
def download(
    name: Named,
    to: Annotated[Path, typer.Option(help="The folder to put it in.")] = Path(),
    force: Annotated[bool, typer.Option("--force", help="Replace what is there.")] = False,
    json_: Json = False,
) -> None:
    """Fetch a model's files."""
    out = Output(json_)
    model = Model.get(Workspace.from_config(), name)
    out.step(f"Fetching {model.id}, {size_text(model.size_bytes)}")
    with Meter(out) as meter:
        path = model.download(to, exist_ok=force, progress=meter)
    out.step(f"{path} is there, every digest verified")
    out.result({**model.to_json(), "path": str(path)})


@app.command(epilog=example("sanderling model delete digits:1 --yes"))
def delete(
    name: Named,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    json_: Json = False,
) -> None:
    """Delete one version of a model; its number does not return."""
    out = Output(json_)
    model = Model.get(Workspace.from_config(), name)
    confirm(f"Delete model {model.id}, {size_text(model.size_bytes)}?", yes)
    model.delete()
    out.step(f"Deleted {model.id}")
    out.result({"deleted": model.id})
