import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from sanderling.blobs import FileBlobs
from sanderling.errors import Denied, Invalid, Unavailable
from sanderling.image import Event, Log, PushTarget, Recipe, SourceFile
from sanderling.image.assembly import Assembled, assemble
from sanderling.image.bases import Base
from sanderling.image.interpreter import DEBIAN_12
from sanderling.image.layers.layer_file import write_layer
from sanderling.image.layers.tree import file_entry
from sanderling.image.layout import DamagedLayer
from sanderling.image.push import push
from sanderling.oci import Index, Manifest, Platform
from sanderling.transfer import Patience
from tests.image.servers import RegistryServer, serving

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


@pytest.fixture
def blobs(tmp_path: Path) -> FileBlobs:
    return FileBlobs(tmp_path / "blobs")


@pytest.fixture
def image(blobs: FileBlobs) -> Assembled:
    return make(blobs, AMD64)


def make(blobs: FileBlobs, *platforms: Platform) -> Assembled:
    layers = [write_layer([file_entry(f"f{n}", bytes([n]) * 3_000_000)], blobs, f"layer {n}") for n in range(3)]
    recipe = Recipe("demo/digits:1", SourceFile("score.py", Path("unused")), platforms=platforms)
    return assemble(recipe, DEBIAN_12, dict.fromkeys(platforms, layers), blobs, dict.fromkeys(platforms, Base(())))


@contextmanager
def client(registry: RegistryServer, **login: str) -> Iterator[tuple[PushTarget, Patience]]:
    with serving(registry.handler()) as host:
        registry.host = host
        target = PushTarget(host, "demo/digits", "1", plain_http=True, **login)
        yield target, Patience(3, 0.01)


def test_a_pushed_image_is_whole_and_a_second_push_sends_nothing(blobs: FileBlobs, image: Assembled, log: Log) -> None:
    registry = RegistryServer()
    with client(registry) as (target, made):
        sent = push(image, blobs, target, log, patience=made)
        assert push(image, blobs, target, log, patience=made) == 0
    assert sent == sum(len(content) for content in registry.blobs["demo/digits"].values())
    manifest = Manifest.parse(registry.manifests["demo/digits", "1"])
    assert manifest.digest == image.descriptor.digest
    assert {layer.digest for layer in manifest.layers} < registry.blobs["demo/digits"].keys()


def test_the_manifest_is_the_last(blobs: FileBlobs, image: Assembled, log: Log) -> None:
    registry = RegistryServer()
    with client(registry) as (target, made):
        push(image, blobs, target, log, patience=made)
    assert [line for line in registry.requests if "/manifests/" in line] == registry.requests[-1:]


def test_an_image_for_several_platforms_is_an_index_under_the_tag(blobs: FileBlobs, log: Log) -> None:
    image = make(blobs, AMD64, ARM64)
    registry = RegistryServer()
    with client(registry) as (target, made):
        push(image, blobs, target, log, patience=made)
    index = Index.parse(registry.manifests["demo/digits", "1"])
    assert [str(descriptor.platform) for descriptor in index.manifests] == ["linux/amd64", "linux/arm64"]
    assert all(("demo/digits", descriptor.digest) in registry.manifests for descriptor in index.manifests)


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_it_signs_in_when_the_registry_asks_for_it(blobs: FileBlobs, image: Assembled, log: Log, auth: str) -> None:
    registry = RegistryServer(auth)
    with client(registry, username="demo", password="right") as (target, made):
        push(image, blobs, target, log, patience=made)
    assert ("demo/digits", "1") in registry.manifests


def test_a_token_that_was_issued_for_the_build_is_used_as_it_is(blobs: FileBlobs, image: Assembled, log: Log) -> None:
    registry = RegistryServer("bearer")
    with client(registry, token="good-token") as (target, made):
        push(image, blobs, target, log, patience=made)
    assert ("demo/digits", "1") in registry.manifests


