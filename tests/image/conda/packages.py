"""Real conda packages and channels, made by hand: what a channel's builder would have put there."""

import asyncio
import hashlib
import io
import json
import os
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# As long as conda-build makes them, so that binaries have room for any prefix.
PLACEHOLDER = "/home/builder/work/_h_env_" + "placehold_" * 22
DROPPED = frozenset(("test", "tests", "idlelib", "lib2to3", "site-packages", "ensurepip", "turtledemo", "tkinter"))
DROPPED |= {
    "__pycache__",
    "distutils",
    "pydoc_data",
    "unittest",
    "xmlrpc",
    "wsgiref",
    "curses",
    "msilib",
    "venv",
    "dbm",
}


@dataclass(frozen=True)
class File:
    """One file of a package: *content*, or a link to *target*; *mode* "text" or "binary" when it names the prefix."""

    content: bytes = b""
    target: str = ""
    executable: bool = False
    prefix: str = ""  # "text" or "binary": has the placeholder in it
    placeholder: str = PLACEHOLDER


@dataclass(frozen=True)
class CondaPackage:
    """A package to be written below a channel's folder."""

    name: str
    version: str = "1.0"
    build: str = "0"
    subdir: str = "linux-64"
    files: dict[str, File | bytes] = field(default_factory=dict)
    depends: tuple[str, ...] = ()
    noarch: str | None = None
    commands: tuple[str, ...] = ()
    ending: str = ".conda"
    mtime: int = 1_700_000_000

    @property
    def file_name(self) -> str:
        return f"{self.name}-{self.version}-{self.build}{self.ending}"

    def write(self, channel: Path) -> Path:
        folder = channel / ("noarch" if self.noarch else self.subdir)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / self.file_name
        files = {place: File(f) if isinstance(f, bytes) else f for place, f in self.files.items()}
        info = self._info(files)
        if self.ending == ".tar.bz2":
            with tarfile.open(path, "w:bz2") as archive:
                for place, file in (info | files).items():
                    add(archive, place, file, self.mtime)
            return path
        stem = self.file_name.removesuffix(".conda")
        with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as outer:
            outer.writestr("metadata.json", '{"conda_pkg_format_version": 2}')
            for kind, members in (("pkg", files), ("info", info)):
                buffer = io.BytesIO()
                with tarfile.open(fileobj=buffer, mode="w") as archive:
                    for place, file in members.items():
                        add(archive, place, file, self.mtime)
                outer.writestr(f"{kind}-{stem}.tar.zst", zstd(buffer.getvalue()))
        return path

    def _info(self, files: dict[str, File]) -> dict[str, File]:
        index: dict[str, Any] = {
            "name": self.name,
            "version": self.version,
            "build": self.build,
            "build_number": 0,
            "depends": list(self.depends),
            "subdir": "noarch" if self.noarch else self.subdir,
            "timestamp": 1_700_000_000_000,
        }
        if self.noarch:
            index["noarch"] = self.noarch
        found = {"info/index.json": File(json.dumps(index).encode())}
        found["info/paths.json"] = File(
            json.dumps({"paths_version": 1, "paths": [_path(p, f) for p, f in files.items()]}).encode()
        )
        if self.noarch == "python":
            link = {"package_metadata_version": 1, "noarch": {"type": "python", "entry_points": list(self.commands)}}
            found["info/link.json"] = File(json.dumps(link).encode())
        return found


def _path(place: str, file: File) -> dict[str, Any]:
    entry: dict[str, Any] = {"_path": place, "path_type": "softlink" if file.target else "hardlink"}
    entry |= {"sha256": hashlib.sha256(file.content).hexdigest(), "size_in_bytes": len(file.content)}
    if file.prefix:
        entry |= {"prefix_placeholder": file.placeholder, "file_mode": file.prefix}
    return entry


def add(archive: tarfile.TarFile, place: str, file: File, mtime: int) -> None:
    info = tarfile.TarInfo(place)
    info.mtime, info.mode = mtime, 0o775 if file.executable else 0o664
    if file.target:
        info.type, info.linkname = tarfile.SYMTYPE, file.target
        archive.addfile(info)
        return
    info.size = len(file.content)
    archive.addfile(info, io.BytesIO(file.content))


def zstd(data: bytes) -> bytes:
    """*data* as a zstd frame of blocks that are not compressed (RFC 8878): no library is needed."""
    frame = [b"\x28\xb5\x2f\xfd\x00\x58"]  # a window of 2 MiB, the size is not said
    pieces = [data[start : start + (128 << 10)] for start in range(0, len(data), 128 << 10)] or [b""]
    for number, piece in enumerate(pieces):
        frame += [(len(piece) << 3 | (number == len(pieces) - 1)).to_bytes(3, "little"), piece]
    return b"".join(frame)


def index(channel: Path) -> str:
    """Write the channel's indexes; return its ``file:`` URL."""
    from rattler.index import index_fs

    (channel / "noarch").mkdir(parents=True, exist_ok=True)
    asyncio.run(index_fs(channel, write_zst=False, write_shards=False))
    return channel.as_uri()


def make_channel(channel: Path, *packages: CondaPackage) -> str:
    """Write *packages* into the folder *channel* and index it; return its ``file:`` URL."""
    for package in packages:
        package.write(channel)
    return index(channel)


def fake_python(version: str = "3.11.7", subdir: str = "linux-64") -> CondaPackage:
    """A package that is called python and has none in it: enough to solve with."""
    return CondaPackage("python", version, "0_cpython", subdir, {"bin/python3": File(target="python3.11")})


def real_python(subdir: str = "linux-64") -> CondaPackage:
    """The Python that runs here, as a conda package: its own prefix is the placeholder, in texts and in the program.

    The program finds its library by a path in it. That path, with "lib", is what becomes the prefix, so
    the library is linked to from there: after it, linkers let other texts share the end of the prefix.
    """
    stdlib = Path(sysconfig.get_path("stdlib"))
    here = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    prefix = sys.base_prefix

    def file(path: Path) -> File:
        content, executable = path.read_bytes(), os.access(path, os.X_OK)
        is_text = b"\0" not in content and prefix.encode() in content
        return File(content, "", executable, "text" if is_text else "", prefix)

    program = Path(prefix, "bin", here).read_bytes()
    holds_library = "binary" if f"{prefix}/lib".encode() in program else ""
    where = f"#!{prefix}/bin/python3\nimport sys; print(sys.prefix)\n"
    files: dict[str, File | bytes] = {
        f"bin/{here}": File(program, "", True, holds_library, f"{prefix}/lib"),
        "bin/python3": File(target=here),
        "bin/python": File(target="python3"),
        "bin/where-python": File(where.encode(), "", True, "text", prefix),
    }
    for path in sorted(stdlib.rglob("*")):
        place = path.relative_to(stdlib)
        if (
            path.is_file()
            and "_test" not in path.name
            and not DROPPED & set(place.parts)
            and not place.parts[0].startswith("config-")
        ):
            files[f"lib/{here}/{place.as_posix()}"] = file(path)
    for path in sorted(Path(prefix, "lib").glob("libpython*.so*")):
        files[f"lib/{path.name}"] = File(target=str(path.readlink())) if path.is_symlink() else file(path)
        files[path.name] = File(target=f"lib/{path.name}")
    version = ".".join(str(part) for part in sys.version_info[:3])
    return CondaPackage("python", version, "0_cpython", subdir, files)
