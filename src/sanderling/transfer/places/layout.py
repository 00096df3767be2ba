"""An OCI image layout on disk as a place.

    DIR/oci-layout                {"imageLayoutVersion": "1.0.0"}
    DIR/index.json                an index; names are in its annotations
    DIR/blobs/<algorithm>/<hex>   manifests and blobs, whole and verified
    DIR/.partial/                 what was cut off and is taken up

Several may write at once, also processes: a blob appears when it is whole, and
index.json is replaced under a lock on the folder. Symbolic links to blobs are
followed (content is verified); what is no file is not there. When a name moves on, what
is about the image that had it leaves the list too, unless that has another name.
Source: image-spec 1.1, "OCI Image Layout".
"""

import asyncio
import fcntl
import os
import stat
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import aclosing, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from sanderling.durable import write_durably
from sanderling.errors import Invalid, NotFound, Unavailable
from sanderling.oci import (
    MAX_DOCUMENT_BYTES,
    Descriptor,
    Digest,
    Index,
    Manifest,
    canonical_json,
    media_types,
    parse_document,
    parse_manifest,
)
from sanderling.transfer.errors import LengthMismatch
from sanderling.transfer.files import read_file
from sanderling.transfer.places.incoming import Incoming
from sanderling.transfer.places.port import OpenFrom, Told

REF_NAME = "org.opencontainers.image.ref.name"
CONTAINERD_NAME = "io.containerd.image.name"