@pytest.mark.parametrize(
    ("auth", "login"),
    [
        ("basic", {"username": "demo", "password": "bad-secret"}),
        ("bearer", {"username": "demo", "password": "bad-secret"}),
        ("bearer", {"token": "old-token"}),
        ("basic", {}),
    ],
)
def test_a_wrong_password_is_denied_and_not_told(
    blobs: FileBlobs, image: Assembled, log: Log, auth: str, login: dict[str, str]
) -> None:
    registry = RegistryServer(auth)
    with client(registry, **login) as (target, made):
        with pytest.raises(Denied, match=r"registry 127\.0\.0\.1") as caught:
            push(image, blobs, target, log, patience=made)
    assert not any(secret in caught.value.message for secret in ("bad-secret", "old-token"))
    assert registry.manifests == {}
    assert "bad-secret" not in repr(target)


def test_broken_connections_and_overload_are_outlived(
    blobs: FileBlobs, image: Assembled, log: Log, events: list[Event]
) -> None:
    registry = RegistryServer()
    registry.faults = ["cut", "503", "cut"]
    with client(registry) as (target, made):
        push(image, blobs, target, log, patience=made)
    assert ("demo/digits", "1") in registry.manifests
    last = [event for event in events if event.bytes is not None][-1]
    assert last.bytes == last.total_bytes


def test_a_registry_that_stays_broken_is_unavailable_and_gets_no_manifest(
    blobs: FileBlobs, image: Assembled, log: Log
) -> None:
    registry = RegistryServer()
    registry.faults = ["503"] * 100
    with client(registry) as (target, made):
        with pytest.raises(Unavailable, match=r"uploading sha256:.* failed: HTTP 503"):
            push(image, blobs, target, log, patience=made)
    assert registry.manifests == {}


def test_a_blob_of_another_repository_is_mounted(blobs: FileBlobs, image: Assembled, log: Log) -> None:
    registry = RegistryServer()
    with client(registry) as (target, made):
        push(image, blobs, target, log, patience=made)
        registry.blobs["demo/other"] = registry.blobs.pop("demo/digits")
        known = {layer.digest: "demo/other" for manifest in image.manifests for layer in manifest.layers}
        sent = push(image, blobs, target, log, known, patience=made)
    assert sent == image.manifests[0].config.size
    assert len(registry.blobs["demo/digits"]) == 4


def test_a_damaged_layer_of_the_cache_is_never_completed(blobs: FileBlobs, image: Assembled, log: Log) -> None:
    layer = image.manifests[0].layers[1]
    path = blobs.path(layer.digest)
    path.chmod(0o600)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(bytes(content))
    registry = RegistryServer()
    with client(registry) as (target, made):
        with pytest.raises(DamagedLayer) as caught:
            push(image, blobs, target, log, patience=made)
    assert caught.value.digest == layer.digest
    assert layer.digest not in registry.blobs.get("demo/digits", {})


def test_a_registry_that_is_not_there_is_unavailable(blobs: FileBlobs, image: Assembled, log: Log) -> None:
    target = PushTarget("127.0.0.1:9", "demo/digits", "1", plain_http=True)
    with pytest.raises(Unavailable, match="is it running"):
        push(image, blobs, target, log, patience=Patience(1))


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with the key and the certificate of a server at 127.0.0.1, signed by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=1))
    address = x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))])
    signed = builder.add_extension(address, critical=False).sign(key, hashes.SHA256())
    pem = serialization.Encoding.PEM
    secret = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = tmp_path_factory.mktemp("tls") / "server.pem"
    path.write_bytes(secret + signed.public_bytes(pem))
    return path


def test_a_registry_with_a_ca_of_its_own_is_trusted_by_its_file_and_not_without(
    blobs: FileBlobs, image: Assembled, log: Log, certificate: Path
) -> None:
    registry = RegistryServer("basic")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    with serving(registry.handler(), context) as host:
        target = PushTarget(host, "demo/digits", "1", "demo", "right", ca=certificate)
        push(image, blobs, target, log)
        assert ("demo/digits", "1") in registry.manifests
        with pytest.raises(Unavailable, match="CERTIFICATE_VERIFY_FAILED"):
            push(image, blobs, replace(target, ca=None), log)


def test_a_ca_file_that_cannot_be_read_is_named(blobs: FileBlobs, image: Assembled, log: Log, tmp_path: Path) -> None:
    with pytest.raises(Invalid, match=r"gone\.pem .* cannot be read"):
        push(image, blobs, PushTarget("x", "demo/digits", "1", ca=tmp_path / "gone.pem"), log)
