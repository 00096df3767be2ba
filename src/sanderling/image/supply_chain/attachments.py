"""Lock, bill of materials, provenance and signature as OCI manifests about an image.

    about each platform's manifest    lock, bill of materials
    about the index or only manifest  provenance
    about all of them                 signature

Each is a referrer (distribution-spec 1.1): `subject`, `artifactType`, the empty config. With a key,
bill of materials and provenance are attestations too, and those and the signature are there in
both forms that cosign knows (see `sanderling.signatures.cosign`): as a bundle, and under a tag.
Without a key there is no signature, and the provenance is a plain statement.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sanderling.image.assembly import Assembled
from sanderling.image.events import Log
from sanderling.image.recipe import Recipe
from sanderling.image.supply_chain import sbom
from sanderling.image.supply_chain.lock import Lock, pylock
from sanderling.image.supply_chain.provenance import provenance
from sanderling.image.version import product_version
from sanderling.oci import Descriptor, Digest, Manifest, media_types
from sanderling.signatures import cosign, dsse
from sanderling.signatures.keys import SigningKey

LOCK = "application/vnd.sanderling.image.lock.v1+json"
PYLOCK = "application/toml"
TITLE = "org.opencontainers.image.title"
CREATED = "org.opencontainers.image.created"
KEY_ANNOTATION = "io.sanderling.key"  # a hint: which key signed
EMPTY = b"{}"
EMPTY_CONFIG = Descriptor(media_types.OCI_EMPTY, Digest.of(EMPTY), len(EMPTY))


@dataclass(frozen=True, slots=True)
class Attachment:
    """A manifest about another, with its content; *tag* is what cosign looks for, or None. *what* is for people."""

    what: str
    manifest: Manifest
    blobs: Mapping[Digest, bytes]
    tag: str | None = None


def attachments_of(
    image: Assembled,
    recipe: Recipe,
    *,
    builder_version: str,
    started_at: datetime,
    repository: str,
    key: SigningKey | None = None,
    now: datetime | None = None,
) -> list[Attachment]:
    """Return all that is told about *image*, which is called *repository* (``host/name``), signed with *key*.

    What has no time in it is the same for the same image: lock and bill of materials. *now* is when the build ended.
    """
    now = now or datetime.now(UTC)
    made: list[Attachment] = []
    byproducts: dict[str, Digest] = {}
    statements: dict[Digest, list[tuple[str, bytes]]] = {}
    top = image.descriptor
    by_platform = {str(one.platform): one for one in image.contents}
    for platform, manifest in zip(recipe.platforms, image.manifests, strict=True):
        contents = by_platform.get(str(platform))
        if contents is None:
            continue
        subject = manifest.descriptor()
        lock = Lock.of([contents]).to_bytes(builder_version)
        bill = sbom.bill_of_materials(recipe, contents, manifest.digest, builder_version)
        raw_bill = sbom.to_bytes(bill)
        byproducts[f"lock {platform}"], byproducts[f"sbom {platform}"] = Digest.of(lock), Digest.of(raw_bill)
        files = [("lock.json", LOCK, lock), ("pylock.toml", PYLOCK, pylock(contents, builder_version))]
        made.append(_referrer("lock", subject, LOCK, files))
        made.append(_referrer("sbom", subject, sbom.MEDIA_TYPE, [("sbom.cdx.json", sbom.MEDIA_TYPE, raw_bill)]))
        statement = cosign.statement([("", manifest.digest)], cosign.CYCLONEDX_PREDICATE, bill)
        statements.setdefault(manifest.digest, []).append((cosign.CYCLONEDX_PREDICATE, statement))
    if image.contents:
        predicate = provenance(recipe, image.contents, builder_version, started_at, now, byproducts)
        name = recipe.image.rpartition(":")[0]
        subjects = [(name, digest) for digest in dict.fromkeys([top.digest, *(m.digest for m in image.manifests)])]
        statement = cosign.statement(subjects, cosign.PROVENANCE_PREDICATE, predicate)
        statements.setdefault(top.digest, []).append((cosign.PROVENANCE_PREDICATE, statement))
        if key is None:
            files = [("provenance.intoto.json", dsse.IN_TOTO, statement)]
            notes = {cosign.PREDICATE_ANNOTATION: cosign.PROVENANCE_PREDICATE}
            made.append(_referrer("provenance", _bare(top), dsse.IN_TOTO, files, notes))
    if key is not None:
        every = {top.digest: _bare(top)} | {manifest.digest: manifest.descriptor() for manifest in image.manifests}
        for digest, subject in every.items():
            made += _signed(subject, statements.get(digest, []), repository, key, now)
    return made


def told_about(
    image: Assembled, recipe: Recipe, repository: str, key: SigningKey | None, started_at: datetime, log: Log
) -> list[Attachment]:
    """Return what is told about *image* where it is called *repository* (``host/name``), signed when there is a key."""
    made = attachments_of(
        image,
        recipe,
        builder_version=product_version(),
        started_at=started_at,
        repository=repository,
        key=key,
    )
    signed = f"signed with the key {key.public.key_id}" if key is not None else "not signed"
    log.say("attach", f"{', '.join(dict.fromkeys(one.what for one in made))}; {signed}")
    return made


def _signed(
    subject: Descriptor, statements: Sequence[tuple[str, bytes]], repository: str, key: SigningKey, now: datetime
) -> list[Attachment]:
    """The signature of *subject* and the attestations about it, in both forms."""
    payload, signature = cosign.sign(subject.digest, repository, key)
    made = [signature_manifest(subject, payload, signature, key)]
    empty = cosign.statement([("", subject.digest)], cosign.SIGN_PREDICATE, {})
    made.append(_bundle("signature", subject, empty, cosign.SIGN_PREDICATE, key, now))
    envelopes: list[tuple[str, bytes]] = []
    for predicate_type, statement in statements:
        what = {cosign.PROVENANCE_PREDICATE: "provenance"}.get(predicate_type, "attestation")
        envelope = dsse.envelope(statement, key)
        made.append(_bundle(what, subject, statement, predicate_type, key, now, envelope))
        envelopes.append((predicate_type, dsse.to_bytes(envelope)))
    if envelopes:
        made.append(_attestations(subject, envelopes, key))
    return made


def signature_manifest(subject: Descriptor, payload: bytes, signature: bytes, key: SigningKey) -> Attachment:
    """The signature as cosign before 3 has it, under its tag."""
    layer = Descriptor(
        cosign.SIMPLE_SIGNING,
        Digest.of(payload),
        len(payload),
        annotations={cosign.SIGNATURE_ANNOTATION: dsse.base64_text(signature), KEY_ANNOTATION: key.public.key_id},
    )
    notes = {KEY_ANNOTATION: key.public.key_id}
    manifest = Manifest.build(EMPTY_CONFIG, [layer], notes, artifact_type=cosign.SIGNATURE_ARTIFACT, subject=subject)
    return Attachment(
        "signature", manifest, {layer.digest: payload, EMPTY_CONFIG.digest: EMPTY}, cosign.tag(subject.digest, "sig")
    )


def _attestations(subject: Descriptor, envelopes: Sequence[tuple[str, bytes]], key: SigningKey) -> Attachment:
    layers = [
        Descriptor(
            dsse.MEDIA_TYPE,
            Digest.of(raw),
            len(raw),
            annotations={
                cosign.SIGNATURE_ANNOTATION: "",  # the envelope has its own
                cosign.PREDICATE_ANNOTATION: predicate_type,
                KEY_ANNOTATION: key.public.key_id,
            },
        )
        for predicate_type, raw in envelopes
    ]
    blobs = {Digest.of(raw): raw for _, raw in envelopes} | {EMPTY_CONFIG.digest: EMPTY}
    notes = {KEY_ANNOTATION: key.public.key_id}
    manifest = Manifest.build(EMPTY_CONFIG, layers, notes, artifact_type=dsse.IN_TOTO, subject=subject)
    return Attachment("attestations", manifest, blobs, cosign.tag(subject.digest, "att"))


def _bundle(
    what: str,
    subject: Descriptor,
    statement: bytes,
    predicate_type: str,
    key: SigningKey,
    now: datetime,
    envelope: dict[str, Any] | None = None,
) -> Attachment:
    raw = cosign.bundle(envelope or dsse.envelope(statement, key), key.public)
    digest = Digest.of(raw)
    annotations = {
        cosign.BUNDLE_CONTENT_ANNOTATION: "dsse-envelope",
        cosign.BUNDLE_PREDICATE_ANNOTATION: predicate_type,
        CREATED: now.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        KEY_ANNOTATION: key.public.key_id,
    }
    files = [(f"{digest.algorithm}-{digest.hex}.sigstore.json", cosign.BUNDLE, raw)]
    return _referrer(what, subject, cosign.BUNDLE, files, annotations)


def _referrer(
    what: str,
    subject: Descriptor,
    artifact_type: str,
    files: Sequence[tuple[str, str, bytes]],
    annotations: Mapping[str, str] | None = None,
) -> Attachment:
    """A referrer of *subject* with *files* (title, media type, content) as its layers."""
    layers = [Descriptor(kind, Digest.of(raw), len(raw), annotations={TITLE: title}) for title, kind, raw in files]
    manifest = Manifest.build(EMPTY_CONFIG, layers, annotations, artifact_type=artifact_type, subject=subject)
    blobs = {Digest.of(raw): raw for _, _, raw in files} | {EMPTY_CONFIG.digest: EMPTY}
    return Attachment(what, manifest, blobs)


def _bare(descriptor: Descriptor) -> Descriptor:
    """The descriptor as a subject: what it is, not what is known of it."""
    return Descriptor(descriptor.media_type, descriptor.digest, descriptor.size)
