import asyncio
import base64
import datetime
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509

from sanderling.edge.certificates import GatewayCa
from sanderling.edge.identities import ModuleIdentity
from sanderling.edge.layout import Layout
from sanderling.edge.workload import WorkloadApi
from sanderling.iot import sas

pytestmark = pytest.mark.anyio
KEY = base64.b64encode(b"k" * 32).decode()


@pytest.fixture
async def socket_path(tmp_path: Path) -> AsyncIterator[Path]:
    layout = Layout(tmp_path / ("deep" * 30))
    ca = GatewayCa(layout, datetime.datetime.now(datetime.UTC))
    identities = {name: ModuleIdentity(name, "gen1", KEY, KEY) for name in ("m", "other")}
    api = WorkloadApi(layout, ca, lambda: ca.pem, identities.get, ("localhost", "127.0.0.1"))
    async with api.running():
        yield await api.ensure("m") / "workload.sock"


@pytest.fixture
async def client(socket_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    with short_name(socket_path) as short:
        transport = httpx.AsyncHTTPTransport(uds=short)
        async with httpx.AsyncClient(transport=transport, base_url="http://workload") as made:
            yield made


@contextmanager
def short_name(path: Path) -> Iterator[str]:
    """A socket's path has at most 107 characters; a module sees it as /run/iotedge/workload.sock."""
    folder = os.open(path.parent, os.O_PATH)
    yield f"/proc/self/fd/{folder}/{path.name}"
    os.close(folder)


async def test_the_trust_bundle_is_the_edges_own_ca(client: httpx.AsyncClient) -> None:
    answer = await client.get("/trust-bundle", params={"api-version": "2020-07-07"})
    assert "BEGIN CERTIFICATE" in answer.json()["certificate"]


async def test_sign_uses_the_modules_key_and_never_shows_it(client: httpx.AsyncClient) -> None:
    data = sas.string_to_sign("hub/devices/d/modules/m", 2_000_000_000)
    body = {"keyId": "primary", "algo": "HMACSHA256", "data": base64.b64encode(data).decode()}
    answer = await client.post("/modules/m/genid/gen1/sign", content=json.dumps(body))
    token = sas.assemble("hub/devices/d/modules/m", base64.b64decode(answer.json()["digest"]), 2_000_000_000)
    sas.verify(sas.parse(token), [KEY], resource_path="devices/d/modules/m", now=0)
    assert KEY not in answer.text


@pytest.mark.parametrize("path", ["/modules/other/genid/gen1/sign", "/modules/m/genid/old/sign", "/modules/m/x", "/"])
async def test_another_module_or_generation_is_not_served(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.post(path, json={"data": ""})).status_code == 404


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data": 5}', b'{"data": "%%"}', b'{"data":"","algo":"none"}'])
async def test_a_sign_request_that_is_none_is_refused(client: httpx.AsyncClient, body: bytes) -> None:
    answer = await client.post("/modules/m/genid/gen1/sign", content=body)
    assert answer.status_code == 400
    assert answer.json()["message"]


async def test_a_server_certificate_is_signed_by_the_edge_ca(client: httpx.AsyncClient) -> None:
    answer = await client.post("/modules/m/genid/gen1/certificate/server", json={"commonName": "m"})
    assert answer.status_code == 201
    chain = x509.load_pem_x509_certificates(answer.json()["certificate"].encode())
    chain[0].verify_directly_issued_by(chain[1])
    assert "PRIVATE KEY" in answer.json()["privateKey"]["bytes"]


@pytest.mark.parametrize(
    "junk",
    [
        b"\x00\xff" * 50 + b"\r\n\r\n",
        b"DELETE / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\nab",
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n",
    ],
)
async def test_junk_is_answered_with_400_and_the_connection_ends(socket_path: Path, junk: bytes) -> None:
    with short_name(socket_path) as short:
        reader, writer = await asyncio.open_unix_connection(short)
        writer.write(junk)
        async with asyncio.timeout(10):
            assert (await reader.read()).startswith(b"HTTP/1.1 400")
        writer.close()