class LayoutPlace:
    """A folder that is an OCI layout, or is to become one."""

    only_platform = False

    def __init__(self, folder: Path, name: str = "") -> None:
        self.folder, self.name = folder, name or f"oci:{folder}"

    async def resolve(self, reference: str) -> Descriptor:
        """Return the manifest of this name or digest; the only one when *reference* is empty."""
        return await asyncio.to_thread(lambda: find_named(self._index(), reference, self.name))

    async def fetch_manifest(self, descriptor: Descriptor) -> bytes:
        """Return the manifest, verified."""
        raw = await asyncio.to_thread(self._read, self._blob(descriptor.digest), descriptor.digest)
        descriptor.digest.verify(raw)
        return raw

    async def open_blob(self, descriptor: Descriptor, start: int = 0) -> AsyncGenerator[bytes, None]:
        """Yield the blob's file from *start*."""
        path = self._blob(descriptor.digest)
        size = await asyncio.to_thread(_size_of, path)
        if size is None:
            raise NotFound(f"{self.name} lacks the content {descriptor.digest}")
        if size != descriptor.size:
            raise LengthMismatch(what=descriptor.digest, expected=descriptor.size, actual=size)
        async with aclosing(read_file(path, start)) as pieces:
            async for piece in pieces:
                yield piece

    async def tags(self) -> list[str]:
        """Return the names in the index."""
        return await asyncio.to_thread(lambda: names_of(self._index()))

    async def referrers(self, digest: Digest) -> list[Descriptor]:
        """Look through the manifests of the index for those with this subject."""
        return await asyncio.to_thread(self._referrers, digest)

    async def has_blob(self, descriptor: Descriptor) -> bool:
        """Say whether a file of this digest and size is here."""
        return await asyncio.to_thread(_size_of, self._blob(descriptor.digest)) == descriptor.size

    async def push_blob(self, descriptor: Descriptor, open_from: OpenFrom, mount_from: str | None, told: Told) -> int:
        """Bring the blob in; what a kill left of it is taken up."""
        await asyncio.to_thread(self._ensure)
        incoming = Incoming(descriptor, self.folder / ".partial", self._blob(descriptor.digest))
        return await incoming.receive(open_from, told)

    async def push_manifest(self, descriptor: Descriptor, raw: bytes, tag: str | None = None) -> None:
        """Keep the manifest; one that has a name, stands for itself, or refers to another is in the index too."""
        descriptor.digest.verify(raw)
        parsed = parse_manifest(raw, descriptor.media_type)
        if parsed.subject is not None:
            descriptor = _as_referrer(descriptor, parsed)
        is_listed = tag is not None or parsed.subject is not None
        await asyncio.to_thread(self._keep, descriptor, raw, tag or "", is_listed)

    async def finish(self) -> dict[str, Digest]:
        """Tidy up: the folder for what was cut off goes when it is empty."""
        with suppress(OSError):
            (self.folder / ".partial").rmdir()
        return {}

    async def aclose(self) -> None:
        """Nothing is held."""

    def _blob(self, digest: Digest) -> Path:
        return self.folder / "blobs" / digest.algorithm / digest.hex

    def _ensure(self) -> None:
        """Make the folder a layout; refuse one that is something else."""
        marker = self.folder / "oci-layout"
        with _medium(self.folder):
            if marker.exists():
                check_marker(self._read(marker, "oci-layout"), self.name)
                return
            self.folder.mkdir(parents=True, exist_ok=True)
            with _locked(self.folder):  # another may be making it at this moment
                if not marker.exists():
                    if any(not one.name.startswith((".partial", ".oci-layout.")) for one in self.folder.iterdir()):
                        raise Invalid(f"{self.folder} is there and is no OCI layout; name another folder")
                    write_durably(marker, canonical_json({"imageLayoutVersion": "1.0.0"}), 0o644)

    def _index(self) -> Index:
        marker = self.folder / "oci-layout"
        if not marker.is_file():
            raise NotFound(f"{self.folder} is no OCI layout: it has no file oci-layout")
        check_marker(self._read(marker, "oci-layout"), self.name)
        if not (self.folder / "index.json").exists():
            return Index.build([])  # made, and nothing was named yet
        return Index.parse(self._read(self.folder / "index.json", "index.json"))

    def _read(self, path: Path, what: str) -> bytes:
        try:
            # O_NONBLOCK: a pipe in the place of a file must not hold us up.
            with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:
                if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                    raise Invalid(f"{self.name}: {what} is no file")
                raw = file.read(MAX_DOCUMENT_BYTES + 1)
        except FileNotFoundError:
            raise NotFound(f"{self.name} lacks the manifest {what}") from None
        except OSError as e:
            raise Unavailable(f"{path} cannot be read: {e.strerror or e}") from e
        if len(raw) > MAX_DOCUMENT_BYTES:
            raise Invalid(f"{self.name}: {what} is larger than {MAX_DOCUMENT_BYTES} bytes")
        return raw

    def _referrers(self, digest: Digest) -> list[Descriptor]:
        return referrers_in(self._index(), digest, lambda one: self._read(self._blob(one.digest), one.digest))

    def _keep(self, descriptor: Descriptor, raw: bytes, tag: str, is_listed: bool) -> None:
        self._ensure()
        with _medium(self.folder):
            path = self._blob(descriptor.digest)
            if _size_of(path) != len(raw):
                write_durably(path, raw, 0o644)
        if is_listed:
            self._list(descriptor, tag)

    def _list(self, descriptor: Descriptor, tag: str) -> None:
        """Put the descriptor into index.json; the name moves away from what had it."""
        named = {**descriptor.annotations, REF_NAME: tag} if tag else dict(descriptor.annotations)
        entry = replace(descriptor, annotations=named).to_json()
        with _medium(self.folder), _locked(self.folder):
            path = self.folder / "index.json"
            if path.exists():
                document = parse_document(self._read(path, "index.json"), "index.json")
            else:
                document = {"schemaVersion": 2, "mediaType": media_types.OCI_INDEX, "manifests": []}
            listed = [one.get("digest") for one in document.get("manifests") or [] if isinstance(one, dict)]
            if not tag and descriptor.digest in listed:
                return
            before = [one for one in document.get("manifests") or [] if isinstance(one, dict)]
            others = [one for one in before if not _is_replaced(one, descriptor.digest, tag)]
            replaced = {str(one.get("digest")) for one in before if _is_replaced(one, descriptor.digest, tag)}
            others = self._without_referrers(others, replaced - {descriptor.digest}, descriptor)
            # Images come before what is about them: many readers look at the first alone.
            document["manifests"] = sorted([*others, entry], key=_is_unnamed)
            raw = canonical_json(document)
            Index.parse(raw)  # what we write can be read
            write_durably(path, raw, 0o644)

    def _without_referrers(
        self, entries: list[dict[str, Any]], gone: set[str], kept: Descriptor
    ) -> list[dict[str, Any]]:
        """Return *entries* without those that are about images which are *gone*: nobody could name their subject."""
        if not gone:
            return entries
        subjects = {str(one.get("digest")): self._subject(one) for one in entries}
        images = {digest for digest, subject in subjects.items() if subject is None} | {str(kept.digest)}
        gone = self._with_parts(gone) - self._with_parts(images)
        while about := {digest for digest, subject in subjects.items() if subject in gone} - gone:
            gone |= about
        return [one for one in entries if not (_is_unnamed(one) and str(one.get("digest")) in gone)]

    def _with_parts(self, digests: set[str]) -> set[str]:
        """Return *digests* and, of indexes, those of all manifests in them."""
        found, new = set[str](), digests
        while new:
            found |= new
            listed = set[str]()
            for digest in new:
                with suppress(NotFound, Invalid):
                    parsed = parse_manifest(self._read(self._blob(Digest.parse(digest)), digest))
                    listed |= {str(one.digest) for one in parsed.manifests} if isinstance(parsed, Index) else set()
            new = listed - found
        return found

    def _subject(self, entry: dict[str, Any]) -> str | None:
        with suppress(NotFound, Invalid):
            digest = Digest.parse(str(entry.get("digest")))
            subject = parse_manifest(self._read(self._blob(digest), digest)).subject
            return str(subject.digest) if subject is not None else None
        return None


