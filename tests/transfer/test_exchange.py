import asyncio
import contextlib
import ssl
from pathlib import Path

import httpx
import pytest

from sanderling.errors import Invalid
from sanderling.oci import Descriptor, Digest, Manifest, media_types
from sanderling.transfer import Faulty, Insecure, NotTrusted, Patience, RegistryClient, Unreachable, is_loopback
from sanderling.transfer.exchange import Exchange
from sanderling.transfer.sign_in import Credential, Scope, SignIn, is_same_origin
from tests.transfer.fake_registry import FakeRegistry

pytestmark = pytest.mark.anyio


@pytest.fixture
def exchange() -> Exchange:
    return Exchange(
        "r.io",
        "demo/x",
        None,
        tls=ssl.create_default_context(),
        is_plain_http=False,
        token=None,
        patience=Patience(1),
        uses_proxy=False,
    )


def answer(location: str, of: str = "https://r.io/v2/x") -> httpx.Response:
    return httpx.Response(202, headers={"Location": location}, request=httpx.Request("POST", of))


@pytest.mark.parametrize(
    ("location", "where"),
    [
        ("/v2/demo/x/blobs/uploads/1?_state=a%2Fb", "https://r.io/v2/demo/x/blobs/uploads/1?_state=a%2Fb"),
        ("https://store.io/u/1", "https://store.io/u/1"),
        ("http://r.io/v2/u/1", "https://r.io/v2/u/1"),  # a relay ends TLS and the registry does not know
        ("https://user:pw@r.io/u", "https://r.io/u"),
    ],
)
async def test_where_an_answer_sends_us_is_read(exchange: Exchange, location: str, where: str) -> None:
    assert exchange.location(answer(location)) == where


@pytest.mark.parametrize("location", ["http://store.io/u/1", "//\x00", "ftp://r.io/u", "file:///etc/passwd"])
async def test_nothing_leads_from_https_to_where_it_is_not_encrypted(exchange: Exchange, location: str) -> None:
    with pytest.raises((Insecure, Faulty)):
        exchange.location(answer(location))


def test_a_default_port_is_the_same_origin_written_or_not() -> None:
    assert is_same_origin("https://r.io/a", "https://R.io:443/b")
    assert not is_same_origin("https://r.io/a", "http://r.io/a")
    assert not is_same_origin("https://r.io/a", "https://r.io:444/a")
    assert not is_same_origin("https://r.io/a", "https://r.io.evil/a")


@pytest.mark.parametrize(
    ("registry", "is_here"),
    [
        ("localhost", True),
        ("localhost:5000", True),
        ("127.0.0.1:1", True),
        ("[::1]:5", True),
        ("127.0.0.1.evil", False),
    ],
)
def test_loopback_is_told_by_its_name(registry: str, is_here: bool) -> None:
    assert is_loopback(registry) is is_here


async def test_a_loopback_registry_without_tls_is_spoken_to_and_another_is_not() -> None:
    with FakeRegistry().serving() as registry:
        async with RegistryClient(registry.host, "demo/x", is_plain_http=None) as made:
            assert await made.find_manifest("1") is None
        async with RegistryClient(registry.host, "demo/x", patience=Patience(1)) as made:
            with pytest.raises(Exception, match="name it as plain http if that is meant"):
                await made.find_manifest("1")


class Service:
    """A token service whose answers a test gives."""

    def __init__(self, *answers: tuple[int, bytes]) -> None:
        self.answers, self.asked = list(answers), list[str]()

    async def __call__(self, method: str, url: str, headers: object, content: bytes | None) -> tuple[int, bytes]:
        self.asked.append(url)
        return self.answers.pop(0)


SCOPES = (Scope.of("demo/x", "pull", "push"), Scope.of("demo/y", "pull"))


async def test_a_token_service_in_the_open_gets_no_password() -> None:
    from sanderling.transfer.challenges import Challenge

    service = Service()
    sign_in = SignIn("r.io", "demo/x", Credential("u", "p"), None, service)
    challenge = Challenge("bearer", {"realm": "http://auth.io/token"})
    with pytest.raises(Insecure, match=r"http://auth\.io"):
        await sign_in.answer([challenge], SCOPES, None, "https://r.io")
    assert service.asked == []


async def test_where_a_second_repository_is_closed_the_first_is_asked_for_alone() -> None:
    from sanderling.transfer.challenges import Challenge

    service = Service((401, b""), (200, b'{"token":"t"}'))
    sign_in = SignIn("r.io", "demo/x", Credential("u", "p"), None, service)
    challenge = Challenge("bearer", {"realm": "https://auth.io/token?x=1", "scope": "repository:demo/x:pull"})
    assert await sign_in.answer([challenge], SCOPES, None, "https://r.io") == "Bearer t"
    assert service.asked[0].startswith("https://auth.io/token?x=1&scope=repository%3Ademo%2Fx%3Apull%2Cpush&scope=rep")
    assert service.asked[1].count("scope=") == 1


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b'{"token":1}', b'{"token":"a\\nb"}', b'{"token":"\\u00e9"}'])
async def test_a_token_that_cannot_be_is_refused(raw: bytes) -> None:
    from sanderling.transfer.challenges import Challenge

    sign_in = SignIn("r.io", "demo/x", None, None, Service((200, raw)))
    with pytest.raises(Faulty):
        await sign_in.answer([Challenge("bearer", {"realm": "https://a.io/t"})], SCOPES, None, "https://r.io")


@pytest.mark.parametrize("realm", ["https://user:pw@auth.io/", "https://[", "https://a:99999/"])
async def test_a_realm_that_cannot_be_is_refused(realm: str) -> None:
    from sanderling.transfer.challenges import Challenge

    sign_in = SignIn("r.io", "demo/x", Credential("u", "p"), None, Service())
    with pytest.raises((Faulty, Invalid)):
        await sign_in.answer([Challenge("bearer", {"realm": realm})], SCOPES, None, "https://r.io")


async def test_a_certificate_that_nobody_signed_is_said_once_and_not_tried_again(tmp_path: Path) -> None:
    from tests.edge.cloud import Cloud

    cloud = Cloud(tmp_path / "cloud")
    cloud.start()
    try:
        async with RegistryClient(cloud.host, "demo/x") as made:
            with pytest.raises(NotTrusted, match="its certificate is not trusted"):
                await made.find_manifest("1")
    finally:
        cloud.close()


async def test_a_connection_closed_while_idle_fails_no_read() -> None:
    asked: list[str] = []

    async def closes_after_one(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ")[0].decode())
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        with contextlib.suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
        writer.close()

    async with await asyncio.start_server(closes_after_one, "127.0.0.1", 0) as server:
        registry = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        digest = Digest.of(b"x")
        manifest = Manifest.build(Descriptor(media_types.OCI_CONFIG, digest, 1), [])
        async with RegistryClient(registry, "demo/x", is_plain_http=True, patience=Patience(1)) as client:
            assert await client.has_blob(digest)
            assert await client.has_blob(digest)
            with pytest.raises(Unreachable):  # what may have been done is not sent again
                await client.push_manifest("1", manifest.raw, manifest.media_type)
    assert asked == ["HEAD", "HEAD"]
