"""Run a copy: both places are opened, names are settled, and errors say what to try."""

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from time import monotonic
from typing import TYPE_CHECKING, Any, TypeVar

from sanderling.errors import Denied, Invalid, SanderlingError, Unavailable
from sanderling.oci import Platform, Reference, is_tag
from sanderling.sdk.hints import hinted, hints_of
from sanderling.sdk.image_copy import ImageCopy, Side
from sanderling.sdk.registry_access import CERTIFICATE_FOLDERS, RegistryAccess
from sanderling.transfer import Insecure, NotTrusted, RegistryClient, SignInNeeded, SignInRefused
from sanderling.transfer.copying import copy
from sanderling.transfer.places import Address, Place, place_of

if TYPE_CHECKING:
    from sanderling.sdk.workspace import Workspace

_T = TypeVar("_T")


def run_copy(
    source: str,
    target: str,
    *,
    platform: str | None,
    all_tags: bool,
    referrers: bool,
    from_side: Side,
    to_side: Side,
    workspace: "Workspace | None",
    progress: Callable[[int, int], None],
) -> ImageCopy:
    """Do what `copy_image` promises."""
    there, here = Address.parse(source), Address.parse(target)
    only = None if platform is None else Platform.parse(platform)

    async def work() -> ImageCopy:
        began = monotonic()
        async with AsyncExitStack() as stack:
            origin = await open_place(stack, there, RegistryAccess(from_side, workspace))
            goal = await open_place(stack, here, RegistryAccess(to_side, workspace))
            try:
                names = await _all_names(origin, there, here) if all_tags else [(there.reference, _target_name(here))]
                result = await copy(
                    origin,
                    goal,
                    names,
                    platform=only,
                    referrers=referrers,
                    expected=_promised(here),
                    progress=lambda now: progress(now.done_bytes, now.total_bytes),
                )
            except SanderlingError as error:
                add_hints(error)
                raise
        return ImageCopy(
            source,
            target,
            {name: str(digest) for name, digest in result.digests.items()},
            result.manifests,
            result.blobs,
            result.total_bytes,
            result.sent_blobs,
            result.sent_bytes,
            result.mounted_blobs,
            monotonic() - began,
        )

    return run_anywhere(work)


async def open_place(stack: AsyncExitStack, address: Address, access: RegistryAccess) -> Place:
    """Open the place of *address*; *stack* closes it."""
    client = await asyncio.to_thread(access.client, address) if address.kind == "registry" else None

    def connect(_: Address) -> RegistryClient:
        assert client is not None
        return client

    place = place_of(address, connect)
    stack.push_async_callback(place.aclose)
    return place


async def _all_names(origin: Place, source: Address, target: Address) -> list[tuple[str, str]]:
    """Return (name there, name here) of each tag of the source."""
    if source.reference or (target.reference and target.kind != "docker-archive"):
        raise hinted(Invalid("--all-tags copies all tags, so neither side may name one"), "the same without the tag")
    names = await origin.tags()
    if not names:
        raise hinted(Invalid(f"{origin.name} has no tags"), "name a digest, and leave --all-tags away")
    found: dict[str, str] = {}
    for name in names:
        tag = name.rpartition(":")[2]
        if not is_tag(tag):
            raise Invalid(f"{name!r} in {origin.name} is no tag")
        if tag in found:
            raise Invalid(f"{found[tag]!r} and {name!r} in {origin.name} would both be the tag {tag}; copy them alone")
        found[tag] = name
    if target.kind != "docker-archive":
        return [(name, tag) for tag, name in found.items()]
    base = target.reference or source.repository
    if not base:
        raise hinted(Invalid(f"{target.text} names no repository"), f"{target.text}:demo/digits")
    return [(name, _docker_name(f"{base}:{tag}")) for tag, name in found.items()]


def _target_name(target: Address) -> str:
    """Return the tag or name that the target gives the image; empty for none."""
    if target.kind == "registry":
        return target.tag if target.reference else "latest"
    if target.reference.startswith("sha256:"):
        raise Invalid(f"{target.text}: a digest cannot be chosen; give a name")
    return _docker_name(target.reference) if target.kind == "docker-archive" and target.reference else target.reference


def _docker_name(text: str) -> str:
    """Return `name:tag` as docker load wants it; raise `Invalid`."""
    parsed = Reference.parse(text)
    if parsed.digest is not None:
        raise Invalid(f"{text[:200]!r}: a docker-archive names images by name:tag, not by digest")
    return text if text.endswith(f":{parsed.tag}") else f"{text}:{parsed.tag}"


def _promised(target: Address) -> str | None:
    """Return the digest that the target's own name promises."""
    return target.reference if target.kind == "registry" and target.reference.startswith("sha") else None


def add_hints(error: SanderlingError, creds_option: str = "--src-creds-file or --dst-creds-file") -> None:
    """Say what to try with a registry, where the error has nothing to say of it."""
    if hints_of(error):
        return
    match error:
        case NotTrusted():
            hinted(
                error,
                f"put the CA's certificate into {CERTIFICATE_FOLDERS[-1]}/{error.registry}/ca.crt",
                "SSL_CERT_FILE=ca.pem before the command, for this once",
            )
        case SignInNeeded() | SignInRefused():
            hinted(
                error,
                f"docker login {error.registry}",
                f"{creds_option} FILE, which holds user:password",
            )
        case Denied():
            hinted(error, "ask who owns the repository for the right")
        case Insecure():
            hinted(error, "ask who runs the registry")
        case Unavailable():
            hinted(error, "the same command again: it goes on where it was")


def run_anywhere(work: Callable[[], Coroutine[Any, Any, _T]]) -> _T:
    """Run *work* to its end, also where a loop runs already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return asyncio.run(work())
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(lambda: asyncio.run(work())).result()
