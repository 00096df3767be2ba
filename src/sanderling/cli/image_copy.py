"""`sanderling image copy`: images between registries, folders and tar files."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from sanderling.cli.output import JSON_HELP, Output, count_text, size_text
from sanderling.cli.progress import Meter
from sanderling.errors import Invalid
from sanderling.sdk.image_copy import ImageCopy, Side, copy_image
from sanderling.sdk.registry_auth import RegistryAccount, read_account

EXAMPLES = (
    "sanderling image copy docker.io/library/debian:12 localhost:8443/demo/debian:12",
    "sanderling image copy --all-tags localhost:8443/demo/digits oci:backup",
    "sanderling image copy --platform linux/arm64 localhost:8443/demo/digits:1 docker-archive:digits.tar:digits:1",
)
MAX_CREDENTIAL_BYTES = 64 * 1024

CredsFile = Annotated[
    str | None,
    typer.Option(metavar="FILE|-", help="A file with user:password for this side, or - for standard input."),
]
PlainHttp = Annotated[bool, typer.Option(help="Speak to this side's registry without TLS.")]


def copy(
    source: Annotated[str, typer.Argument(metavar="SRC", help="Where the image is.")],
    target: Annotated[str, typer.Argument(metavar="DST", help="Where it goes.")],
    platform: Annotated[
        str | None, typer.Option(metavar="OS/CPU", help="Only this platform, as linux/arm64; else all.")
    ] = None,
    all_tags: Annotated[bool, typer.Option("--all-tags", help="All tags of SRC; neither side names one.")] = False,
    referrers: Annotated[
        bool, typer.Option("--referrers", help="Also signatures, SBOMs and what else refers to the image.")
    ] = False,
    src_creds_file: CredsFile = None,
    dst_creds_file: CredsFile = None,
    src_plain_http: PlainHttp = False,
    dst_plain_http: PlainHttp = False,
    json_: Annotated[bool, typer.Option("--json", help=JSON_HELP)] = False,
) -> None:
    """Copy an image between registries, OCI layouts and tar files. Not a byte of it changes.

    SRC and DST are HOST[:PORT]/REPOSITORY[:TAG], oci:DIR[:NAME], oci-archive:FILE[:NAME] or
    docker-archive:FILE[:NAME:TAG]. What is there is not sent again, and an interrupted copy goes on
    where it was. Users and passwords are those of docker login and podman login, and for the
    workspace's own registry yours.
    """
    out = Output(json_)
    if src_creds_file == dst_creds_file == "-":
        raise Invalid("standard input cannot hold the credentials of both sides")
    sides = [
        Side(read_creds_file(file), True if is_plain else None)
        for file, is_plain in ((src_creds_file, src_plain_http), (dst_creds_file, dst_plain_http))
    ]
    out.step(f"Copying {source} to {target}")
    with Meter(out) as meter:
        done = copy_image(
            source,
            target,
            platform=platform,
            all_tags=all_tags,
            referrers=referrers,
            from_side=sides[0],
            to_side=sides[1],
            progress=lambda now, total: meter("copy", now, total),
        )
    _show(out, done)
    out.result(done.to_json())


def read_creds_file(file: str | None) -> RegistryAccount | None:
    """The account in *file*, which holds user:password; `-` is standard input, None is none. Raises Invalid."""
    if file is None:
        return None
    if file == "-":
        return read_account(sys.stdin.read(MAX_CREDENTIAL_BYTES), "standard input")
    try:
        with Path(file).open() as opened:
            return read_account(opened.read(MAX_CREDENTIAL_BYTES), file)
    except (OSError, UnicodeError) as error:
        raise Invalid(f"{file} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from error


def _show(out: Output, done: ImageCopy) -> None:
    there = done.blobs - done.sent_blobs - done.mounted_blobs
    parts = [f"{size_text(done.sent_bytes)} of {size_text(done.total_bytes)} sent"]
    parts += [f"{count_text(done.mounted_blobs, 'blob')} mounted"] if done.mounted_blobs else []
    parts += [f"{count_text(there, 'blob')} there already"] if there else []
    out.step(f"{count_text(done.manifests, 'manifest')}, {count_text(done.blobs, 'blob')}: {', '.join(parts)}")
    for name, digest in done.digests.items():
        out.line(f"{name or '(no name)'}  {digest}")
