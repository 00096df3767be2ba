"""Content that the device holds: blobs by digest, and which manifest a reference means.

    content/sha256/<hex>     whole and verified, or not there
    content/partial/<hex>    what has come so far; a later pull goes on from its end
    tags.json                {"registry/repo:tag": "sha256:..."} of this device's platform

A reference that is held needs no network: that is how a device starts offline.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from sanderling.durable import sync_folder
from sanderling.edge.disk import find_json, private_folder, write_durably, write_json
from sanderling.edge.engines import HeldImage
from sanderling.errors import Invalid, NotFound
from sanderling.oci import Digest, DigestMismatch, Hasher, ImageConfig, Manifest

_PIECE = 1024 * 1024


class ContentStore:
    """The blobs below one folder. Synchronous: call it from a thread."""

    def __init__(self, root: Path) -> None:
        """Use *root*, the runtime's data folder."""
        self._blobs = private_folder(root / "content" / "sha256")
        self._partial = private_folder(root / "content" / "partial")
        self._tags_file = root / "tags.json"
        tags = find_json(self._tags_file)
        self._tags: dict[str, str] = tags if isinstance(tags, dict) else {}

    def has(self, digest: Digest) -> bool:
        """Say whether the blob is here."""
        return self._path(digest).is_file()

    def path(self, digest: Digest) -> Path:
        """Return where the blob is; raise `NotFound`."""
        path = self._path(digest)
        if not path.is_file():
            raise NotFound(f"{digest} is not on this device")
        return path

    def put(self, content: bytes, digest: Digest) -> None:
        """Keep a small blob; raise `DigestMismatch`."""
        digest.verify(content)
        if not self.has(digest):
            write_durably(self._path(digest), content)

    def partial(self, digest: Digest) -> "Partial":
        """Go on with what has come of a blob so far."""
        return Partial(self._partial / digest.hex, self._path(digest), digest)

    def remember(self, reference: str, manifest: Digest) -> None:
        """Note, durably, which manifest *reference* means; all its blobs are here."""
        if self._tags.get(reference) != manifest:
            self._tags = {**self._tags, reference: str(manifest)}
            write_json(self._tags_file, self._tags)

    def find_image(self, reference: str) -> HeldImage | None:
        """Return the image that *reference* means when all of it is here."""
        digest = self._tags.get(reference)
        if digest is None:
            return None
        try:
            manifest = Manifest.parse(self.path(Digest.parse(digest)).read_bytes())
            config = ImageConfig.parse(self.path(manifest.config.digest).read_bytes())
        except (NotFound, Invalid, OSError):
            return None
        if not all(self.has(layer.digest) for layer in manifest.layers):
            return None
        return HeldImage(reference, manifest, config, self.path)

    def keep_only(self, references: Iterable[str]) -> set[Digest]:
        """Forget other references and their blobs; return the config digests that stay.

        Partial content of other images goes too: call this when every wanted image is here.
        """
        images = [image for reference in set(references) if (image := self.find_image(reference)) is not None]
        kept = {image.reference: str(image.digest) for image in images}
        if kept != self._tags:
            self._tags = kept
            write_json(self._tags_file, kept)
        names: set[str] = set()
        for image in images:
            names |= {image.digest.hex, image.config.digest.hex, *(layer.digest.hex for layer in image.manifest.layers)}
        for path in self._blobs.iterdir():
            if path.name not in names:
                path.unlink(missing_ok=True)
        for path in self._partial.iterdir():
            path.unlink(missing_ok=True)
        return {image.config.digest for image in images}

    def _path(self, digest: Digest) -> Path:
        if digest.algorithm != "sha256":
            raise Invalid(f"{digest} is not sha256: this device keeps no other content")
        return self._blobs / digest.hex


class Partial:
    """A blob on its way in. `open`, then `write` in order, then `finish`; `close` in any case."""

    def __init__(self, path: Path, target: Path, digest: Digest) -> None:
        self._path = path
        self._target = target
        self._digest = digest
        self._hasher = Hasher()
        self._file: BinaryIO | None = None

    @property
    def size_bytes(self) -> int:
        """How much has come."""
        return self._hasher.size

    def open(self) -> int:
        """Read what is there into the hash and return its size."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        self._file = os.fdopen(fd, "r+b")
        while piece := self._file.read(_PIECE):
            self._hasher.update(piece)
        return self._hasher.size

    def write(self, piece: bytes) -> None:
        """Append *piece*."""
        assert self._file is not None
        self._file.write(piece)
        self._hasher.update(piece)

    def restart(self) -> None:
        """Begin anew: the other side sends from the start."""
        assert self._file is not None
        self._file.seek(0)
        self._file.truncate()
        self._hasher = Hasher()

    def finish(self) -> None:
        """Verify, make durable, and give the blob its name; raise `DigestMismatch` and forget it otherwise."""
        assert self._file is not None
        actual = self._hasher.digest()
        if actual != self._digest:
            self._path.unlink(missing_ok=True)
            raise DigestMismatch(expected=self._digest, actual=actual)
        self._file.flush()
        os.fsync(self._file.fileno())
        self._path.rename(self._target)
        sync_folder(self._target.parent)

    def close(self) -> None:
        """Let go; what has come stays for the next pull."""
        if self._file is not None:
            with suppress(OSError):
                self._file.close()
            self._file = None
