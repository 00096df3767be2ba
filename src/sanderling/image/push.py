"""Push an image: ask what is there, mount what another repository has, send the rest, then name it.

The tag goes last, so that nobody sees an image whose blobs are missing, or what is told about it
(`sanderling.image.supply_chain`): manifests by digest, then what refers to them, then the tag.
Each blob is verified while it is sent; a damaged one is never completed.
Source: distribution-spec 1.1, "Push".
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from functools import partial

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid
from sanderling.image.assembly import Assembled
from sanderling.image.events import Log, Progress
from sanderling.image.figures import size_text
from sanderling.image.layout import DamagedLayer, image_blobs
from sanderling.image.push_target import PushTarget
from sanderling.image.supply_chain.attach import push_manifests
from sanderling.image.supply_chain.attachments import Attachment
from sanderling.oci import Digest, DigestMismatch
from sanderling.transfer import Credential, LengthMismatch, Patience, RegistryClient, all_of, read_file
from sanderling.transfer.places import RegistryPlace

AT_ONCE = 4


def push(
    image: Assembled,
    blobs: FileBlobs,
    target: PushTarget,
    log: Log,
    mount_from: Mapping[Digest, str] | None = None,
    patience: Patience | None = None,
    attachments: Sequence[Attachment] = (),
) -> int:
    """Push *image*, whose blobs are in *blobs*, and give it the target's tag; return the bytes that were sent.

    *attachments* are about it, and are there before the tag is.
    *mount_from* names for a blob another repository of the registry that may
    have it. Raises what `sanderling.transfer` does, or DamagedLayer. Not for use on an event loop.
    """
    return asyncio.run(_push(image, blobs, target, log, mount_from or {}, patience, attachments))


async def _push(
    image: Assembled,
    blobs: FileBlobs,
    target: PushTarget,
    log: Log,
    mount_from: Mapping[Digest, str],
    patience: Patience | None,
    attachments: Sequence[Attachment],
) -> int:
    wanted = image_blobs(image)
    async with _client(target, patience) as registry:
        present = await all_of([partial(registry.has_blob, digest) for digest in wanted], AT_ONCE)
        missing = [digest for digest, there in zip(wanted, present, strict=True) if not there]
        progress = Progress(
            log, "push", f"{target.shown}/{target.repository}", sum(wanted[digest] for digest in missing)
        )
        largest_first = sorted(missing, key=lambda digest: -wanted[digest])
        sent = sum(
            await all_of(
                [
                    partial(_push_blob, registry, blobs, digest, wanted[digest], mount_from.get(digest), progress)
                    for digest in largest_first
                ],
                AT_ONCE,
            )
        )
        if missing:
            progress.finish()
        await push_manifests(RegistryPlace(registry), image, target.tag, attachments)
    log.say("push", f"{len(missing)} of {len(wanted)} blobs, {size_text(sent)} sent")
    return sent


def _client(target: PushTarget, patience: Patience | None) -> RegistryClient:
    try:
        tls = ssl.create_default_context(cafile=str(target.ca)) if target.ca else None
    except (OSError, ssl.SSLError) as e:
        raise Invalid(f"the CA file {target.ca} for registry {target.registry} cannot be read: {e}") from e
    return RegistryClient(
        target.registry,
        target.repository,
        None if target.username is None else Credential(target.username, target.password or ""),
        tls=tls,
        is_plain_http=target.plain_http,
        token=target.token,
        patience=patience,
        uses_proxy=target.ca is None,  # a registry with a CA of its own is our server's
    )


async def _push_blob(
    registry: RegistryClient, blobs: FileBlobs, digest: Digest, size: int, mount_from: str | None, progress: Progress
) -> int:
    """Send one blob; return the bytes sent."""
    told = 0

    def count(through: int) -> None:
        nonlocal told
        progress.add(through - told)
        told = through

    path = blobs.path(digest)
    try:
        return await registry.push_blob(digest, size, partial(read_file, path), mount_from, count)
    except (DigestMismatch, LengthMismatch) as e:
        raise DamagedLayer(digest) from e
