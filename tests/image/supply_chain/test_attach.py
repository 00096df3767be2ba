"""Against a true registry, with the clients of others: what is told about an image is there, as they expect it."""

import asyncio
import json
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from sanderling.blobs import FileBlobs
from sanderling.image import Log, PushTarget
from sanderling.image.assembly import Assembled
from sanderling.image.layout import write_layout
from sanderling.image.push import push
from sanderling.image.supply_chain.attach import attach
from sanderling.image.supply_chain.attachments import LOCK, Attachment, attachments_of
from sanderling.image.supply_chain.sbom import MEDIA_TYPE
from sanderling.oci import Digest, Index
from sanderling.signatures import cosign, dsse
from sanderling.signatures.keys import SigningKey
from sanderling.transfer import RegistryClient
from sanderling.transfer.copying import copy
from sanderling.transfer.places import LayoutPlace, RegistryPlace
from tests.image.supply_chain import world
from tests.registry_process import RegistryProcess, running_registry
from tests.transfer.fake_registry import FakeRegistry

WHEN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
KEY = SigningKey.generate()


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    with running_registry(tmp_path_factory.mktemp("registry") / "root", "--no-auth", "--http") as started:
        yield started


def told(image: Assembled, folder: Path, repository: str, key: SigningKey | None = KEY) -> list[Attachment]:
    made = world.recipe(folder / "inputs", *(c.platform for c in image.contents))
    return attachments_of(image, made, builder_version="9", started_at=WHEN, now=WHEN, repository=repository, key=key)


def make(folder: Path, blobs: FileBlobs, *platforms: object) -> Assembled:
    return world.image(world.recipe(folder / "inputs", *platforms), blobs)  # type: ignore[arg-type]


def pushed(
    registry: RegistryProcess, name: str, folder: Path, blobs: FileBlobs, log: Log, *platforms: object
) -> Assembled:
    image = make(folder, blobs, *platforms)
    target = PushTarget(registry.login_server, name, "1", plain_http=True)
    push(image, blobs, target, log, attachments=told(image, folder, f"{registry.login_server}/{name}"))
    return image


def referrers(registry: RegistryProcess, name: str, digest: Digest) -> list[dict[str, Any]]:
    with registry.client() as client:
        return list(client.get(f"/v2/{name}/referrers/{digest}").json()["manifests"])


def fetch(registry: RegistryProcess, name: str, place: str) -> httpx.Response:
    with registry.client(headers={"Accept": "*/*"}) as client:
        return client.get(f"/v2/{name}/{place}").raise_for_status()


def test_lock_sbom_provenance_and_signature_are_referrers_of_what_they_are_about(
    registry: RegistryProcess, tmp_path: Path, blobs: FileBlobs, log: Log
) -> None:
    image = pushed(registry, "demo/two", tmp_path, blobs, log, world.AMD64, world.ARM64)
    expected = [LOCK, MEDIA_TYPE, cosign.BUNDLE, cosign.BUNDLE, cosign.SIGNATURE_ARTIFACT, dsse.IN_TOTO]
    for manifest in image.manifests:
        kinds = [str(entry["artifactType"]) for entry in referrers(registry, "demo/two", manifest.digest)]
        assert sorted(kinds) == sorted(expected)
    top = referrers(registry, "demo/two", image.descriptor.digest)
    notes = [entry["annotations"] for entry in top if entry["artifactType"] == cosign.BUNDLE]
    predicates = {note[cosign.BUNDLE_PREDICATE_ANNOTATION] for note in notes}
    assert predicates == {cosign.SIGN_PREDICATE, cosign.PROVENANCE_PREDICATE}


def test_the_tag_comes_after_all_that_is_told_about_the_image(tmp_path: Path, blobs: FileBlobs, log: Log) -> None:
    image = make(tmp_path, blobs, world.AMD64, world.ARM64)
    with FakeRegistry().serving() as fake:
        target = PushTarget(fake.host, "demo/digits", "1", plain_http=True)
        push(image, blobs, target, log, attachments=told(image, tmp_path, f"{fake.host}/demo/digits"))
        puts = [path for method, path, _ in fake.seen if method == "PUT" and "/manifests/" in path]
    assert puts[-1].endswith("/manifests/1")
    assert sum(path.endswith("/manifests/1") for path in puts) == 1
    assert puts[2].endswith(image.descriptor.digest)
    assert any(path.endswith(".sig") for path in puts)


def test_a_registry_without_the_referrers_api_gets_a_list_under_a_tag_with_nothing_lost(
    tmp_path: Path, blobs: FileBlobs, log: Log
) -> None:
    image = make(tmp_path, blobs)
    every = told(image, tmp_path, "x/demo/digits")
    with FakeRegistry(has_referrers=False).serving() as fake:
        target = PushTarget(fake.host, "demo/digits", "1", plain_http=True)
        push(image, blobs, target, log, attachments=every)
        raw, _ = fake.manifests["demo/digits", f"sha256-{image.descriptor.digest.hex}"]
    listed = {descriptor.digest for descriptor in Index.parse(raw).manifests}
    assert listed == {one.manifest.digest for one in every}


