import base64
import hashlib
import random
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from sanderling.blobs import FileBlobs
from sanderling.errors import Denied, Invalid, NotFound
from sanderling.image import Event, Log
from sanderling.image.downloads import DownloadFailed, Downloads, Source, WrongContent
from sanderling.oci import Digest
from tests.image.servers import FileServer, serving

DATA = random.Random(7).randbytes(900_000)


def source(host: str, path: str = "/a.whl", data: bytes = DATA, **changes: object) -> Source:
    values: dict[str, object] = {"digest": Digest.of(data), "size_bytes": len(data)} | changes
    return Source("a.whl", f"http://{host}{path}", **values)  # type: ignore[arg-type]


@pytest.fixture
def downloads(tmp_path: Path, log: Log) -> Iterator[Downloads]:
    made = Downloads(FileBlobs(tmp_path / "downloads"), log, attempts=4, first_pause_s=0.01)
    yield made
    made.close()


def test_a_file_is_fetched_once_and_then_found(downloads: Downloads, events: list[Event]) -> None:
    server = FileServer({"/a.whl": DATA})
    with serving(server.handler()) as host:
        for _ in range(2):
            digests = downloads.ensure_all([source(host)], "wheels", "1 wheel")
    assert downloads.blobs.read(digests["a.whl"]) == DATA
    assert len(server.seen) == 1
    assert (events[-1].bytes, events[-1].total_bytes) == (len(DATA), len(DATA))


def test_a_connection_that_breaks_is_taken_up_where_it_broke(downloads: Downloads, events: list[Event]) -> None:
    server = FileServer({"/a.whl": DATA}, {"/a.whl": ["cut", "503", "cut"]})
    with serving(server.handler()) as host:
        downloads.ensure_all([source(host)], "wheels", "1 wheel")
    assert downloads.blobs.find(Digest.of(DATA)) is not None
    assert [requested is None for _, requested in server.seen] == [True, False, False, False]
    assert any(event.level == "warning" and "trying again" in event.text for event in events)


def test_a_server_without_ranges_is_served_too(downloads: Downloads) -> None:
    server = FileServer({"/a.whl": DATA}, {"/a.whl": ["cut", "no-range"]})
    with serving(server.handler()) as host:
        downloads.ensure_all([source(host)], "wheels", "1 wheel")
    assert downloads.blobs.read(Digest.of(DATA)) == DATA


def test_a_network_that_stays_cut_is_said_and_leaves_the_cache_sound(downloads: Downloads) -> None:
    server = FileServer({"/a.whl": DATA, "/b": b"b"}, {"/a.whl": ["cut"] + ["503"] * 20})
    with serving(server.handler()) as host:
        with pytest.raises(DownloadFailed, match=r"a\.whl could not be fetched from http://127") as caught:
            downloads.ensure_all([source(host)], "wheels", "1 wheel")
        assert list(downloads.blobs.digests()) == []
        assert caught.value.name == "a.whl"
        downloads.ensure_all([source(host, "/b", b"b")], "wheels", "1 wheel")


def test_a_mirror_that_has_an_older_shorter_file_is_asked_once(downloads: Downloads, events: list[Event]) -> None:
    server = FileServer({"/a.whl": DATA[:800_000]})
    with serving(server.handler()) as host:
        with pytest.raises(DownloadFailed, match=r"has 800000 bytes, and its index promises 900000; .* another mirror"):
            downloads.ensure_all([source(host)], "wheels", "1 wheel")
    assert len(server.seen) == 1
    assert not [event for event in events if "trying again" in event.text]


def test_a_wrong_file_is_fetched_once_more_and_then_refused(downloads: Downloads) -> None:
    server = FileServer({"/a.whl": DATA}, {"/a.whl": ["wrong"]})
    with serving(server.handler()) as host:
        downloads.ensure_all([source(host)], "wheels", "1 wheel")
        server.faults["/b"] = ["wrong", "wrong"]
        server.files["/b"] = DATA[:1000]
        with pytest.raises(WrongContent, match="was promised"):
            downloads.ensure_all([source(host, "/b", DATA[:1000])], "wheels", "1 wheel")


def test_more_bytes_than_promised_are_not_taken(downloads: Downloads) -> None:
    with serving(FileServer({"/a.whl": DATA}).handler()) as host:
        with pytest.raises(Invalid, match="larger than the 10 bytes"):
            downloads.ensure_all([source(host, size_bytes=10)], "wheels", "1 wheel")


def test_a_file_whose_size_is_not_known_is_fetched_too(downloads: Downloads) -> None:
    with serving(FileServer({"/a.whl": DATA}, {"/a.whl": ["503"]}).handler()) as host:
        digests = downloads.ensure_all([source(host, digest=None, size_bytes=None)], "wheels", "1 wheel")
    assert digests == {"a.whl": Digest.of(DATA)}


def test_a_missing_file_is_named(downloads: Downloads) -> None:
    with serving(FileServer({}).handler()) as host:
        with pytest.raises(NotFound, match="is not there"):
            downloads.ensure_all([source(host)], "wheels", "1 wheel")


def test_credentials_go_to_their_host_as_a_header(tmp_path: Path, log: Log, events: list[Event]) -> None:
    server = FileServer({"/a.whl": DATA})
    server.login = base64.b64encode(b"me:secret").decode()
    with serving(server.handler()) as host:
        with closing(Downloads(FileBlobs(tmp_path / "a"), log)) as downloads:
            with pytest.raises(Denied, match="UV_INDEX_URL"):
                downloads.ensure_all([source(host)], "wheels", "1")
        with closing(Downloads(FileBlobs(tmp_path / "b"), log, {host: ("me", "secret")})) as downloads:
            downloads.ensure_all([source(host)], "wheels", "1")
    assert not [event for event in events if "secret" in event.text]


def test_files_of_this_machine_are_copied_and_verified(tmp_path: Path, downloads: Downloads) -> None:
    path = tmp_path / "a b.whl"
    path.write_bytes(DATA)
    digest = Digest(f"sha256:{hashlib.sha256(DATA).hexdigest()}")
    downloads.ensure_all([Source("a", path.as_uri(), digest, None)], "wheels", "1")
    assert downloads.blobs.find(digest) is not None
    with pytest.raises(NotFound, match="cannot be read"):
        downloads.ensure_all([Source("b", (tmp_path / "gone").as_uri(), None, None)], "wheels", "1")
