"""Copy images from one place to another: find all of it, send what is missing, name it last.

    resolve ──▶ walk: index, nested index, manifest (bounded, verified)
            ──▶ blobs, largest first, several at once; those that are there are not sent
            ──▶ manifests, children first ──▶ referrers ──▶ the one with the tag

Whatever ends a copy early leaves nothing that is named and not whole; doing it
again goes on where it was. Sources: image-spec and distribution-spec 1.1;
oras-go for the idea.
"""

from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial

from sanderling.errors import Invalid, NotFound
from sanderling.oci import (
    MAX_DOCUMENT_BYTES,
    Descriptor,
    Digest,
    DigestMismatch,
    ImageConfig,
    Index,
    Manifest,
    Platform,
    is_tag,
    media_types,
    parse_manifest,
)
from sanderling.transfer.errors import Damaged, LengthMismatch
from sanderling.transfer.places.port import Place
from sanderling.transfer.places.registry import RegistryPlace
from sanderling.transfer.together import all_of

AT_ONCE = 4
MAX_DEPTH = 8
MAX_MANIFESTS = 10_000
MAX_MANIFEST_BYTES = 256 * 1024**2  # of all together: they are kept in memory
_MAX_INDEXES = 100
MAX_TOTAL_BYTES = 16 * 1024**4
# What cosign keeps beside an image where it does not use the referrers API.
_SIGNATURE_SUFFIXES = ("sig", "att", "sbom")


@dataclass(frozen=True, slots=True)
class CopyProgress:
    """How far a copy is. *sent_bytes* crossed over now; *done_bytes* holds what was there already, too."""

    done_bytes: int = 0
    total_bytes: int = 0
    sent_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CopyResult:
    """What a copy did: *digests* maps each tag or name (empty: none) to what it points at now."""

    digests: dict[str, Digest]
    manifests: int
    blobs: int
    total_bytes: int
    sent_blobs: int
    sent_bytes: int
    mounted_blobs: int


@dataclass(slots=True)
class _Plan:
    """All that belongs to what is copied: manifests children first, blobs each once."""

    manifests: dict[Digest, tuple[Descriptor, bytes]] = field(default_factory=dict)
    blobs: dict[Digest, Descriptor] = field(default_factory=dict)
    tops: list[tuple[str, Descriptor]] = field(default_factory=list)


async def copy(
    source: Place,
    target: Place,
    references: Sequence[tuple[str, str]],
    *,
    platform: Platform | None = None,
    referrers: bool = False,
    expected: str | None = None,
    at_once: int = AT_ONCE,
    progress: Callable[[CopyProgress], None] = lambda _: None,
) -> CopyResult:
    """Copy each (reference in *source*, name in *target*) with all that belongs to it.

    An index comes whole, nested ones too, unless *platform* picks one manifest of
    it. *expected* is the digest that the image must have. *referrers* brings what
    refers to it: signatures, SBOMs, attestations.
    Raises Damaged when the source's content is not what its digest says, and what
    the places raise; nothing is named in the target then.
    """
    plan = _Plan()
    walk = _Walk(source, plan, referrers)
    for reference, name in references:
        top = await source.resolve(reference)
        top = await _chosen(source, target, top, platform)
        if expected is not None and top.digest != expected:
            raise Invalid(f"{target.name}@{expected} was asked for, and the image in {source.name} is {top.digest}")
        await walk.visit(top)
        plan.tops.append((name, top))
    sending = _Sending(source, target, plan, progress)
    await sending.blobs(at_once)
    tops = {top.digest for _, top in plan.tops}
    for descriptor, raw in plan.manifests.values():
        if descriptor.digest not in tops:
            await target.push_manifest(descriptor, raw)
    for name, tag_top in walk.beside:
        await target.push_manifest(tag_top, plan.manifests[tag_top.digest][1], name)
    for name, top in plan.tops:
        await target.push_manifest(top, plan.manifests[top.digest][1], name)
    other = await target.finish()
    return CopyResult(
        {name: top.digest for name, top in plan.tops} | other,
        len(plan.manifests),
        len(plan.blobs),
        sum(blob.size for blob in plan.blobs.values()),
        sending.sent_blobs,
        sending.sent_bytes,
        sending.mounted_blobs,
    )


