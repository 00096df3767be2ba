import asyncio
import http.server
import json
import os
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.edge.cloud import Cloud
from tests.edge.worlds import MadeImage, file, make_image, tar

from sanderling.edge.content import ContentStore
from sanderling.edge.pull import Progress, Puller, find_credential
from sanderling.errors import Denied, Invalid, NotFound, Unavailable
from sanderling.iot import RegistryCredential
from sanderling.oci import Digest, DigestMismatch, Index, Platform

pytestmark = pytest.mark.anyio
AMD64 = Platform("linux", "amd64")


def image_of(size: int = 3_000_000, **more: str) -> MadeImage:
    import random

    content = random.Random(size).randbytes(size)
    return make_image(tar([file("data", content)]), tar([file("small", b"x")]), **more)


def puller(cloud: Cloud, folder: Path, **more: object) -> Puller:
    tls = ssl.create_default_context(cafile=str(cloud.ca))
    return Puller(ContentStore(folder), AMD64, tls, **more)  # type: ignore[arg-type]


def credential(cloud: Cloud, password: str | None = None) -> list[RegistryCredential]:
    return [RegistryCredential("r", cloud.host, cloud.username, password or cloud.password)]


async def test_an_image_is_fetched_whole_and_then_needs_no_network(cloud: Cloud, tmp_path: Path) -> None:
    image = image_of()
    reference = cloud.push(image)
    seen: list[tuple[int, int]] = []

    def progress(state: Progress) -> None:
        seen.append((state.done_bytes, state.total_bytes))

    held = await puller(cloud, tmp_path / "d").fetch(reference, credential(cloud), progress)
    assert held.digest == image.manifest.digest
    assert [held.path(layer.digest).read_bytes() for layer in held.manifest.layers] == [
        image.blobs[layer.digest] for layer in image.manifest.layers
    ]
    assert seen[-1][0] == seen[-1][1] == sum(len(blob) for blob in image.blobs.values())
    await asyncio.to_thread(cloud.stop)
    again = await puller(cloud, tmp_path / "d").fetch(reference, [])
    assert again.digest == held.digest


async def test_a_second_image_fetches_only_what_is_new(cloud: Cloud, tmp_path: Path) -> None:
    base = tar([file("base", b"b" * 100_000)])
    first, second = make_image(base, tar([file("a", b"1")])), make_image(base, tar([file("a", b"2")]))
    references = cloud.push(first, tag="1"), cloud.push(second, tag="2")
    pulling = puller(cloud, tmp_path / "d")
    await pulling.fetch(references[0], credential(cloud))
    cloud.requests.clear()
    await pulling.fetch(references[1], credential(cloud))
    asked = [path for method, path, _ in cloud.requests if "/blobs/" in path and method == "GET"]
    assert not [path for path in asked if str(second.manifest.layers[0].digest) in path]


async def test_two_pulls_at_once_fetch_a_shared_blob_once_and_count_what_they_have(
    cloud: Cloud, tmp_path: Path
) -> None:
    base = tar([file("base", os.urandom(3_000_000))])
    images = [make_image(base, tar([file("a", name.encode())])) for name in "12"]
    references = [cloud.push(image, tag=str(number)) for number, image in enumerate(images)]
    told: dict[str, list[Progress]] = {reference: [] for reference in references}
    pulling = puller(cloud, tmp_path / "d")
    cloud.requests.clear()
    await asyncio.gather(
        *(pulling.fetch(reference, credential(cloud), told[reference].append) for reference in references)
    )
    shared = str(images[0].manifest.layers[0].digest)
    assert len([1 for method, path, _ in cloud.requests if method == "GET" and shared in path]) == 1
    for steps in told.values():
        counts = [step.done_bytes for step in steps]
        assert counts == sorted(counts)
        assert counts[-1] == steps[-1].total_bytes


async def test_this_machines_manifest_is_chosen_from_an_index(cloud: Cloud, tmp_path: Path) -> None:
    images = {name: make_image(tar([file(name, b"1")]), architecture=name) for name in ("arm64", "amd64")}
    for name, image in images.items():
        cloud.push(image, tag=name)
    index = Index.build(images[name].manifest.descriptor(Platform("linux", name)) for name in images)
    push_index(cloud, index, "multi")
    held = await puller(cloud, tmp_path / "d").fetch(f"{cloud.host}/demo/tiny:multi", credential(cloud))
    assert held.digest == images["amd64"].manifest.digest
    by_digest = await puller(cloud, tmp_path / "e").fetch(f"{cloud.host}/demo/tiny@{index.digest}", credential(cloud))
    assert by_digest.digest == held.digest


