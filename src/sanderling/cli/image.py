"""`sanderling image`: build, list, show, logs; copy is in `image_copy`."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Annotated

import typer

from sanderling.cli import image_attachments, image_copy
from sanderling.cli.build_log import COLUMNS, BuildLog
from sanderling.cli.help import example
from sanderling.cli.output import JSON_HELP, Output, age_text, pairs_of, size_text, tags_text
from sanderling.cli.progress import Meter
from sanderling.errors import SanderlingError
from sanderling.sdk.image import Image
from sanderling.sdk.image_attachments import ImageAttachment, list_attachments
from sanderling.sdk.workspace import Workspace

app = typer.Typer(help="Build container images from a script, an environment and models.", no_args_is_help=True)

Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Named = Annotated[str, typer.Argument(metavar="NAME[:VERSION]", help="The image; the latest version if none is given.")]


@app.command(epilog=example("sanderling image build --name digits --script score.py --env myenv.yml --model digits:1"))
def build(
    name: Annotated[str, typer.Option(help="The image's name.")],
    script: Annotated[Path, typer.Option(help="The scoring script, with init() and run(raw_data).")],
    environment: Annotated[
        Path | None, typer.Option("--env", "--environment", help="The conda environment file, as myenv.yml.")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="NAME[:VERSION]", help="A model to put inside; may be repeated.")
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="A file or folder beside the script; may be repeated.")
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(metavar="OS/CPU", help="As linux/arm64; may be repeated. The server's own if none is given."),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A tag; may be repeated.")] = None,
    description: Annotated[str | None, typer.Option(help="A sentence for people.")] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until it is built.")] = True,
    json_: Json = False,
) -> None:
    """Build an image and push it to the registry."""
    out = Output(json_)
    tags = pairs_of("tag", tag or [])
    workspace = Workspace.from_config()
    began = monotonic()
    with Meter(out) as meter:
        image = Image.create(
            workspace,
            name,
            script=script,
            environment=environment,
            models=model or [],
            dependencies=file or [],
            platforms=platform,
            tags=tags,
            description=description,
            progress=meter,
        )
    out.step(f"Building image {image.id} with {', '.join(image.models) or 'no model'}")
    if not wait:
        out.line(f"    follow it: sanderling image logs {image.id} --follow")
        out.result(image.to_json())
        return
    try:
        with BuildLog(out) as log:
            image = image.wait(on_event=log)
    except KeyboardInterrupt:
        typer.echo(f"the server goes on building; follow it: sanderling image logs {image.id} --follow", err=True)
        raise
    seconds = monotonic() - began
    out.line()
    out.table(COLUMNS, [log.summary(image, seconds)])
    out.line()
    out.line(f"{image.location}  {image.digest}")
    out.result(image.to_json())


@app.command("list", epilog=example("sanderling image list --json"))
def list_(
    name: Annotated[str | None, typer.Option(help="Only versions of this image.")] = None,
    json_: Json = False,
) -> None:
    """List the images."""
    out = Output(json_)
    images = Image.list(Workspace.from_config(), name=name)
    out.table(
        ("NAME", "#VERSION", "STATE", "#SIZE", "PLATFORM", "MODELS", "CREATED"),
        [
            (
                image.name,
                image.version,
                image.state,
                size_text(image.size_bytes),
                ", ".join(image.platforms),
                ", ".join(image.models),
                age_text(image.created_time),
            )
            for image in images
        ],
        empty="no images yet; sanderling image build --help",
    )
    out.result([image.to_json() for image in images])


@app.command(epilog=example("sanderling image show digits:1"))
def show(name: Named, json_: Json = False) -> None:
    """Show one image."""
    out = Output(json_)
    image = Image.get(Workspace.from_config(), name)
    out.facts(
        [
            ("image", image.id),
            ("state", image.state),
            ("error", image.error),
            ("location", image.location),
            ("digest", image.digest),
            ("size", size_text(image.size_bytes)),
            ("platforms", ", ".join(image.platforms)),
            ("models", ", ".join(image.models)),
            ("tags", tags_text(dict(image.tags))),
            ("description", image.description),
            ("created", age_text(image.created_time)),
            ("seconds", f"{image.seconds:.1f}" if image.seconds is not None else None),
        ]
    )
    attachments: Sequence[ImageAttachment] = ()
    with suppress(SanderlingError):  # the registry may have lost the image since, or be away
        attachments = list_attachments(image.location) if image.state == "succeeded" else ()
    out.table(
        ("BESIDE IT", "PLATFORM", "#SIZE", "DIGEST"),
        [(one.kind, one.platform or "all", size_text(one.size_bytes), one.digest) for one in attachments],
    )
    out.result(image.to_json() | {"attachments": [one.to_json() for one in attachments]})


@app.command(epilog=example("sanderling image logs digits:1 --follow"))
def logs(
    name: Named,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until the build has ended.")] = False,
    json_: Json = False,
) -> None:
    """Show the log of an image's build."""
    out = Output(json_)
    image = Image.get(Workspace.from_config(), name)
    events = []
    with BuildLog(out) as log:
        for event in image.logs(follow=follow):
            log(event)
            events.append(event)
    image = image.refresh()
    out.step(f"{image.id} {image.state}" + (f": {image.error}" if image.error else ""))
    out.result(
        {
            "id": image.id,
            "state": image.state,
            "error": image.error,
            "events": [
                {
                    "n": event.n,
                    "at": event.at.isoformat() if event.at else None,
                    "step": event.step,
                    "text": event.text,
                    "level": event.level,
                    "bytes": event.bytes,
                    "totalBytes": event.total_bytes,
                }
                for event in events
            ],
        }
    )


image_attachments.add_to(app)
app.command("copy", epilog=example(*image_copy.EXAMPLES))(image_copy.copy)