class _Walk:
    """Finds all that belongs to an image, verified and bounded."""

    def __init__(self, source: Place, plan: _Plan, referrers: bool) -> None:
        self._source, self._plan, self._referrers = source, plan, referrers
        self._total_bytes = self._manifest_bytes = 0
        self.beside: list[tuple[str, Descriptor]] = []

    async def visit(self, descriptor: Descriptor, depth: int = 0) -> None:
        """Note *descriptor*'s manifest, after all that it names."""
        plan = self._plan
        if descriptor.digest in plan.manifests:
            return
        if depth > MAX_DEPTH:
            raise Invalid(f"{self._source.name}: {descriptor.digest} is nested deeper than {MAX_DEPTH} indexes")
        raw = await fetch_verified(self._source, descriptor)
        self._manifest_bytes += len(raw)
        if self._manifest_bytes > MAX_MANIFEST_BYTES or len(plan.manifests) >= MAX_MANIFESTS:
            raise Invalid(f"{self._source.name}: the image has more manifests than are copied at once: refused")
        parsed = parse_manifest(raw, descriptor.media_type)
        if isinstance(parsed, Index):
            for child in parsed.manifests:
                await self.visit(child, depth + 1)
        else:
            self._note_blobs(parsed)
        plan.manifests[descriptor.digest] = (descriptor, raw)
        if self._referrers:
            for one in await self._source.referrers(descriptor.digest):
                await self.visit(one, depth + 1)
            await self._visit_signatures(descriptor, depth)

    async def _visit_signatures(self, descriptor: Descriptor, depth: int) -> None:
        for suffix in _SIGNATURE_SUFFIXES if isinstance(self._source, RegistryPlace) else ():
            tag = f"{descriptor.digest.algorithm}-{descriptor.digest.hex}.{suffix}"
            if not is_tag(tag):
                continue
            try:
                found = await self._source.resolve(tag)
            except NotFound:
                continue
            await self.visit(found, depth + 1)
            self.beside.append((tag, found))

    def _note_blobs(self, manifest: Manifest) -> None:
        for blob in (manifest.config, *manifest.layers):
            if is_elsewhere(blob) or blob.digest in self._plan.blobs:
                continue
            self._plan.blobs[blob.digest] = blob
            self._total_bytes += blob.size
        if self._total_bytes > MAX_TOTAL_BYTES:
            raise Invalid(f"{self._source.name}: the image claims {self._total_bytes} bytes: refused")


class _Sending:
    """Sends blobs, several at once, and tells how far it is."""

    def __init__(self, source: Place, target: Place, plan: _Plan, tell: Callable[[CopyProgress], None]) -> None:
        self._source, self._target, self._plan, self._tell = source, target, plan, tell
        self._mount_from = _mount_source(source, target)
        self._have: dict[Digest, int] = {}
        self._total = sum(blob.size for blob in plan.blobs.values())
        self.sent_blobs = self.sent_bytes = self.mounted_blobs = 0

    async def blobs(self, at_once: int) -> None:
        """Send all that the target has not."""
        largest_first = sorted(self._plan.blobs.values(), key=lambda blob: -blob.size)
        await all_of([partial(self._blob, blob) for blob in largest_first], at_once)

    async def _blob(self, blob: Descriptor) -> None:
        if not await self._target.has_blob(blob):
            moved = await self._moved(blob)
            self.sent_bytes += moved
            if moved == 0 and blob.size:
                self.mounted_blobs += 1
            else:
                self.sent_blobs += 1
        self._told(blob.digest, blob.size)

    async def _moved(self, blob: Descriptor) -> int:
        told = partial(self._told, blob.digest)
        opened_at: list[int] = []

        def open_from(start: int) -> AsyncGenerator[bytes, None]:
            opened_at.append(start)
            return self._source.open_blob(blob, start)

        for is_again in (False, True):
            try:
                return await self._target.push_blob(blob, open_from, self._mount_from, told)
            except (DigestMismatch, LengthMismatch) as e:
                # What an earlier run had left may be what is damaged: once more, from the beginning.
                if is_again or opened_at[:1] in ([], [0]):
                    raise Damaged(self._source.name, blob.digest, e.message) from e
        raise AssertionError("the second turn returns or raises")

    def _told(self, digest: Digest, size: int) -> None:
        self._have[digest] = size
        self._tell(CopyProgress(sum(self._have.values()), self._total, self.sent_bytes))


