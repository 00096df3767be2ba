"""Hostile requests over raw sockets: each is answered or cut off in time, and nothing of it stays."""

import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

import httpx
import pytest
from tests.registry.conformance.repository import Repository, described, descriptor, index, refused
from tests.registry.hostile import CORPUS, answers, exchange, fill
from tests.registry.serving import Served, served_apart

from sanderling.oci import MAX_DOCUMENT_BYTES, Digest, media_types

FILES = sorted(CORPUS.glob("*/*.http"))
GROUPS = {
    "-".join(words): list(files)
    for words, files in groupby(FILES, key=lambda path: (path.parent.name, path.stem.partition("-")[0]))
}
UPLOADS = "/v2/demo/x/blobs/uploads/"
CONTENT = b"content" * 3000


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    with served_apart(tmp_path_factory.mktemp("hostile")) as server:
        yield server
        assert "Traceback" not in server.log.read_text()


@pytest.fixture(scope="module")
def http(server: Served) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{server.host}:{server.port}", headers=server.headers, timeout=60) as client:
        yield client


@pytest.fixture
def repository(http: httpx.Client) -> Repository:
    return Repository(http)


def until(is_so: object, *, timeout_s: float = 20) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_so():  # type: ignore[operator]
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)


def send(server: Served, http: httpx.Client, path: Path) -> None:
    """Send a file of the corpus; fail where the answer is not what the README promises."""
    raw = path.read_bytes()
    upload = str(http.post(UPLOADS).headers["location"]) if b"@UPLOAD@" in raw else ""
    for answer in answers(exchange(server, fill(raw, server, upload))):
        assert answer.status < 500 or answer.status in (501, 505), (path.stem, answer)
        assert answer.status >= 400 or path.parent.name == "served", (path.stem, answer)
        if answer.headers.get("content-type") == "application/json" and answer.status >= 400:
            assert answer.code
    if upload:
        assert http.delete(upload).status_code in (204, 409)


@pytest.mark.parametrize("group", GROUPS)
def test_hostile_requests_are_answered_or_cut_off(server: Served, http: httpx.Client, group: str) -> None:
    with ThreadPoolExecutor(8) as pool:
        for done in [pool.submit(send, server, http, path) for path in GROUPS[group]]:
            done.result()
    assert http.get("/v2/").status_code == 200


def test_thousands_of_hostile_requests_leave_nothing_behind(server: Served, http: httpx.Client) -> None:
    quick = [path for path in FILES if not path.stem.startswith(("length", "head", "chunk", "path-raw"))]

    def all_of(times: int) -> None:
        requests = [fill(path.read_bytes(), server) for path in quick] * times
        with ThreadPoolExecutor(8) as pool:
            for came in pool.map(lambda raw: answers(exchange(server, raw)), requests):
                assert all(answer.status < 500 for answer in came)

    all_of(1)
    until(lambda: server.uploads() == 0)
    before, files = server.rss_bytes(), server.open_files()
    all_of(5)
    until(lambda: server.open_files() <= files + 2)
    assert server.uploads() == 0
    assert server.rss_bytes() - before < 24 << 20


# Large documents: in bounded time, in bounded memory


