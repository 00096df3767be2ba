"""Read a conda package as the files it installs below the prefix. No script of it runs.

- Only files that the package lists and that are really in the archive count; a link is never followed.
- The final prefix is written into the files that name another one.
- Noarch packages of Python are put where the image's Python looks for them, with their commands.
- A record of each package is left in conda-meta, without dates and places of this machine.

Source: conda's package specification: info/paths.json, info/link.json, info/index.json, conda-meta.
"""

import hashlib
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sanderling.errors import Invalid
from sanderling.image.conda.bytecode import source_of, unchecked
from sanderling.image.conda.lock import PREFIX, CondaPackage
from sanderling.image.conda.prefix import replace_prefix
from sanderling.image.conda.prefix_record import prefix_record
from sanderling.image.interpreter import Interpreter
from sanderling.image.keep import read_json
from sanderling.image.layers.tree import Entry, Member, safe_path

if TYPE_CHECKING:
    from rattler.package import PathsEntry

MAX_FILES = 200_000
MAX_BYTES = 16 << 30
MAX_HELD_BYTES = 32 << 20  # a larger source is no source


class BrokenCondaPackage(Invalid):
    """*package* (its file name) cannot be put into an image."""

    def __init__(self, package: str, reason: str) -> None:
        super().__init__(f"the conda package {package} cannot be used: {reason}")
        self.package, self.reason = package, reason


@contextmanager
def open_package(path: Path, package: CondaPackage, python: Interpreter) -> Iterator[list[Entry]]:
    """The files that the package in the file *path* installs for *python*; usable inside the context.

    Raises BrokenCondaPackage, PathRefused for a path outside of the prefix, or PrefixTooLong.
    """
    from rattler.package_streaming import extract

    with tempfile.TemporaryDirectory(prefix="sanderling-conda-") as folder:
        # The kind of archive is told by its name, which a blob has not.
        archive, root = Path(folder, package.file_name), Path(folder, "package")
        archive.symlink_to(path.absolute())
        try:
            extract(archive, root)
        except Exception as e:  # rattler raises its own errors and Python's
            raise BrokenCondaPackage(package.file_name, f"it is a broken archive ({' '.join(str(e).split())})") from e
        yield _Reader(root, package, python).read()


