"""Read what is about an image at its place, and check it: bounded, verified by digest.

Who may push to a registry may put anything beside an image. So what is broken or made
with another key is passed over, and only what the key signed counts.
"""

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack, aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sanderling.errors import Invalid, NotFound, SanderlingError
from sanderling.oci import Descriptor, Digest, Index, Manifest, Platform, canonical_json, is_tag, parse_manifest
from sanderling.sdk.copy_run import add_hints, open_place, run_anywhere
from sanderling.sdk.hints import hinted
from sanderling.sdk.image_attachments import ImageAttachment, NotVerified, Verification
from sanderling.sdk.image_copy import Side
from sanderling.sdk.registry_access import RegistryAccess
from sanderling.signatures import cosign, dsse
from sanderling.transfer.copying import fetch_verified
from sanderling.transfer.places import Address, Place, RegistryPlace

if TYPE_CHECKING:
    from sanderling.sdk.workspace import Workspace
    from sanderling.signatures.keys import PublicKey

MAX_BYTES = 64 << 20
MAX_ATTACHMENTS = 500
LOCK = "application/vnd.sanderling.image.lock.v1+json"
SBOM = "application/vnd.cyclonedx+json"
TITLE = "org.opencontainers.image.title"
_PREDICATES = {cosign.SIGN_PREDICATE: "signature", cosign.PROVENANCE_PREDICATE: "provenance"}

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Found:
    """One attachment: its manifest, and what it is about."""

    manifest: Manifest
    subject: Descriptor

    @property
    def predicate_type(self) -> str | None:
        return self.manifest.annotations.get(cosign.BUNDLE_PREDICATE_ANNOTATION)

    @property
    def kind(self) -> str:
        artifact = self.manifest.artifact_type or self.manifest.config.media_type
        if artifact.startswith(cosign.BUNDLE_PREFIX):
            return _PREDICATES.get(self.predicate_type or "", "attestation")
        layers = {layer.media_type for layer in self.manifest.layers}
        if cosign.SIMPLE_SIGNING in layers:
            return "signature"
        if layers == {dsse.IN_TOTO}:
            return "provenance"
        if dsse.MEDIA_TYPE in layers:
            return "attestation"
        return {LOCK: "lock", SBOM: "sbom"}.get(artifact, "other")

    def shown(self) -> ImageAttachment:
        return ImageAttachment(
            self.kind,
            self.manifest.artifact_type or self.manifest.config.media_type,
            str(self.manifest.digest),
            str(self.subject.digest),
            str(self.subject.platform) if self.subject.platform else None,
            sum(layer.size for layer in self.manifest.layers),
            self.predicate_type,
        )


class _Reader:
    """The image at a place, and what is about it."""

    def __init__(self, place: Place, top: Descriptor) -> None:
        self.place, self.top = place, top

    async def subjects(self) -> list[Descriptor]:
        """Return the image, and the manifests of its platforms."""
        parsed = parse_manifest(await fetch_verified(self.place, self.top), self.top.media_type)
        children = parsed.manifests if isinstance(parsed, Index) else ()
        return [self.top, *(child for child in children if child.platform and child.platform.os != "unknown")]

    async def about(self, subject: Descriptor) -> list[_Found]:
        """Return what is about *subject*: its referrers, and what cosign's tags name."""
        entries = {one.digest: one for one in await self.place.referrers(subject.digest)}
        for suffix in ("sig", "att") if isinstance(self.place, RegistryPlace) else ():
            tag = cosign.tag(subject.digest, suffix)
            try:
                found = await self.place.resolve(tag) if is_tag(tag) else None
            except NotFound:
                continue
            if found is not None:
                entries.setdefault(found.digest, found)
        if len(entries) > MAX_ATTACHMENTS:
            raise Invalid(f"{self.place.name}: over {MAX_ATTACHMENTS} manifests are about {subject.digest}: refused")
        every = []
        for one in sorted(entries.values(), key=lambda entry: entry.digest):
            try:
                parsed = parse_manifest(await fetch_verified(self.place, one), one.media_type)
            except (NotFound, Invalid):
                continue
            if isinstance(parsed, Manifest):
                every.append(_Found(parsed, subject))
        return every

    async def read(self, blob: Descriptor) -> bytes:
        """Return the content of a layer, verified."""
        if blob.size > MAX_BYTES:
            raise Invalid(f"{self.place.name}: {blob.digest} claims {blob.size} bytes: refused")
        raw = b""
        async with aclosing(self.place.open_blob(blob)) as pieces:
            async for piece in pieces:
                raw += piece
                if len(raw) > blob.size:
                    raise Invalid(f"{self.place.name}: {blob.digest} is longer than it claims")
        blob.digest.verify(raw)
        return raw


@asynccontextmanager
async def _reading(reference: str, side: Side, workspace: "Workspace | None") -> AsyncIterator[_Reader]:
    address = Address.parse(reference)
    async with AsyncExitStack() as stack:
        place = await open_place(stack, address, RegistryAccess(side, workspace))
        try:
            yield _Reader(place, await place.resolve(address.reference))
        except SanderlingError as error:
            add_hints(error)
            raise


def _run(
    reference: str,
    side: Side,
    workspace: "Workspace | None",
    work: Callable[[_Reader], Coroutine[Any, Any, _T]],
) -> _T:
    async def all_of_it() -> _T:
        async with _reading(reference, side, workspace) as reader:
            return await work(reader)

    return run_anywhere(all_of_it)


def run_list(reference: str, side: Side, workspace: "Workspace | None") -> Sequence[ImageAttachment]:
    """Do what `list_attachments` promises."""

    async def work(reader: _Reader) -> Sequence[ImageAttachment]:
        return [one.shown() for subject in await reader.subjects() for one in await reader.about(subject)]

    return _run(reference, side, workspace, work)