def push_index(cloud: Cloud, index: Index, tag: str) -> None:
    import httpx

    tls = ssl.create_default_context(cafile=str(cloud.ca))
    with httpx.Client(base_url=f"https://{cloud.host}", verify=tls, auth=(cloud.username, cloud.password)) as http:
        headers = {"Content-Type": index.media_type}
        assert http.put(f"/v2/demo/tiny/manifests/{tag}", content=index.raw, headers=headers).status_code == 201


async def test_an_image_for_another_machine_says_what_it_is_for(cloud: Cloud, tmp_path: Path) -> None:
    arm = make_image(tar([file("a", b"1")]), architecture="arm64")
    reference = cloud.push(arm, tag="arm")
    with pytest.raises(Invalid, match="is for linux/arm64, and this device is linux/amd64"):
        await puller(cloud, tmp_path / "d").fetch(reference, credential(cloud))
    push_index(cloud, Index.build([arm.manifest.descriptor(Platform("linux", "arm64"))]), "only-arm")
    with pytest.raises(Invalid, match="built for linux/arm64; build it for linux/amd64 too"):
        await puller(cloud, tmp_path / "d").fetch(f"{cloud.host}/demo/tiny:only-arm", credential(cloud))


async def test_errors_name_the_image_and_the_way_out(cloud: Cloud, tmp_path: Path) -> None:
    reference = cloud.push(image_of(1000))
    pulling = puller(cloud, tmp_path / "d")
    with pytest.raises(NotFound, match=rf"image {cloud.host}/demo/tiny:9 was not found in the registry"):
        await pulling.fetch(f"{cloud.host}/demo/tiny:9", credential(cloud))
    with pytest.raises(Denied, match="refused the credentials of user 'demo'"):
        await pulling.fetch(reference, credential(cloud, "wrong"))
    with pytest.raises(Denied, match=f"add registryCredentials with the address {cloud.host}"):
        await pulling.fetch(reference, [])
    untrusting = Puller(ContentStore(tmp_path / "e"), AMD64, ssl.create_default_context())
    with pytest.raises(Unavailable, match="certificate is not trusted; give the CA that signed it with --ca"):
        await untrusting.fetch(reference, credential(cloud))
    await asyncio.to_thread(cloud.stop)
    with pytest.raises(Unavailable, match="cannot be reached"):
        await pulling.fetch(reference, credential(cloud))


async def test_an_image_over_the_limit_is_refused_before_it_is_fetched(cloud: Cloud, tmp_path: Path) -> None:
    reference = cloud.push(image_of())
    with pytest.raises(Invalid, match="1000000 is this device's limit"):
        await puller(cloud, tmp_path / "d", max_image_bytes=1_000_000).fetch(reference, credential(cloud))
    assert not [path for _, path, _ in cloud.requests if "/blobs/sha256" in path and _ == "GET"]


async def test_a_pull_that_was_cut_goes_on_where_it_was_after_a_restart(cloud: Cloud, tmp_path: Path) -> None:
    image = image_of()
    reference = cloud.push(image)
    layer = image.manifest.layers[0].digest
    partial = tmp_path / "d/content/partial" / layer.hex
    partial.parent.mkdir(parents=True)
    partial.write_bytes(image.blobs[layer][:2_000_000])
    cloud.requests.clear()
    held = await puller(cloud, tmp_path / "d").fetch(reference, credential(cloud))
    assert held.path(layer).read_bytes() == image.blobs[layer]
    assert ("bytes=2000000-") in [wanted for _, path, wanted in cloud.requests if str(layer) in path]
    assert not partial.exists()


async def test_a_partial_that_is_wrong_is_thrown_away_and_fetched_anew(cloud: Cloud, tmp_path: Path) -> None:
    image = image_of()
    reference = cloud.push(image)
    layer = image.manifest.layers[0].digest
    partial = tmp_path / "d/content/partial" / layer.hex
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"rotten" * 1000)
    pulling = puller(cloud, tmp_path / "d")
    with pytest.raises(DigestMismatch):
        await pulling.fetch(reference, credential(cloud))
    assert not (tmp_path / "d/content/sha256" / layer.hex).exists()
    held = await pulling.fetch(reference, credential(cloud))
    assert held.path(layer).read_bytes() == image.blobs[layer]