class _Reader:
    """Turns an unpacked package into entries."""

    def __init__(self, root: Path, package: CondaPackage, python: Interpreter) -> None:
        self.root, self.package, self.python = root, package, python
        self.name = package.file_name
        self.present = self._walk()

    def _walk(self) -> dict[str, os.stat_result]:
        """What is in the archive, by path; folders that are links are not entered."""
        found: dict[str, os.stat_result] = {}
        size = 0
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                path = Path(folder, name)
                status = path.lstat()
                found[path.relative_to(self.root).as_posix()] = status
                size += status.st_size
            if len(found) > MAX_FILES or size > MAX_BYTES:
                raise BrokenCondaPackage(
                    self.name, f"it unpacks to more than {MAX_FILES} files or {MAX_BYTES >> 30} GiB"
                )
        return found

    def read(self) -> list[Entry]:
        entries: dict[str, Entry] = {}
        originals: dict[str, os.stat_result] = {}
        for item in self._paths():
            where = item.relative_path.as_posix()
            place = self._place(safe_path(where, self.name))
            if place in entries:
                raise BrokenCondaPackage(self.name, f"it has /{place} twice")
            entries[place] = self._entry(where, place, item)
            originals[place] = self.present[where]
        for entry in self._commands():
            entries[entry.path] = entry
        entries = dict(self._with_bytecode(entries, originals))
        record = self._info("index.json")
        if record.get("name") != self.package.name:
            raise BrokenCondaPackage(self.name, f"its index.json is of the package {record.get('name')!r}")
        about = prefix_record(self.package, record, sorted(entries))
        return [*entries.values(), *about]

    def _paths(self) -> list["PathsEntry"]:
        from rattler.package import PathsJson

        try:
            return PathsJson.from_package_directory_with_deprecated_fallback(self.root).paths
        except Exception as e:  # rattler raises its own errors and Python's
            raise BrokenCondaPackage(self.name, f"its list of files cannot be read ({e})") from e

    def _info(self, name: str) -> dict[str, Any]:
        path = f"info/{name}"
        if path not in self.present or not stat.S_ISREG(self.present[path].st_mode):
            return {}
        return read_json(self.root / path) or {}

    def _place(self, path: str) -> str:
        """Where *path* of the package goes in the image."""
        if self.package.is_noarch_python:
            head, _, rest = path.partition("/")
            if head == "site-packages" and rest:
                return f"{self.python.site}/{rest}"
            if head == "python-scripts" and rest:
                return f"{self.python.scripts}/{rest}"
        return f"{PREFIX}/{path}"

    def _entry(self, where: str, place: str, item: "PathsEntry") -> Entry:
        status = self.present.get(where)
        if status is None:
            raise BrokenCondaPackage(self.name, f"the file {where}, which it lists, is not in it")
        path = self.root / where
        if stat.S_ISLNK(status.st_mode):
            return Entry(place, "link", 0o777, target=str(path.readlink()))
        if stat.S_ISDIR(status.st_mode):
            return Entry(place, "folder", 0o755)
        if not stat.S_ISREG(status.st_mode):
            raise BrokenCondaPackage(self.name, f"{where} is a device file")
        mode = 0o755 if status.st_mode & 0o111 else 0o644
        placeholder = item.prefix_placeholder
        if placeholder is not None:
            is_text = placeholder.file_mode.text
            content = replace_prefix(
                path.read_bytes(), placeholder.placeholder, f"/{PREFIX}", is_text=is_text, path=where
            )
            return Entry(place, "file", mode, content)
        if place.endswith((".py", ".pyc", ".sh", "METADATA")) and status.st_size <= MAX_HELD_BYTES:
            return Entry(place, "file", mode, path.read_bytes())
        return Entry(place, "file", mode, Member(lambda: path.open("rb"), status.st_size, _mark(path, item)))

    def _commands(self) -> Iterator[Entry]:
        """The commands of a noarch package: conda writes them when it installs."""
        if not self.package.is_noarch_python:
            return
        noarch = self._info("link.json").get("noarch")
        points = noarch.get("entry_points") if isinstance(noarch, dict) else None
        for line in points if isinstance(points, list) else ():
            command, _, target = (part.strip() for part in str(line).partition("="))
            module, _, attribute = target.partition(":")
            words = [*module.strip().split("."), *attribute.strip().split(".")]
            if not all(word.isidentifier() for word in words):
                raise BrokenCondaPackage(self.name, f"its command {str(line)[:80]!r} names no function")
            place = safe_path(f"{self.python.scripts}/{command}", self.name)
            lines = ("import sys", f"from {module.strip()} import {words[len(module.strip().split('.'))]}")
            text = "\n".join((f"#!{self.python.executable}", *lines, f"sys.exit({attribute.strip()}())", ""))
            yield Entry(place, "file", 0o755, text.encode())

    def _with_bytecode(
        self, entries: Mapping[str, Entry], originals: Mapping[str, os.stat_result]
    ) -> Iterator[tuple[str, Entry]]:
        """*entries* with bytecode that needs no check; what is not of its source is left out."""
        tag = f".cpython-{self.python.version.replace('.', '')}."
        for place, entry in entries.items():
            source_place = source_of(place)
            if source_place is None:
                yield place, entry
                continue
            source = entries.get(source_place)
            if source is None or tag not in place or not self.package.needs_python:
                continue
            if isinstance(entry.content, bytes) and isinstance(source.content, bytes):
                content = unchecked(entry.content, source.content, originals[source_place])
                if content is not None:
                    yield place, Entry(place, "file", 0o644, content)


def _mark(path: Path, item: "PathsEntry") -> int:
    """Tells apart two contents of one path; stands where archives have a checksum."""
    if item.sha256 is not None:
        return int.from_bytes(item.sha256[:4], "big")
    with path.open("rb") as file:
        return int.from_bytes(hashlib.file_digest(file, "sha256").digest()[:4], "big")
