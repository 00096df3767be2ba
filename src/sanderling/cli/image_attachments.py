"""`sanderling image key`, `lock`, `sbom`, `provenance` and `verify`: what is told about an image beside it."""

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from sanderling.cli.extras import needs_extra
from sanderling.cli.help import example
from sanderling.cli.output import JSON_HELP, Output
from sanderling.errors import Invalid
from sanderling.sdk.image import Image
from sanderling.sdk.image_attachments import read_attachment, verify_image
from sanderling.sdk.image_copy import Side
from sanderling.sdk.workspace import Workspace

Named = Annotated[
    str,
    typer.Argument(metavar="IMAGE", help="NAME[:VERSION] of the workspace, HOST/REPOSITORY:TAG, or oci:DIR[:NAME]."),
]
Platform = Annotated[str | None, typer.Option(metavar="OS/CPU", help="Of an image for several platforms, this one.")]
Into = Annotated[Path | None, typer.Option("--output", metavar="FILE", help="Write it there and not to stdout.")]
PlainHttp = Annotated[bool, typer.Option(help="Speak to the registry without TLS.")]


def add_to(app: typer.Typer) -> None:
    """Give *app* these commands."""
    app.command("key", epilog=example("sanderling image key > pub.pem"))(key)
    app.command("lock", epilog=example("sanderling image lock digits:1 --output lock.json"))(lock)
    app.command("sbom", epilog=example("sanderling image sbom digits:1 --platform linux/arm64"))(sbom)
    app.command("provenance", epilog=example("sanderling image provenance digits:1"))(provenance)
    app.command("verify", epilog=example("sanderling image verify localhost:8443/demo/digits:1 --key pub.pem"))(verify)


def key(json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False) -> None:
    """Print the public key that this workspace's images are signed with, in PEM."""
    out = Output(json_)
    found = Workspace.from_config().signing_key()
    if not json_:
        typer.echo(found.public_key, nl=False)
    out.result(found.to_json())


def lock(
    image: Named,
    platform: Platform = None,
    pylock: Annotated[
        bool, typer.Option("--pylock", help="The wheels alone, as the pylock.toml that pip and uv take.")
    ] = False,
    output: Into = None,
    plain_http: PlainHttp = False,
) -> None:
    """Print the lock of an image: every package with version, hash and place."""
    _print(image, "lock", platform, "pylock.toml" if pylock else None, output, plain_http)


def sbom(image: Named, platform: Platform = None, output: Into = None, plain_http: PlainHttp = False) -> None:
    """Print the bill of materials of an image, as CycloneDX."""
    _print(image, "sbom", platform, None, output, plain_http)


def provenance(image: Named, output: Into = None, plain_http: PlainHttp = False) -> None:
    """Print who built an image from what, as an in-toto statement (SLSA). Its signature is not checked."""
    _print(image, "provenance", None, None, output, plain_http)


def verify(
    image: Named,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The public key in PEM; this workspace's if none is given.")
    ] = None,
    plain_http: PlainHttp = False,
    json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Check that an image was signed with a key. It fails when it was not."""
    out = Output(json_)
    public = key if key is not None else Workspace.from_config().signing_key().public_key.encode()
    with needs_extra("verify"):
        done = verify_image(_reference(image), public, side=Side(is_plain_http=True if plain_http else None))
    out.step(f"{done.reference} is signed with the key {done.key_id}")
    out.facts(
        [
            ("digest", done.digest),
            ("signed for", ", ".join(done.signed_for)),
            ("attestations", ", ".join(done.predicates)),
        ]
    )
    out.result(done.to_json())


def _reference(image: str) -> str:
    """Where an image of this workspace is; others as they are."""
    if "/" in image or image.startswith(("oci:", "oci-archive:")):
        return image
    return Image.get(Workspace.from_config(), image).location


def _print(
    image: str, kind: str, platform: str | None, title: str | None, output: Path | None, plain_http: bool
) -> None:
    side = Side(is_plain_http=True if plain_http else None)
    raw = read_attachment(_reference(image), kind, platform=platform, title=title, side=side)
    if output is not None:
        try:
            output.write_bytes(raw)
        except OSError as error:
            raise Invalid(f"{output} cannot be written: {error.strerror}") from error
        Output(False).step(f"{kind} of {image}: {output}")
        return
    sys.stdout.write(_readable(raw))


def _readable(raw: bytes) -> str:
    """A document as people read it: JSON is indented."""
    text = raw.decode("utf-8", "replace")
    try:
        return json.dumps(json.loads(text), indent=2, ensure_ascii=False) + "\n"
    except ValueError:
        return text
