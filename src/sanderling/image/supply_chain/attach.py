"""Bring what is told about an image to where the image is, between its manifests and its tag.

So nobody sees a tag whose signature is missing. What is there already is not sent again, nor is what the
same key signed of the same kind: an image that is built again keeps the provenance of its first build, also where
nothing is signed. Signatures and attestations that others left under cosign's tags stay beside ours.
"""

import asyncio
from collections.abc import AsyncGenerator, Collection, Sequence
from functools import partial

from sanderling.errors import Invalid, NotFound
from sanderling.image.assembly import Assembled
from sanderling.image.supply_chain.attachments import KEY_ANNOTATION, Attachment
from sanderling.oci import Descriptor, Digest, Manifest, parse_manifest
from sanderling.signatures import cosign
from sanderling.transfer import all_of
from sanderling.transfer.places import LayoutPlace, Place, RegistryPlace

AT_ONCE = 6
MAX_LAYERS = 1000


async def push_manifests(place: Place, image: Assembled, name: str, attachments: Sequence[Attachment] = ()) -> None:
    """Give *place* the manifests of *image*, whose blobs are there, then *attachments*, and *name* last."""
    top = image.index or image.manifests[0]
    new: list[Digest] = []
    if attachments and isinstance(place, RegistryPlace):
        every = [top.digest, *(manifest.digest for manifest in image.manifests)]
        found = await all_of([partial(place.client.find_manifest, digest) for digest in every], AT_ONCE)
        new = [digest for digest, there in zip(every, found, strict=True) if there is None]
    for manifest in image.manifests if image.index else ():
        await place.push_manifest(manifest.descriptor(), manifest.raw)
    if attachments:
        await place.push_manifest(top.descriptor(), top.raw)
        await attach(place, attachments, new)
    await place.push_manifest(image.descriptor, top.raw, name)


async def attach(place: Place, attachments: Sequence[Attachment], new: Collection[Digest] = ()) -> int:
    """Give *place* all *attachments*; return how many bytes were sent. Their subjects are there already.

    What is in *new* was not there before, so nobody can have signed it there.

    Only a registry gets cosign's tags: a layout lists what refers to an image by itself.
    """
    if isinstance(place, RegistryPlace | LayoutPlace):  # an archive is made anew
        attachments = await _missing(place, attachments, new)
    blobs = {digest: raw for one in attachments for digest, raw in one.blobs.items()}
    sent = await all_of([partial(_keep, place, digest, raw) for digest, raw in blobs.items()], AT_ONCE)
    if isinstance(place, RegistryPlace):
        await all_of([partial(_push, place, one, new) for one in attachments], AT_ONCE)
    else:
        for one in attachments:
            await place.push_manifest(one.manifest.descriptor(), one.manifest.raw)
    return sum(sent)


async def _missing(
    place: RegistryPlace | LayoutPlace, every: Sequence[Attachment], new: Collection[Digest]
) -> list[Attachment]:
    """Return those of *every* that are not there."""
    subjects = {_subject(one) for one in every} - set(new)
    listed = await all_of([partial(place.referrers, subject) for subject in subjects], AT_ONCE)
    there = dict(zip(subjects, listed, strict=True))
    return [one for one in every if not any(_is_it(one.manifest, entry) for entry in there.get(_subject(one), ()))]


def _is_it(manifest: Manifest, entry: Descriptor) -> bool:
    """Say whether a listed referrer is *manifest*, or one of its kind by the same key, or by none."""
    ours, theirs = manifest.annotations, entry.annotations
    kinds = (cosign.BUNDLE_PREDICATE_ANNOTATION, cosign.PREDICATE_ANNOTATION, KEY_ANNOTATION)
    is_of_the_kind = entry.artifact_type == manifest.artifact_type and all(ours.get(k) == theirs.get(k) for k in kinds)
    is_named = KEY_ANNOTATION in ours or cosign.PREDICATE_ANNOTATION in ours
    return entry.digest == manifest.digest or (is_named and is_of_the_kind)


def _subject(one: Attachment) -> Digest:
    assert one.manifest.subject is not None
    return one.manifest.subject.digest


async def _keep(place: Place, digest: Digest, raw: bytes) -> int:
    if isinstance(place, RegistryPlace):
        # Small, and most are new with each build: to ask first would cost more than to send.
        return await place.client.push_small_blob(digest, raw)
    descriptor = Descriptor("application/octet-stream", digest, len(raw))
    if await place.has_blob(descriptor):
        return 0

    async def opened(start: int) -> AsyncGenerator[bytes, None]:
        await asyncio.sleep(0)
        yield raw[start:]

    return await place.push_blob(descriptor, opened, None, lambda _: None)


async def _push(place: RegistryPlace, one: Attachment, new: Collection[Digest]) -> None:
    manifest = one.manifest
    if one.tag is not None and _subject(one) not in new:
        manifest = await _beside_others(place, manifest, one.tag)
    await place.push_manifest(manifest.descriptor(), manifest.raw, one.tag)


async def _beside_others(place: RegistryPlace, ours: Manifest, tag: str) -> Manifest:
    """Return *ours* with the layers that others have under *tag*, theirs first."""
    try:
        found = await place.resolve(tag)
        theirs = parse_manifest(await place.fetch_manifest(found), found.media_type)
    except (NotFound, Invalid):
        return ours
    if not isinstance(theirs, Manifest) or len(theirs.layers) > MAX_LAYERS:
        return ours
    replaced = {_kind(layer) for layer in ours.layers}
    kept = [layer for layer in theirs.layers if _kind(layer) not in replaced]
    if not kept:
        return ours
    return Manifest.build(
        ours.config, [*kept, *ours.layers], ours.annotations, artifact_type=ours.artifact_type, subject=ours.subject
    )


def _kind(layer: Descriptor) -> tuple[str, str, str]:
    """What is replaced by a later one of the same key."""
    notes = layer.annotations
    return layer.media_type, notes.get(KEY_ANNOTATION, ""), notes.get(cosign.PREDICATE_ANNOTATION, "")