def find_named(index: Index, reference: str, place: str) -> Descriptor:
    """Return the entry of a layout's index that *reference* (name or digest) means."""
    if not reference:
        distinct = {one.digest: one for one in index.manifests if not one.artifact_type}
        if len(distinct) == 1:
            return next(iter(distinct.values()))
        if not distinct:
            raise NotFound(f"{place} holds no image")
        raise Invalid(f"{place} holds {len(distinct)} images; name one of them: {_some(names_of(index))}")
    for one in index.manifests:
        if reference == one.digest or reference == one.annotations.get(REF_NAME):
            return one
    for one in index.manifests:
        if reference == one.annotations.get(CONTAINERD_NAME):
            return one
    raise NotFound(f"{place} holds no image {reference!r}; it has {_some(names_of(index))}")


def names_of(index: Index) -> list[str]:
    """Return the names in a layout's index, sorted."""
    found = (one.annotations.get(REF_NAME) or one.annotations.get(CONTAINERD_NAME) for one in index.manifests)
    return sorted({name for name in found if name})


def referrers_in(index: Index, digest: Digest, read: Callable[[Descriptor], bytes]) -> list[Descriptor]:
    """Return the entries of a layout's index whose subject is *digest*."""
    found: dict[Digest, Descriptor] = {}
    for one in index.manifests:
        if one.digest == digest or one.digest in found:
            continue
        try:
            parsed = parse_manifest(read(one), one.media_type)
        except (NotFound, Invalid):
            continue
        if parsed.subject is not None and parsed.subject.digest == digest:
            found[one.digest] = one
    return list(found.values())


def check_marker(raw: bytes, place: str) -> None:
    """Refuse a layout of a version that we do not know."""
    version = parse_document(raw, "oci-layout").get("imageLayoutVersion")
    if not isinstance(version, str) or not version.startswith("1."):
        raise Invalid(f"{place} is an OCI layout of version {str(version)[:20]!r}; 1.0.0 is known here")


def _some(names: list[str]) -> str:
    return (", ".join(names[:10]) + (" ..." if len(names) > 10 else "")) or "none with a name"


def _as_referrer(descriptor: Descriptor, parsed: Manifest | Index) -> Descriptor:
    """Say in the descriptor what the manifest is, as registries list referrers; names are not for it to give."""
    config = parsed.config.media_type if isinstance(parsed, Manifest) else ""
    notes = {key: text for key, text in parsed.annotations.items() if key not in (REF_NAME, CONTAINERD_NAME)}
    return replace(
        descriptor,
        artifact_type=descriptor.artifact_type or parsed.artifact_type or config,
        annotations={**notes, **descriptor.annotations},
    )


def _is_unnamed(entry: Any) -> bool:
    annotations = entry.get("annotations") if isinstance(entry, dict) else None
    return not isinstance(annotations, dict) or not (annotations.get(REF_NAME) or annotations.get(CONTAINERD_NAME))


def _is_replaced(entry: Any, digest: Digest, tag: str) -> bool:
    if not isinstance(entry, dict):
        return False
    annotations = entry.get("annotations")
    name = annotations.get(REF_NAME) if isinstance(annotations, dict) else None
    return bool(tag) and (name == tag or (name is None and entry.get("digest") == digest))


def _size_of(path: Path) -> int | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


@contextmanager
def _medium(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as e:
        raise Unavailable(f"{e.filename or folder} cannot be written: {e.strerror or e}") from e


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock: one writer of index.json at a time, in whatever process."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