def test_openssl_verifies_the_signature_that_is_under_cosigns_tag(
    registry: RegistryProcess, tmp_path: Path, blobs: FileBlobs, log: Log
) -> None:
    image = pushed(registry, "demo/openssl", tmp_path, blobs, log)
    manifest = fetch(registry, "demo/openssl", f"manifests/{cosign.tag(image.descriptor.digest, 'sig')}").json()
    [layer] = manifest["layers"]
    payload = fetch(registry, "demo/openssl", f"blobs/{layer['digest']}").content
    assert json.loads(payload)["critical"]["image"]["docker-manifest-digest"] == image.descriptor.digest
    (tmp_path / "payload").write_bytes(payload)
    (tmp_path / "signature").write_bytes(dsse.decode(layer["annotations"][cosign.SIGNATURE_ANNOTATION], ""))
    (tmp_path / "pub.pem").write_bytes(KEY.public.pem())
    verify = ["openssl", "dgst", "-sha256", "-verify", "pub.pem", "-signature", "signature", "payload"]
    assert subprocess.run(verify, cwd=tmp_path, capture_output=True, text=True).stdout == "Verified OK\n"
    (tmp_path / "payload").write_bytes(payload.replace(b"demo", b"dema"))
    assert subprocess.run(verify, cwd=tmp_path, capture_output=True).returncode != 0


def test_a_copy_with_referrers_brings_all_of_them_to_another_repository(
    registry: RegistryProcess, tmp_path: Path, blobs: FileBlobs, log: Log
) -> None:
    image = pushed(registry, "demo/source", tmp_path, blobs, log, world.AMD64, world.ARM64)

    async def copied() -> None:
        async with (
            RegistryClient(registry.login_server, "demo/source", is_plain_http=True) as source,
            RegistryClient(registry.login_server, "demo/target", is_plain_http=True) as target,
        ):
            await copy(RegistryPlace(source), RegistryPlace(target), [("1", "1")], referrers=True)

    asyncio.run(copied())
    for digest in (image.descriptor.digest, *(manifest.digest for manifest in image.manifests)):
        before, after = (referrers(registry, f"demo/{name}", digest) for name in ("source", "target"))
        assert sorted(str(entry["digest"]) for entry in after) == sorted(str(entry["digest"]) for entry in before)
        fetch(registry, "demo/target", f"manifests/{cosign.tag(digest, 'sig')}")


def test_what_others_signed_stays_beside_ours_which_is_not_signed_twice(
    registry: RegistryProcess, tmp_path: Path, blobs: FileBlobs, log: Log
) -> None:
    image = pushed(registry, "demo/many", tmp_path, blobs, log)
    other = SigningKey.generate()
    for key in (other, KEY):
        target = PushTarget(registry.login_server, "demo/many", "1", plain_http=True)
        push(image, blobs, target, log, attachments=told(image, tmp_path, "x/demo/many", key))
    manifest = fetch(registry, "demo/many", f"manifests/{cosign.tag(image.descriptor.digest, 'sig')}").json()
    signed = []
    for layer in manifest["layers"]:
        payload = fetch(registry, "demo/many", f"blobs/{layer['digest']}").content
        signature = dsse.decode(layer["annotations"][cosign.SIGNATURE_ANNOTATION], "")
        signed.append([key.public.verify(payload, signature) for key in (other, KEY)])
    assert signed == [[False, True], [True, False]]
    kinds = [str(one["artifactType"]) for one in referrers(registry, "demo/many", image.descriptor.digest)]
    assert kinds.count(cosign.BUNDLE) == 6
    assert kinds.count(LOCK) == kinds.count(MEDIA_TYPE) == 1


def test_a_layout_lists_what_is_told_about_its_image(tmp_path: Path, blobs: FileBlobs) -> None:
    image = make(tmp_path, blobs)
    every = told(image, tmp_path, "x/demo/digits")
    write_layout(image, blobs, tmp_path / "out", "demo/digits:1")
    place = LayoutPlace(tmp_path / "out")
    asyncio.run(attach(place, every))
    found = asyncio.run(place.referrers(image.descriptor.digest))
    assert {one.digest for one in found} == {one.manifest.digest for one in every}


def test_without_a_key_nothing_is_signed_and_the_provenance_is_there(tmp_path: Path, blobs: FileBlobs) -> None:
    image = make(tmp_path, blobs)
    every = told(image, tmp_path, "x/demo/digits", None)
    assert [one.what for one in every] == ["lock", "sbom", "provenance"]
    assert not any(one.tag for one in every)


def test_lock_and_sbom_of_the_same_image_are_the_same_bytes(tmp_path: Path, blobs: FileBlobs) -> None:
    image = make(tmp_path, blobs)
    first, again = (told(image, tmp_path, place)[:2] for place in ("a/demo/digits", "b/demo/digits"))
    assert [one.manifest.digest for one in first] == [one.manifest.digest for one in again]


def test_no_credential_and_no_path_of_this_machine_is_in_anything_told(tmp_path: Path, blobs: FileBlobs) -> None:
    made = world.recipe(tmp_path / "inputs")
    plain = world.image(made, blobs)
    with_conda = (world.contents(world.AMD64, conda=(world.conda(),)),)
    image = replace(plain, contents=with_conda)
    for key in (KEY, None):
        every = attachments_of(image, made, builder_version="9", started_at=WHEN, repository="x/demo", key=key)
        for one in every:
            for raw in (one.manifest.raw, *one.blobs.values()):
                text = raw.decode() + _opened(raw)
                assert world.SECRET not in text
                assert "user:" not in text
                assert "/home/user" not in text
                assert str(tmp_path) not in text


def _opened(raw: bytes) -> str:
    document = json.loads(raw) if raw.startswith(b"{") else {}
    envelope = document.get("dsseEnvelope", document)
    return dsse.decode(envelope["payload"], "").decode() if "payload" in envelope else ""
