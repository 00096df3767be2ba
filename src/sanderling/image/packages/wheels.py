"""Read a wheel as the files it installs. Nothing of it is executed, not even by an installer.

Source: the binary distribution format (PEP 427, PEP 491), entry points specification.
"""

import configparser
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sanderling.errors import Invalid
from sanderling.image.interpreter import Interpreter
from sanderling.image.layers.tree import Entry, Member, PathRefused, file_entry, safe_path
from sanderling.image.packages.trimming import is_left_out, project_of, trim_record

MAX_FILES = 200_000
MAX_BYTES = 16 << 30
MAX_HELD_BYTES = 32 << 20  # a larger script or source is no source


class BrokenWheel(Invalid):
    """*wheel* cannot be put into an image."""

    def __init__(self, wheel: str, reason: str) -> None:
        super().__init__(f"the wheel {wheel} cannot be used: {reason}")
        self.wheel, self.reason = wheel, reason


class SamePath(Invalid):
    """Two wheels bring one path; which of them would win depends on chance."""

    def __init__(self, path: str, first: str, second: str) -> None:
        super().__init__(f"{first} and {second} both bring /{path}; leave one of them out of the environment")
        self.path, self.first, self.second = path, first, second


@contextmanager
def open_wheel(path: Path, name: str, python: Interpreter) -> Iterator[list[Entry]]:
    """The files that the wheel at *path* installs for *python*, scripts and entry points included.

    They are usable inside the context.

    Raises BrokenWheel for a broken archive or one that unpacks to more than
    16 GiB, and PathRefused for a path outside of the image.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            project = project_of(name)
            infos = [i for i in archive.infolist() if not i.is_dir() and not is_left_out(project, i.filename)]
            if len(infos) > MAX_FILES or sum(info.file_size for info in infos) > MAX_BYTES:
                raise BrokenWheel(name, f"it unpacks to more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB")
            entries: dict[str, Entry] = {}
            for entry in (entry for info in infos for entry in _read(archive, info, name, python)):
                if entry.path in entries:
                    raise BrokenWheel(name, f"it has /{entry.path} twice")
                entries[entry.path] = entry
            yield list(entries.values())
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError) as e:
        raise BrokenWheel(name, f"it is a broken archive ({e}); is it damaged at its index?") from e


def _read(archive: zipfile.ZipFile, info: zipfile.ZipInfo, wheel: str, python: Interpreter) -> Iterator[Entry]:
    place = _place(info.filename, wheel, python)
    if place is None:
        return
    if info.flag_bits & 1:
        raise BrokenWheel(wheel, f"{info.filename} is encrypted")
    is_script = place.startswith(f"{python.scripts}/")
    executable = is_script or bool((info.external_attr >> 16) & stat.S_IXUSR)
    content: bytes | Member = Member(lambda: archive.open(info), info.file_size, info.CRC)
    if info.file_size <= MAX_HELD_BYTES and (is_script or place.endswith((".py", ".dist-info/entry_points.txt"))):
        content = archive.read(info)
        if is_script and content.startswith(b"#!python"):
            content = b"#!" + python.executable.encode() + content[content.find(b"\n") :]
    elif place.endswith(".dist-info/RECORD") and info.file_size <= MAX_HELD_BYTES:
        content = trim_record(project_of(wheel), archive.read(info))
    yield file_entry(place, content, executable=executable, source=wheel)
    if place.endswith(".dist-info/WHEEL"):
        yield file_entry(place.removesuffix("WHEEL") + "INSTALLER", b"sanderling\n", source=wheel)
    elif place.endswith(".dist-info/entry_points.txt") and isinstance(content, bytes):
        yield from _entry_points(content, wheel, python)


def _place(name: str, wheel: str, python: Interpreter) -> str | None:
    """Where the file called *name* in the archive goes; None when it is not installed."""
    safe_path(name, wheel)
    if name.endswith("/INSTALLER") and ".dist-info/" in name:
        return None
    top, _, rest = name.partition("/")
    if not top.endswith(".data"):
        return f"{python.site}/{name}"
    scheme, _, below = rest.partition("/")
    if not below:
        raise PathRefused(wheel, name, "belongs to no installation scheme")
    match scheme:
        case "purelib" | "platlib":
            return f"{python.site}/{below}"
        case "scripts":
            return f"{python.scripts}/{below}"
        case "data":
            return f"{python.prefix}/{below}"
        case "headers":
            return None
        case _:
            raise PathRefused(wheel, name, "belongs to no installation scheme")


def _entry_points(content: bytes, wheel: str, python: Interpreter) -> Iterator[Entry]:
    parser = configparser.RawConfigParser(delimiters=("=",), strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names keep their case
    try:
        parser.read_string(content.decode("utf-8"))
    except (configparser.Error, UnicodeDecodeError):
        return
    if not parser.has_section("console_scripts"):
        return
    for command, target in parser.items("console_scripts"):
        module, _, attribute = target.split("[")[0].strip().partition(":")
        first = attribute.split(".")[0].strip()
        if not all(part.isidentifier() for part in [*module.strip().split("."), *attribute.strip().split(".")]):
            continue
        lines = ("import sys", f"from {module.strip()} import {first}", f"sys.exit({attribute.strip()}())")
        text = "\n".join((f"#!{python.executable}", *lines, ""))
        yield file_entry(f"{python.scripts}/{command}", text.encode(), executable=True, source=wheel)