async def fetch_verified(source: Place, descriptor: Descriptor) -> bytes:
    """Return the manifest of *descriptor*. Raises Damaged when it is another, or has another size."""
    try:
        raw = await source.fetch_manifest(descriptor)
        descriptor.digest.verify(raw)
    except DigestMismatch as e:
        raise Damaged(source.name, descriptor.digest, e.message) from e
    if len(raw) != descriptor.size:
        raise Damaged(source.name, descriptor.digest, f"it has {len(raw)} bytes, and {descriptor.size} were promised")
    return raw


async def choose_platform(source: Place, top: Descriptor, platform: Platform) -> Descriptor:
    """Return the manifest for *platform* in *top*, also in nested indexes; *top* itself when it is one that fits."""
    have: set[str] = set()
    seen: set[Digest] = set()
    waiting = [top]
    while waiting:
        one = waiting.pop()
        if one.digest in seen:
            continue
        seen.add(one.digest)
        if len(seen) > _MAX_INDEXES:
            raise Invalid(f"{source.name}: {top.digest} holds more than {_MAX_INDEXES} indexes")
        parsed = parse_manifest(await fetch_verified(source, one), one.media_type)
        if isinstance(parsed, Manifest):
            if one is top:
                await _check_platform(source, parsed, platform)
            return one
        have |= {str(child.platform) for child in parsed.manifests if child.platform and _runs(child)}
        chosen = parsed.find_platform(platform)
        inner = [child for child in parsed.manifests if not child.platform and child.media_type in media_types.INDEXES]
        waiting += [chosen] if chosen is not None else reversed(inner)
    raise Invalid(f"{source.name} has no image for {platform}: it was built for {_listed(have)}")


async def _check_platform(source: Place, manifest: Manifest, platform: Platform) -> None:
    """Raise `Invalid` when the image says that it is for another platform; one that does not say is taken."""
    config = manifest.config
    if config.media_type not in media_types.CONFIGS or config.size > MAX_DOCUMENT_BYTES:
        return
    async with aclosing(source.open_blob(config)) as pieces:
        raw = b"".join([piece async for piece in pieces])
    try:
        config.digest.verify(raw)
    except DigestMismatch as e:
        raise Damaged(source.name, config.digest, e.message) from e
    try:
        built_for = ImageConfig.parse(raw).platform
    except Invalid:
        return
    if not platform.runs(built_for):
        raise Invalid(f"{source.name} has no image for {platform}: it was built for {built_for}")


async def _chosen(source: Place, target: Place, top: Descriptor, platform: Platform | None) -> Descriptor:
    if platform is not None:
        return await choose_platform(source, top, platform)
    if not target.only_platform:
        return top
    parsed = parse_manifest(await fetch_verified(source, top), top.media_type)
    if isinstance(parsed, Manifest):
        return top
    real = [one for one in parsed.manifests if _runs(one)]
    if len(real) == 1:
        return await _chosen(source, target, real[0], None)
    raise Invalid(
        f"{target.name} holds one platform, and the image has {len(real)}: name one with --platform, "
        f"as {_listed({str(one.platform) for one in real if one.platform})}"
    )


def _runs(one: Descriptor) -> bool:
    """Say whether it may be an image: attestations are listed beside images with an unknown platform."""
    return one.platform is None or one.platform.os != "unknown"


def is_elsewhere(blob: Descriptor) -> bool:
    """Say whether a layer is not in registries, but at the addresses that its descriptor names."""
    return "nondistributable" in blob.media_type or "rootfs.foreign" in blob.media_type


def _mount_source(source: Place, target: Place) -> str | None:
    if not isinstance(source, RegistryPlace) or not isinstance(target, RegistryPlace):
        return None
    ours, theirs = source.client, target.client
    return ours.repository if ours.registry == theirs.registry and ours.repository != theirs.repository else None


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)[:20]) or "none that it names"
