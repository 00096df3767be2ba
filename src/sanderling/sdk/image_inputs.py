"""Find the files that an environment or requirements file names by path, so that they are sent with it."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

from sanderling.errors import Invalid
from sanderling.sdk.model import LocalFile, local_file

MAX_TEXT_BYTES = 1 << 20
MAX_FILES = 1000
# A file that names any other of this machine must not have it sent and quoted in messages.
_LISTINGS = (".txt", ".in", ".lock", ".pip")
_LINE = re.compile(
    r"""^\s*(?:-\s+)?['"]?(?:
        (?:-r|-c|--requirement|--constraint)(?:\s*=\s*|\s+|(?=[^-\s]))(?P<text>[^\s'"]+)
        |(?:[A-Za-z0-9][\w.-]*\s*(?:\[[^]]*])?\s*@\s*)?(?P<wheel>[^\s'";@\[]+\.whl)(?=[\s;\['"]|$)
    )""",
    re.VERBOSE,
)


def files_named_in(path: Path) -> list[LocalFile]:
    """The wheels and requirements files that the file *path* names, and those that these name in turn.

    Each comes once, with its path relative to the folder of *path*. A file that is not there is
    left out: the server's answer names the line. Only wheels and files called as
    requirements files are (.txt, .in, .lock, .pip) are taken, and nothing else of their folders.

    Raises:
        Invalid: One is there and cannot be read, or they are too many.
    """
    top = path.absolute().parent
    found: dict[Path, LocalFile] = {}
    waiting = [path.absolute()]
    while waiting:
        listing = waiting.pop()
        for name, is_listing in _named(listing):
            file = Path(os.path.normpath(listing.parent / name))
            if file in found or not file.is_file() or (is_listing and file.suffix not in _LISTINGS):
                continue
            found[file] = local_file(file, Path(os.path.relpath(file, top)).as_posix())
            if is_listing:
                waiting.append(file)
            if len(found) > MAX_FILES:
                raise Invalid(f"{path} names more than {MAX_FILES} files; list fewer wheels")
    return [found[file] for file in sorted(found)]


def _named(listing: Path) -> Iterator[tuple[str, bool]]:
    """The paths in one file, each with whether it is a requirements file."""
    with listing.open("rb") as file:
        content = file.read(MAX_TEXT_BYTES)
    codec = "utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    for line in content.decode(codec, "replace").splitlines():
        match = _LINE.match(line)
        if match is None:
            continue
        name = (match["text"] or match["wheel"]).replace("\\", "/").removeprefix("file://")
        if "://" not in name:
            yield name, match["text"] is not None
