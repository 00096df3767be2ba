"""Unpacks one layer into a folder of its own, verified, without leaving it.

Rules:
- every name is taken apart: `..`, NUL and a path through a link are refused;
- hard links must name a regular file of the same layer, inside it;
- symbolic links are kept as text: nothing on the host ever follows them;
- devices and pipes are never made; set-user-id bits are dropped;
- what the owner may read or execute, everyone may: inside the sandbox all files
  belong to nobody in particular, and the folders above are closed to the host;
- the uncompressed bytes must have the diffID that the image config promises;
- bytes and entries are bounded, so a bomb fills no disk.

Whiteouts (image-spec 1.1, "Whiteouts") are taken out of the tree and listed
beside it; `rootfs.py` applies them.
"""

import gzip
import io
import json
import os
import shutil
import stat
import tempfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from backports.zstd import DecompressionParameter, ZstdError, ZstdFile

from sanderling.errors import Invalid, Unavailable
from sanderling.oci import Digest, DigestMismatch, Hasher, media_types
from sanderling.sandbox.tarstream import Entry, Kind, Source, TarStream

_BROKEN: tuple[type[Exception], ...] = (zlib.error, EOFError, gzip.BadGzipFile, ZstdError)
_open_gzip: Callable[..., gzip.GzipFile] = gzip.GzipFile
with suppress(ImportError):  # several times faster; the builder brings it, a device may not have it
    from isal import igzip, isal_zlib

    _isal_error: Any = isal_zlib.error  # its types call the class an instance
    _BROKEN = (*_BROKEN, _isal_error)
    _open_gzip = igzip.IGzipFile

MAX_UNPACKED_BYTES = 16 * 1024**3
MAX_ENTRIES = 1_000_000
_MAX_NAME_BYTES = 4096
_BUFFER_BYTES = 256 * 1024
_ZSTD_WINDOW_LOG = 27  # what is unpacked may ask for 128 MiB of memory, as with zstd itself
_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"


class _Verified:
    """A stream that counts and hashes what is read from it."""

    def __init__(self, source: Source, limit: int) -> None:
        self._source = source
        self._hasher = Hasher()
        self._limit = limit

    def read(self, size: int, /) -> bytes:
        try:
            piece: bytes = self._source.read(size)
        except _BROKEN as e:
            raise Invalid(f"the layer is not what its type says: {e}") from e
        self._hasher.update(piece)
        if self._hasher.size > self._limit:
            raise Invalid(f"the layer unpacks to more than {self._limit} bytes, which is the limit")
        return piece

    def digest(self) -> Digest:
        """Return the digest of all bytes, reading what is left."""
        while self.read(1024 * 1024):
            pass
        return self._hasher.digest()


class _LayerFolder:
    """Makes the entries of one layer below *root*, a folder that nobody else writes to.

    Paths are texts here: a layer has thousands of files, and `Path` would cost more than the disk.
    """

    def __init__(self, root: Path, max_entries: int) -> None:
        self.root = str(root)
        self.whiteouts: list[str] = []
        self.opaque: list[str] = []
        self._left = max_entries
        self._folders: dict[tuple[str, ...], str] = {(): self.root}  # true folders, no link on the way
        root.mkdir()

    def add(self, entry: Entry, stream: TarStream) -> None:
        """Make *entry*; raise `Invalid` when it would leave the folder."""
        self._left -= 1
        if self._left < 0:
            raise Invalid("the layer has more files than the limit allows")
        parts = _parts(entry.name)
        if not parts or self._is_whiteout(parts) or entry.kind is Kind.SPECIAL:
            return
        path = f"{self._parent(parts[:-1])}/{parts[-1]}"
        match entry.kind:
            case Kind.FOLDER:
                self._folder(path, entry)
            case Kind.SYMLINK:
                self._clear(path)
                _symlink(entry.link, path)
            case Kind.HARDLINK:
                target = self._link_target(entry)
                if target != path:
                    self._clear(path)
                    os.link(target, path, follow_symlinks=False)
            case _:
                self._clear(path)
                _write(path, entry, stream)

    def _is_whiteout(self, parts: tuple[str, ...]) -> bool:
        if parts[-1] == _OPAQUE:
            self.opaque.append("/".join(parts[:-1]))
            return True
        if not parts[-1].startswith(_WHITEOUT):
            return False
        hidden = parts[-1].removeprefix(_WHITEOUT)
        if hidden in ("", ".", ".."):
            raise Invalid("the layer has a whiteout that names nothing")
        self.whiteouts.append("/".join((*parts[:-1], hidden)))
        return True

    def _parent(self, parts: tuple[str, ...]) -> str:
        known = self._folders.get(parts)
        if known is not None:
            return known
        path = f"{self._parent(parts[:-1])}/{parts[-1]}"
        try:
            os.mkdir(path, 0o755)  # noqa: PTH102
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise Invalid(f"the layer puts a file below {'/'.join(parts)!r}, which is no folder") from None
        self._folders[parts] = path
        return path

    def _folder(self, path: str, entry: Entry) -> None:
        mode = (entry.mode & 0o777) | 0o755
        try:
            os.mkdir(path, mode)  # noqa: PTH102
        except FileExistsError:
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                self._clear(path)
                os.mkdir(path, mode)  # noqa: PTH102
        os.chmod(path, mode)  # noqa: PTH101  (the umask does not count)

    def _clear(self, path: str) -> None:
        """Make sure that nothing is at *path*; it is never followed."""
        try:
            is_folder = stat.S_ISDIR(os.lstat(path).st_mode)
        except FileNotFoundError:
            return
        if is_folder:
            shutil.rmtree(path)
            self._folders = {(): self.root}
        else:
            os.unlink(path)  # noqa: PTH108

    def _link_target(self, entry: Entry) -> str:
        path, mode = self.root, stat.S_IFDIR
        for part in _parts(entry.link):
            path = f"{path}/{part}"
            try:
                mode = os.lstat(path).st_mode
            except (FileNotFoundError, NotADirectoryError):
                mode = 0
            if stat.S_ISLNK(mode):
                raise Invalid(f"the layer's hard link {entry.name[:200]!r} goes through a symbolic link")
        if not stat.S_ISREG(mode):
            raise Invalid(f"the layer's hard link {entry.name[:200]!r} names no file of this layer")
        return path