def run_read(
    reference: str, kind: str, platform: str | None, title: str | None, side: Side, workspace: "Workspace | None"
) -> bytes:
    """Do what `read_attachment` promises."""
    wanted = None if platform is None else Platform.parse(platform)

    async def work(reader: _Reader) -> bytes:
        subjects = await reader.subjects()
        if wanted is not None:
            listed = [one for one in subjects if one.platform is not None and wanted.runs(one.platform)]
            subjects = [*listed, *([subjects[0]] if len(subjects) == 1 else [])]
        found = [one for subject in subjects for one in await reader.about(subject) if one.kind == kind]
        if not found:
            for_it = f" for {platform}" if platform else ""
            raise NotFound(f"{reference} has no {kind}{for_it} beside it; was it built with this version, and copied")
        if kind == "provenance":
            return await _statement(reader, found)
        if kind == "lock" and title is None:
            return _merged([await reader.read(_layer(one, None)) for one in found])
        platforms = sorted({str(one.subject.platform) for one in found if one.subject.platform})
        if len(platforms) > 1:
            raise hinted(
                Invalid(f"{reference} is for several platforms: {', '.join(platforms)}"), f"--platform {platforms[0]}"
            )
        return await reader.read(_layer(found[-1], title))

    return _run(reference, side, workspace, work)


def _layer(found: _Found, title: str | None) -> Descriptor:
    for layer in found.manifest.layers:
        if title is None or layer.annotations.get(TITLE) == title:
            return layer
    raise NotFound(f"{found.manifest.digest} has no file {title!r}")


def _merged(locks: Sequence[bytes]) -> bytes:
    """Several locks as one: each is for some platforms."""
    try:
        documents = [json.loads(raw) for raw in locks]
        whole = documents[0] | {"platforms": {k: v for one in documents for k, v in one["platforms"].items()}}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise Invalid("the lock beside the image cannot be read") from e
    return canonical_json(whole)


async def _statement(reader: _Reader, found: Sequence[_Found]) -> bytes:
    """Return the latest statement, without asking who signed it."""
    latest = max(found, key=lambda one: one.manifest.annotations.get("org.opencontainers.image.created", ""))
    raw = await reader.read(_layer(latest, None))
    try:
        document = json.loads(raw)
        envelope = document.get("dsseEnvelope")
        return raw if envelope is None else dsse.decode(envelope["payload"], "the statement")
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise Invalid(f"the provenance {latest.manifest.digest} cannot be read") from e


def run_verify(reference: str, key: bytes | Path, side: Side, workspace: "Workspace | None") -> Verification:
    """Do what `verify_image` promises."""
    from sanderling.signatures.keys import PublicKey  # needs cryptography, which only this does

    public = PublicKey.parse(_read(key) if isinstance(key, Path) else key)

    async def work(reader: _Reader) -> Verification:
        checked = _Checked(reader.top.digest, public)
        found = await reader.about(reader.top)
        for one in found:
            for layer in one.manifest.layers:
                if checked.may_be(layer):
                    checked.look(layer, await reader.read(layer))
        if not checked.is_signed:
            there = sum(one.kind == "signature" for one in found)
            others = "it has no signature" if not there else "its signatures are by other keys, or about other images"
            raise NotVerified(f"{reference} ({reader.top.digest}) is not signed with the key {public.key_id}: {others}")
        return Verification(
            reference,
            str(reader.top.digest),
            public.key_id,
            tuple(sorted(checked.signed_for)),
            tuple(sorted(checked.predicates)),
        )

    return _run(reference, side, workspace, work)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise Invalid(f"the key {path} cannot be read: {e.strerror}") from e


class _Checked:
    """What of all that was looked at is signed with the key, and about the image."""

    def __init__(self, digest: Digest, key: "PublicKey") -> None:
        self._digest, self._key = digest, key
        self.is_signed = False
        self.signed_for: set[str] = set()
        self.predicates: set[str] = set()

    def may_be(self, layer: Descriptor) -> bool:
        """Whether the layer's type is one that is signed."""
        kinds = (cosign.SIMPLE_SIGNING, dsse.MEDIA_TYPE)
        return layer.media_type in kinds or layer.media_type.startswith(cosign.BUNDLE_PREFIX)

    def look(self, layer: Descriptor, raw: bytes) -> None:
        """Note what *raw* proves; what it does not prove is passed over."""
        try:
            if layer.media_type == cosign.SIMPLE_SIGNING:
                self._payload(raw, layer.annotations.get(cosign.SIGNATURE_ANNOTATION, ""))
            elif layer.media_type == dsse.MEDIA_TYPE:
                opened, _ = dsse.open_envelope(dsse.parse_envelope(raw), self._key)
                self._statement(cosign.parse_statement(opened))
            else:
                self._statement(cosign.open_bundle(raw, self._key))
        except Invalid:
            return

    def _payload(self, raw: bytes, signature: str) -> None:
        if not self._key.verify(raw, dsse.decode(signature, "the signature")):
            return
        if cosign.payload_digest(raw) == self._digest:
            self.is_signed = True
            identity = json.loads(raw)["critical"].get("identity")
            named = identity.get("docker-reference") if isinstance(identity, dict) else None
            if isinstance(named, str) and named:
                self.signed_for.add(named)

    def _statement(self, statement: dict[str, Any]) -> None:
        if not cosign.is_about(statement, self._digest):
            return
        predicate_type = str(statement.get("predicateType", ""))
        if predicate_type == cosign.SIGN_PREDICATE:
            self.is_signed = True
        else:
            self.predicates.add(predicate_type)