class Liar(http.server.BaseHTTPRequestHandler):
    """A registry whose answers a test makes; what it sends may be wrong, or cut."""

    image: MadeImage
    replaced: dict[Digest, bytes]
    cut_after: int | None
    asked: list[str]
    challenge: str = ""

    def do_GET(self) -> None:
        cls = type(self)
        cls.asked.append(self.headers.get("Range", ""))
        if self.path.startswith("/token"):
            return self._answer(200, json.dumps({"token": "t0ken"}).encode(), "application/json")
        if cls.challenge and self.headers.get("Authorization") != "Bearer t0ken":
            self.send_response(401)
            self.send_header("WWW-Authenticate", cls.challenge)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        name = self.path.rpartition("/")[2]
        if "/manifests/" in self.path:
            manifest = cls.image.manifest
            return self._answer(200, cls.replaced.get(manifest.digest, manifest.raw), manifest.media_type)
        digest = Digest(name)
        content = cls.replaced.get(digest, cls.image.blobs[digest])
        wanted = self.headers.get("Range", "")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        return self._answer(206 if start else 200, content[start:], "application/octet-stream", start)

    def _answer(self, status: int, content: bytes, media_type: str, start: int = 0) -> None:
        cls = type(self)
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(content)))
        if status == 206:
            self.send_header("Content-Range", f"bytes {start}-{start + len(content) - 1}/{start + len(content)}")
        self.end_headers()
        if cls.cut_after is not None and len(content) > cls.cut_after:
            self.wfile.write(content[: cls.cut_after])
            self.close_connection = True
            return
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def liar() -> Iterator[tuple[type[Liar], str]]:
    handler = type("OneLiar", (Liar,), {"replaced": {}, "cut_after": None, "asked": [], "image": image_of()})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield handler, f"127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


def plain_puller(host: str, folder: Path) -> Puller:
    return Puller(ContentStore(folder), AMD64, ssl.create_default_context(), plain_http=[host])


async def test_a_connection_that_is_cut_again_and_again_still_brings_the_image(
    liar: tuple[type[Liar], str], tmp_path: Path
) -> None:
    handler, host = liar
    handler.cut_after = 1_200_000
    held = await plain_puller(host, tmp_path / "d").fetch(f"{host}/demo/tiny:1", [])
    layer = handler.image.manifest.layers[0].digest
    assert held.path(layer).read_bytes() == handler.image.blobs[layer]
    assert [wanted for wanted in handler.asked if wanted] == ["bytes=1200000-", "bytes=2400000-"]


async def test_content_with_another_digest_is_never_kept(liar: tuple[type[Liar], str], tmp_path: Path) -> None:
    handler, host = liar
    layer = handler.image.manifest.layers[0].digest
    handler.replaced[layer] = b"X" * len(handler.image.blobs[layer])
    with pytest.raises(DigestMismatch):
        await plain_puller(host, tmp_path / "d").fetch(f"{host}/demo/tiny:1", [])
    assert not (tmp_path / "d/content/sha256" / layer.hex).exists()
    assert not (tmp_path / "d/tags.json").exists()


async def test_more_content_than_promised_is_cut_off(liar: tuple[type[Liar], str], tmp_path: Path) -> None:
    handler, host = liar
    layer = handler.image.manifest.layers[1].digest
    handler.replaced[layer] = handler.image.blobs[layer] + b"and more" * 100_000
    with pytest.raises(Invalid, match="sends more than"):
        await plain_puller(host, tmp_path / "d").fetch(f"{host}/demo/tiny:1", [])


async def test_a_manifest_by_digest_is_verified(liar: tuple[type[Liar], str], tmp_path: Path) -> None:
    _, host = liar
    with pytest.raises(DigestMismatch):
        await plain_puller(host, tmp_path / "d").fetch(f"{host}/demo/tiny@{Digest.of(b'other')}", [])


async def test_a_registry_that_wants_a_token_gets_one(liar: tuple[type[Liar], str], tmp_path: Path) -> None:
    handler, host = liar
    handler.challenge = f'Bearer realm="http://{host}/token",service="liar",scope="repository:demo/tiny:pull"'
    held = await plain_puller(host, tmp_path / "d").fetch(f"{host}/demo/tiny:1", [])
    assert held.digest == handler.image.manifest.digest


def test_credentials_are_found_by_the_registrys_address() -> None:
    known = [
        RegistryCredential(n, a, n, "p") for n, a in (("a", "https://one:5000/v2/"), ("b", "two"), ("c", "One:5000"))
    ]
    found = find_credential("one:5000", known)
    assert found is not None
    assert found.name == "a"
    assert find_credential("two:443", known) is None