def bombs() -> Iterator[tuple[str, bytes]]:
    size = MAX_DOCUMENT_BYTES
    head = b'{"schemaVersion":2,"mediaType":"%s",' % media_types.OCI_INDEX.encode()
    yield "brackets", b"[" * size
    yield "braces", b'{"a":' * (size // 5)
    yield "empty objects", head + b'"manifests":[' + b"{}," * (size // 3 - 100) + b"{}]}"
    yield "pairs of brackets", b"[]" * (size // 2)
    yield "quotes", b'"' * size
    yield "backslashes", b'"' + b"\\" * (size - 1)
    yield "one long text", head + b'"manifests":[],"x":"' + b"y" * (size - 200) + b'"}'
    yield "escapes", head + b'"manifests":[],"x":"' + b"\\u0041" * ((size - 200) // 6) + b'"}'
    yield "many keys", head + b'"manifests":[]' + b"".join(b',"%d":0' % n for n in range(350_000)) + b"}"
    yield "same keys", head + b'"manifests":[]' + b',"a":0' * 600_000 + b"}"
    yield "long number", head + b'"manifests":[],"x":' + b"1" * (size - 200) + b"}"
    yield "many numbers", head + b'"manifests":[],"x":[' + b"1e9," * ((size - 200) // 4) + b"0]}"
    yield "white space", b" " * size
    yield "surrogates", head + b'"manifests":[],"x":"' + b"\\ud800" * ((size - 200) // 6) + b'"}'


@pytest.mark.parametrize(("name", "raw"), list(bombs()), ids=[name for name, _ in bombs()])
def test_a_large_document_takes_bounded_time(repository: Repository, name: str, raw: bytes) -> None:
    assert len(raw) <= MAX_DOCUMENT_BYTES
    started = time.monotonic()
    response = repository.put(raw, "tag", media_types.OCI_INDEX)
    assert response.status_code == 201 or refused(response, 400, "MANIFEST_INVALID")
    assert time.monotonic() - started < 10


def test_large_documents_leave_no_memory_behind(server: Served, repository: Repository) -> None:
    documents = [raw for name, raw in bombs() if name == "many keys"]
    for raw in documents:
        repository.put(raw, "tag", media_types.OCI_INDEX)
    before = server.rss_bytes()
    for raw in documents * 2:
        repository.put(raw, "tag", media_types.OCI_INDEX)
    assert server.rss_bytes() - before < 64 << 20


# Depth and number


def test_indexes_nest_a_hundred_deep(repository: Repository) -> None:
    document = repository.image()
    for _ in range(100):
        repository.push(document)
        document = index(described(document))
    digest = repository.push(document, "deep")
    assert repository.http.get(repository.manifest("deep")).headers["docker-content-digest"] == digest


def test_indexes_that_double_at_every_level_are_kept(repository: Repository) -> None:
    """What a pull of the last would transfer is more than a 64-bit number counts."""
    left, right = repository.image(b"left"), repository.image(b"right")
    for _ in range(64):
        repository.push(left)
        repository.push(right)
        left, right = (index(described(left), described(right), annotations={"side": side}) for side in ("l", "r"))
    repository.push(left, "doubled")


def test_what_an_index_inherits_is_bounded(server: Served, repository: Repository) -> None:
    """Platforms are listed of an index; many large indexes in one must not make one larger."""
    image = repository.image()
    repository.push(image)
    inner = [
        index(*(described(image, platform={"os": f"{letter}{n}" * 9, "architecture": "\0"}) for n in range(2000)))
        for letter in "ab"
    ]
    for document in inner:
        repository.push(document)
    parts = [described(one) for one in inner]
    before = (server.folder / "sanderling.db").stat().st_size
    document = index(*parts)
    for _ in range(15):
        repository.push(document)
        document = index(described(document), *parts)
    assert (server.folder / "sanderling.db").stat().st_size - before < 8 << 20


def test_ten_thousand_tags_are_paged_through(repository: Repository) -> None:
    raw = json.dumps(repository.image()).encode()
    digest = Digest.of(raw)
    tags = [f"tag-{number:05}" for number in range(10_000)]
    for first in range(0, len(tags), 100):
        assert repository.put(raw, digest, tag=tags[first : first + 100]).status_code == 201
    assert repository.tags() == tags
    found: list[str] = []
    path = f"{repository.path}/tags/list?n=1000"
    while path:
        response = repository.http.get(path)
        found += response.json()["tags"]
        path = response.headers.get("link", "").partition(">")[0].removeprefix("<")
    assert found == tags
    assert repository.http.delete(repository.manifest(digest)).status_code == 202
    assert repository.tags() == []


# Names in Unicode


@pytest.mark.parametrize("text", ["\u00e9", "e\u0301", "\u202eabc", "\ufeff", "\ud7ff", "\U0010fffd", "\x00", "ﬁ", "K"])
def test_any_text_may_be_in_annotations_and_comes_back_as_it_was(repository: Repository, text: str) -> None:
    subject = descriptor(media_types.OCI_MANIFEST, Digest.of(text.encode()), 1)
    annotations = {f"key {text}": text, "é": "composed", "e\u0301": "decomposed"}
    document = repository.artifact(subject=subject, annotations=annotations)
    raw = json.dumps(document, ensure_ascii=False).encode()
    digest = repository.push(raw, "tag")
    assert repository.http.get(repository.manifest("tag")).content == raw
    (listed,) = repository.referrers(subject["digest"]).json()["manifests"]
    assert (listed["digest"], listed["annotations"]) == (digest, annotations)


def test_a_config_with_odd_texts_is_kept(repository: Repository) -> None:
    for config in (
        {"created": "\0" * 100, "os": "\0", "architecture": "\u202e"},
        {"created": "9" * 5000, "os": "x" * 5000, "architecture": {}},
        {"os": [], "rootfs": 5},
    ):
        raw = json.dumps(config).encode()
        image = repository.image()
        image["config"] = descriptor(media_types.OCI_CONFIG, repository.push_blob(raw), len(raw))
        repository.push(image)


# Peers that are slow, or go away


def head(server: Served, method: str, path: str, *lines: str) -> bytes:
    words = [f"{method} {path} HTTP/1.1", "Host: @HOST@", "Authorization: @AUTHORIZATION@", *lines, "", ""]
    return fill("\r\n".join(words).encode(), server)


def test_many_half_requests_do_not_keep_others_waiting(server: Served, http: httpx.Client) -> None:
    files = server.open_files()
    put = head(server, "PUT", "/v2/demo/x/manifests/tag", "Content-Length: 1000")
    halves = (
        put[:40],
        put,
        put + b"{",
        head(server, "POST", f"{UPLOADS}?digest=sha256:{'0' * 64}", "Content-Length: 9"),
    )
    connections = [socket.create_connection((server.host, server.port)) for _ in range(100)]
    for number, connection in enumerate(connections):
        connection.sendall(halves[number % len(halves)])
    started = time.monotonic()
    for _ in range(20):
        assert http.get("/v2/").status_code == 200
    assert time.monotonic() - started < 10
    for connection in connections:
        connection.close()
    until(lambda: server.open_files() <= files + 2)
    until(lambda: server.uploads() == 0)


def test_a_body_that_comes_byte_by_byte_is_taken(server: Served, http: httpx.Client) -> None:
    digest = Digest.of(b"slow")
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        request = head(server, "POST", f"{UPLOADS}?digest={digest}", "Content-Length: 4", "Connection: close")
        for number in range(0, len(request), 50):
            connection.sendall(request[number : number + 50])
        for byte in b"slow":
            time.sleep(0.02)
            connection.sendall(bytes([byte]))
        assert connection.recv(20).startswith(b"HTTP/1.1 201")
    assert http.get(f"/v2/demo/x/blobs/{digest}").content == b"slow"


def test_readers_that_do_not_read_take_no_memory(server: Served, http: httpx.Client, repository: Repository) -> None:
    digest = repository.push_blob(bytes(48 << 20))
    http.get(repository.blob(digest), headers={"Range": "bytes=0-999999"})
    before, files = server.rss_bytes(), server.open_files()
    connections = [socket.create_connection((server.host, server.port)) for _ in range(20)]
    for connection in connections:
        connection.sendall(head(server, "GET", repository.blob(digest)))
    until(lambda: server.open_files() >= files + 20)
    time.sleep(0.5)
    assert server.rss_bytes() - before < 64 << 20
    for connection in connections:
        connection.close()
    until(lambda: server.open_files() <= files + 2)


def test_a_client_that_waits_to_continue_is_told_before_it_sends(server: Served) -> None:
    digest = Digest.of(CONTENT)
    lines = (f"Content-Length: {len(CONTENT)}", "Expect: 100-continue")
    with socket.create_connection((server.host, server.port), timeout=10) as connection:
        connection.sendall(head(server, "POST", f"/v2/demo/continue/blobs/uploads/?digest={digest}", *lines))
        assert connection.recv(100).startswith(b"HTTP/1.1 100 ")
        connection.sendall(CONTENT)
        assert connection.recv(20).startswith(b"HTTP/1.1 201 ")
    for path, status in (("/v2/other/x/blobs/uploads/", 403), (f"{UPLOADS}?digest=x", 400), (f"{UPLOADS}none", 405)):
        with socket.create_connection((server.host, server.port), timeout=10) as connection:
            connection.sendall(head(server, "POST", path, *lines))
            assert connection.recv(20).startswith(f"HTTP/1.1 {status} ".encode())
