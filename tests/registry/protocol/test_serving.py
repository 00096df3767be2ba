"""Over true sockets: connections that are cut, restarts, uploads at the same time."""

import os
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest
from tests.contracts.worlds import World
from tests.registry.serving import served
from tests.registry.world import basic

from sanderling.blobs import FileBlobs
from sanderling.oci import Digest
from sanderling.registry import RegistryCredentials

CONTENT = os.urandom(5_000_000)
DIGEST = Digest.of(CONTENT)
UPLOADS = "/v2/demo/digits/blobs/uploads/"
BLOB = f"/v2/demo/digits/blobs/{DIGEST}"


def sign_in(address: str, credentials: RegistryCredentials) -> httpx.Client:
    user = credentials.set_admin_enabled("demo", True)
    return httpx.Client(base_url=f"http://{address}", headers=basic("demo", user.passwords[0]), timeout=30)


def send_half(address: str, client: httpx.Client, method: str, target: str) -> None:
    """Promise all of the content, send half of it, and cut the connection."""
    host, port = address.split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        head = f"{method} {target} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {len(CONTENT)}\r\n"
        connection.sendall(f"{head}Authorization: {client.headers['authorization']}\r\n\r\n".encode())
        connection.sendall(CONTENT[: len(CONTENT) // 2])


def until(is_done: "threading.Event | object", *, timeout_s: float = 10) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_done():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


@pytest.mark.parametrize("world", ["files", "s3"], indirect=True)
def test_a_push_that_is_cut_leaves_nothing_and_the_next_succeeds(tmp_path: Path, world: World) -> None:
    with served(tmp_path, world.open()) as (address, credentials), sign_in(address, credentials) as client:
        send_half(address, client, "POST", f"{UPLOADS}?digest={DIGEST}")
        until(lambda: not world.contents())
        assert client.get(BLOB).status_code == 404
        assert client.post(UPLOADS, params={"digest": DIGEST}, content=CONTENT).status_code == 201
        assert client.get(BLOB).content == CONTENT


@pytest.mark.parametrize("world", ["files", "s3"], indirect=True)
def test_a_chunk_that_is_cut_goes_on_where_it_ended_after_a_restart(tmp_path: Path, world: World) -> None:
    with served(tmp_path, world.open()) as (address, credentials), sign_in(address, credentials) as client:
        location = client.post(UPLOADS).headers["location"]
        send_half(address, client, "PATCH", location)
        until(lambda: client.get(location).headers["range"] == f"0-{len(CONTENT) // 2 - 1}")
        assert client.get(BLOB).status_code == 404
    with served(tmp_path, world.open()) as (address, credentials), sign_in(address, credentials) as client:
        start = int(client.get(location).headers["range"].split("-")[1]) + 1
        assert start == len(CONTENT) // 2
        content_range = {"Content-Range": f"{start}-{len(CONTENT) - 1}"}
        assert client.patch(location, content=CONTENT[start:], headers=content_range).status_code == 202
        assert client.put(location, params={"digest": DIGEST}).status_code == 201
        assert client.get(BLOB).content == CONTENT


@pytest.mark.parametrize("world", ["files", "s3"], indirect=True)
def test_one_blob_pushed_many_times_at_once_succeeds_each_time(tmp_path: Path, world: World) -> None:
    with served(tmp_path, world.open()) as (address, credentials), sign_in(address, credentials) as client:

        def push(number: int) -> int:
            uploads = f"/v2/demo/digits{number % 2}/blobs/uploads/"
            if number % 3:
                return client.post(uploads, params={"digest": DIGEST}, content=CONTENT).status_code
            location = client.post(uploads).headers["location"]
            client.patch(location, content=CONTENT)
            return client.put(location, params={"digest": DIGEST}).status_code

        with ThreadPoolExecutor(8) as pool:
            assert list(pool.map(push, range(12))) == [201] * 12
        for number in range(2):
            assert client.get(f"/v2/demo/digits{number}/blobs/{DIGEST}").content == CONTENT
        assert len(world.contents()) == 1


def test_a_client_that_leaves_in_the_middle_of_a_pull_holds_nothing(tmp_path: Path) -> None:
    with served(tmp_path) as (address, credentials), sign_in(address, credentials) as client:
        client.post(UPLOADS, params={"digest": DIGEST}, content=CONTENT)
        with client.stream("GET", BLOB) as response:
            next(response.iter_raw(1000))
        path = str(FileBlobs(tmp_path / "blobs").path(DIGEST))
        until(lambda: path not in open_files())
        assert client.get(BLOB).content == CONTENT


def open_files() -> set[str]:
    found = set()
    for link in Path("/proc/self/fd").iterdir():
        try:
            found.add(str(link.readlink()))
        except OSError:
            continue
    return found


def test_a_body_that_is_refused_early_does_not_break_the_next_request(tmp_path: Path) -> None:
    with served(tmp_path) as (address, credentials), sign_in(address, credentials) as client:
        for _ in range(3):
            assert client.put(f"{UPLOADS}{'0' * 32}", params={"digest": DIGEST}, content=b"x" * 1000).status_code == 404
            assert client.get("/v2/").status_code == 200
