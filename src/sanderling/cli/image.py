"""`sanderling image`: build, list, show, logs; copy is in `image_copy`."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Annotated, Any

import typer

from sanderling.cli import image_attachments, image_copy
from sanderling.cli.build_log import COLUMNS, BuildLog
from sanderling.cli.help import example
from sanderling.cli.image_build import MAKE_KEY, Here, Inputs, build_here, prefetch_here
from sanderling.cli.image_sizes import show_sizes
from sanderling.cli.output import JSON_HELP, Output, age_text, pairs_of, size_text, tags_text
from sanderling.cli.progress import Meter
from sanderling.errors import Invalid, NotFound, SanderlingError
from sanderling.sdk.hints import hinted
from sanderling.sdk.image import Image
from sanderling.sdk.image_attachments import ImageAttachment, list_attachments
from sanderling.sdk.workspace import Workspace

app = typer.Typer(help="Build container images from a script, an environment and models.", no_args_is_help=True)

SLOWEST_STEPS = 3
Json = Annotated[bool, typer.Option("--json", help=JSON_HELP)]
Named = Annotated[str, typer.Argument(metavar="NAME[:VERSION]", help="The image; the latest version if none is given.")]


@app.command(
    epilog=example(
        "sanderling image build --name digits --script score.py --env myenv.yml --model digits:1",
        "sanderling image build --script score.py --env myenv.yml --model model.pkl --output oci:digits",
        "sanderling image build --script score.py --model digits=model.pkl --push localhost:5000/demo/digits:1",
    )
)
def build(
    script: Annotated[Path, typer.Option(help="The scoring script, with init() and run(raw_data).")],
    name: Annotated[
        str | None, typer.Option(help="The image's name. Here, with a tag if you like: demo/digits:1.")
    ] = None,
    environment: Annotated[
        Path | None, typer.Option("--env", "--environment", help="The conda environment file, as myenv.yml.")
    ] = None,
    requirements: Annotated[
        Path | None, typer.Option(help="A pip requirements file, in place of the environment file.")
    ] = None,
    model: Annotated[
        list[str] | None,
        typer.Option(
            metavar="MODEL",
            help="A model to put inside: NAME[:VERSION] of the workspace; here [NAME[:VERSION]=]PATH. May be repeated.",
        ),
    ] = None,
    file: Annotated[
        list[Path] | None, typer.Option(metavar="PATH", help="A file or folder beside the script; may be repeated.")
    ] = None,
    schema: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The schema file of azureml, put beside the script.")
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(
            metavar="OS/CPU",
            help="As linux/arm64; may be repeated, or hold commas. The builder's own if none is given.",
        ),
    ] = None,
    tag: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="A tag; may be repeated.")] = None,
    description: Annotated[str | None, typer.Option(help="A sentence for people.")] = None,
    base: Annotated[
        str | None, typer.Option(metavar="REF", help="The image to build upon, as docker pull takes it; else Debian.")
    ] = None,
    compression: Annotated[
        str | None, typer.Option(metavar="gzip|zstd", help="How layers are compressed; gzip, which all engines read.")
    ] = None,
    sample_input: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A request's body that run() must answer before it is pushed.")
    ] = None,
    gate: Annotated[bool, typer.Option("--gate/--no-gate", help="Try init() and run() before it is pushed.")] = True,
    dockerfile: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Extra steps upon the image: COPY, ENV, ...; its folder is the context."),
    ] = None,
    wait: Annotated[bool, typer.Option("--wait/--no-wait", help="Wait until the server has built it.")] = True,
    output: Annotated[
        list[str] | None,
        typer.Option(
            metavar="PLACE",
            help="Build here, into oci:DIR, oci-archive:FILE, docker-archive:FILE or docker: (the engine that runs "
            "here); may be repeated.",
        ),
    ] = None,
    push: Annotated[
        list[str] | None,
        typer.Option(metavar="REF", help="Build here, and push to HOST[:PORT]/REPOSITORY[:TAG]; may be repeated."),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Here: where packages and layers are kept; else the user's cache."),
    ] = None,
    push_creds_file: Annotated[
        str | None, typer.Option(metavar="FILE|-", help="Here: a file with user:password for --push; - is stdin.")
    ] = None,
    push_plain_http: Annotated[bool, typer.Option(help="Here: speak to the registry without TLS.")] = False,
    offline: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Here: all packages from a folder that `image prefetch` filled; no network."),
    ] = None,
    wheelhouse: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Here: wheels from this folder alone; no index is asked.")
    ] = None,
    base_lock: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Here: the base's packages as this file says.")
    ] = None,
    no_network: Annotated[
        bool, typer.Option("--no-network", help="Here: fetch no packages; what is not on this machine is named.")
    ] = False,
    lock: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Here: the base and wheels that `image lock` wrote down, and no others."),
    ] = None,
    sign_key: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Here: sign with the private key in PEM that this makes: {MAKE_KEY.format(path='FILE')}",
        ),
    ] = None,
    attachments: Annotated[
        bool | None,
        typer.Option(
            "--attachments/--no-attachments",
            help="Here: lock, bill of materials and provenance beside it; if not said, in registries and if signed.",
        ),
    ] = None,
    json_: Json = False,
) -> None:
    """Build an image and push it to the workspace's registry; or on this machine, with --output or --push.

    The same files give the same image, byte for byte, wherever it is built.
    """
    out = Output(json_)
    tags = pairs_of("tag", tag or [])
    platforms = [one for text in platform or [] for one in text.split(",") if one]
    here = Here(
        output or [], push or [], cache, push_creds_file, push_plain_http, offline, wheelhouse, base_lock, no_network,
        sign_key, attachments, lock,
    )  # fmt: skip
    if here.is_wanted:
        inputs = Inputs(
            script, name, environment, requirements, base, model or [], file or [], schema, platforms, tags,
            description or "", compression, sample_input, gate, dockerfile,
        )  # fmt: skip
        build_here(out, inputs, here)
        return
    here.refuse()
    if name is None:
        raise hinted(Invalid("the image needs a name: --name"), "--name digits, or --output oci:DIR to build it here")
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
            schema=schema,
            platforms=platforms or None,
            tags=tags,
            description=description,
            compression=compression,
            progress=meter,
            base=base,
            requirements=requirements,
            sample_input=sample_input,
            gate=gate,
            docker_file=dockerfile,
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


@app.command(
    epilog=example("sanderling image prefetch --env myenv.yml --platform linux/amd64,linux/arm64 --output carried")
)
def prefetch(
    output: Annotated[Path, typer.Option(metavar="DIR", help="The folder to fill.")],
    environment: Annotated[
        Path | None, typer.Option("--env", "--environment", help="The conda environment file, as myenv.yml.")
    ] = None,
    requirements: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A pip requirements file, in place of --env.")
    ] = None,
    platform: Annotated[
        list[str] | None,
        typer.Option(metavar="OS/CPU", help="As linux/arm64; may be repeated, or hold commas. This machine's else."),
    ] = None,
    cache: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where packages are kept; else the user's cache.")
    ] = None,
    json_: Json = False,
) -> None:
    """Fetch all packages that a build needs into a folder, for a machine that has no network."""
    platforms = [one for text in platform or [] for one in text.split(",") if one]
    inputs = Inputs(Path("score.py"), environment=environment, requirements=requirements, platforms=platforms)
    prefetch_here(Output(json_), inputs, Here(cache=cache), output)


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


@app.command(epilog=example("sanderling image show digits:1", "sanderling image show digits:2 --sizes"))
def show(
    name: Named,
    sizes: Annotated[
        bool, typer.Option("--sizes", help="Also where its bytes are, and what a device must download.")
    ] = False,
    previous: Annotated[
        int | None, typer.Option(metavar="VERSION", help="With --sizes: what the device has; else the one before.")
    ] = None,
    json_: Json = False,
) -> None:
    """Show one image."""
    out = Output(json_)
    image = Image.get(Workspace.from_config(), name)
    record: Mapping[str, Any] = {}
    with suppress(NotFound):  # servers of earlier versions have none
        record = image.record()
    out.facts(
        [
            ("image", image.id),
            ("state", image.state),
            ("error", image.error),
            ("culprit", culprit_text(image.culprit)),
            ("requested by", image.requested_by),
            ("location", image.location),
            ("digest", image.digest),
            ("size", size_text(image.size_bytes)),
            ("platforms", ", ".join(image.platforms)),
            ("models", ", ".join(image.models)),
            ("tags", tags_text(dict(image.tags))),
            ("description", image.description),
            ("created", age_text(image.created_time)),
            ("seconds", seconds_text(image.seconds, record.get("steps") or ())),
            ("sent", size_text(record["sentBytes"]) if "sentBytes" in record else None),
            ("base", ", ".join(dict.fromkeys(base_text(base) for base in record.get("bases") or ()))),
            ("signed with", record.get("keyId")),
        ]
    )
    attachments: Sequence[ImageAttachment] = ()
    with suppress(SanderlingError):  # the registry may have lost the image since, or be away
        attachments = list_attachments(image.location) if image.state == "succeeded" else ()
    out.table(
        ("BESIDE IT", "PLATFORM", "#SIZE", "DIGEST"),
        [(one.kind, one.platform or "all", size_text(one.size_bytes), one.digest) for one in attachments],
    )
    told = image.to_json() | {"attachments": [one.to_json() for one in attachments], "record": dict(record)}
    if sizes:
        report = image.sizes(previous)
        show_sizes(out, report)
        told["sizes"] = report
    out.result(told)


def seconds_text(seconds: float | None, steps: Sequence[Mapping[str, Any]]) -> str | None:
    """How long a build took, and its slowest steps."""
    if seconds is None:
        return None
    slowest = sorted(steps, key=lambda step: -float(step["seconds"]))[:SLOWEST_STEPS]
    told = ", ".join(f"{step['name']} {step['seconds']:.1f}" for step in slowest)
    return f"{seconds:.1f} ({told})" if told else f"{seconds:.1f}"


def base_text(base: Mapping[str, Any]) -> str:
    """What an image stands on, in a few words."""
    if base.get("kind") == "debian":
        return f"Debian {base.get('release')}, {base.get('packages')} packages"
    return f"{base.get('name')} {str(base.get('digest'))[:19]}"


def culprit_text(culprit: Mapping[str, object]) -> str | None:
    """What a failed build blames, in one line; None when it does not know."""
    told = [f"{name} {culprit[name]}" for name in ("package", "file", "line") if name in culprit]
    return ", ".join(told) or None


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