def _parts(name: str) -> tuple[str, ...]:
    raw = os.fsencode(name)
    if b"\0" in raw or len(raw) > _MAX_NAME_BYTES:
        raise Invalid("the layer has a name that no file can have")
    parts = tuple(part for part in name.split("/") if part not in ("", "."))
    if ".." in parts:
        raise Invalid(f"the layer's entry {name[:200]!r} leaves the image")
    if len(raw) > 255 and any(len(os.fsencode(part)) > 255 for part in parts):
        raise Invalid("the layer has a name that no file can have")
    return parts


def _symlink(target: str, path: str) -> None:
    if not target or "\0" in target or len(os.fsencode(target)) >= _MAX_NAME_BYTES:
        raise Invalid("the layer has a symbolic link to nothing")
    os.symlink(target, path)  # noqa: PTH211


def _write(path: str, entry: Entry, stream: TarStream) -> None:
    mode = entry.mode & 0o777 | 0o444
    if mode & 0o111:
        mode |= 0o111
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        for piece in stream.content():
            left = memoryview(piece)
            while left:
                left = left[os.write(fd, left) :]
        os.fchmod(fd, mode)
        os.utime(fd, (entry.mtime, entry.mtime))
    finally:
        os.close(fd)


@contextmanager
def _opened(blob: Path, media_type: str) -> Iterator[Source]:
    compression = media_types.LAYER_COMPRESSION.get(media_type, "unknown")
    with blob.open("rb") as raw:
        if compression is None:
            yield raw
        elif compression == "zstd":
            with ZstdFile(raw, options={DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG}) as unzipped:
                yield unzipped
        elif compression != "gzip":
            raise Invalid(f"a layer is {media_type!r}: only gzip, zstd and plain tar are unpacked here")
        else:
            with _open_gzip(fileobj=raw, mode="rb") as unzipped:
                yield io.BufferedReader(unzipped, _BUFFER_BYTES)


def unpack_layer(
    blob: Path,
    media_type: str,
    diff_id: Digest,
    target: Path,
    *,
    max_bytes: int = MAX_UNPACKED_BYTES,
    max_entries: int = MAX_ENTRIES,
) -> None:
    """Unpack *blob* to *target* (`fs/` and `layer.json`), or leave nothing there.

    Raises `Invalid` for a hostile or broken layer, `DigestMismatch` when the
    content is not what *diff_id* promises, `Unavailable` when the disk fails.
    """
    if diff_id.algorithm != "sha256":
        raise Invalid(f"the image's diffID {diff_id} is not sha256")
    aside = Path(tempfile.mkdtemp(prefix=".unpack-", dir=target.parent))
    try:
        with _opened(blob, media_type) as source:
            verified = _Verified(source, max_bytes)
            stream = TarStream(verified)
            folder = _LayerFolder(aside / "fs", max_entries)
            for entry in stream:
                folder.add(entry, stream)
            actual = verified.digest()
        if actual != diff_id:
            raise DigestMismatch(expected=diff_id, actual=actual)
        listed = {"whiteouts": folder.whiteouts, "opaque": folder.opaque}
        (aside / "layer.json").write_text(json.dumps(listed))
        aside.rename(target)
    except OSError as e:
        raise Unavailable(f"a layer cannot be unpacked: {e.strerror or e}") from e
    finally:
        shutil.rmtree(aside, ignore_errors=True)
