"""Choosing packages, over a signed archive of our own behind a real HTTP server."""

import hashlib
import lzma
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pysequoia import SignatureMode, Tsk, sign

from sanderling.blobs import FileBlobs
from sanderling.errors import Invalid, NotFound, Unavailable
from sanderling.image import Event, Log
from sanderling.image.debian.archive import DebianArchive, PackageGone
from sanderling.image.debian.lock import LockInvalid, read_locks, write_locks
from sanderling.image.debian.mirrors import Mirrors
from sanderling.image.debian.release import ReleaseRefused
from sanderling.image.debian.versions import BOOKWORM, TRIXIE, DebianVersion
from sanderling.image.downloads import Downloads, WrongContent
from tests.image.servers import FileServer, serving

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
MakeArchive = Callable[..., DebianArchive]


@pytest.fixture(scope="module")
def key() -> Tsk:
    return Tsk.generate("Archive <archive@example.org>")


def packages(version: str, debian: DebianVersion = BOOKWORM) -> bytes:
    stanzas = []
    for name in debian.wanted:
        content = f"{name} {version}".encode()
        sha256 = hashlib.sha256(content).hexdigest()
        stanzas.append(
            f"Package: {name}\nVersion: {version}\nFilename: pool/{name}_{version}.deb\n"
            f"SHA256: {sha256}\nSize: {len(content)}\n"
        )
    return "\n".join(stanzas).encode()


def publish(
    server: FileServer,
    key: Tsk,
    *,
    main: str,
    security: str,
    date: datetime = NOW,
    debian: DebianVersion = BOOKWORM,
    architecture: str = "amd64",
) -> None:
    """Put suites with these versions of every package on the server."""
    for suite in debian.suites:
        archive = suite.archive
        version = security if archive == "security" else main
        index = lzma.compress(packages(version, debian))
        sha256 = hashlib.sha256(index).hexdigest()
        text = (
            f"Codename: {suite.name}\nDate: {date:%a, %d %b %Y %H:%M:%S} UTC\nAcquire-By-Hash: yes\n"
            f"Valid-Until: {date + timedelta(days=7):%a, %d %b %Y %H:%M:%S} UTC\n"
            f"SHA256:\n {sha256} {len(index)} main/binary-{architecture}/Packages.xz\n"
        )
        root = f"/{archive}/dists/{suite.name}"
        server.files[f"{root}/InRelease"] = sign(key.signer(), text.encode(), mode=SignatureMode.CLEAR)
        server.files[f"{root}/main/binary-{architecture}/by-hash/SHA256/{sha256}"] = index
        for name in debian.wanted:
            server.files[f"/{archive}/pool/{name}_{version}.deb"] = f"{name} {version}".encode()


@pytest.fixture
def archive_at(tmp_path: Path, log: Log, key: Tsk) -> Callable[..., object]:
    @contextmanager
    def at(host: str, now: datetime = NOW, **more: Any) -> Iterator[DebianArchive]:
        mirrors = Mirrors(f"http://{host}/main", f"http://{host}/security")
        with closing(Downloads(FileBlobs(tmp_path / "downloads"), log, attempts=2, first_pause_s=0.01)) as downloads:
            yield DebianArchive(
                tmp_path, downloads, mirrors, log, now=lambda: now, certs=lambda _: [key.extract_certificate()], **more
            )

    return at


def test_the_newest_versions_are_chosen_and_fetched_from_their_archive(archive_at: MakeArchive, key: Tsk) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    with serving(server.handler()) as host, archive_at(host) as archive:
        lock = archive.lock("amd64")
        files = archive.fetch(lock)
    assert {package.version for package in lock.packages} == {"1.1"}
    assert files["libc6"].read_bytes() == b"libc6 1.1"


def test_a_choice_serves_for_a_day_without_a_network(archive_at: MakeArchive, key: Tsk) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    with serving(server.handler()) as host, archive_at(host) as archive:
        first = archive.lock("amd64")
        archive.fetch(first)
    with archive_at("127.0.0.1:9", NOW + timedelta(hours=23)) as archive:
        assert archive.lock("amd64") == first
        assert archive.fetch(first)["libc6"].exists()


def test_an_older_choice_serves_when_no_mirror_answers_and_the_log_says_so(
    archive_at: MakeArchive, key: Tsk, events: list[Event]
) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    with serving(server.handler()) as host, archive_at(host) as archive:
        first = archive.lock("amd64")
    with archive_at("127.0.0.1:9", NOW + timedelta(days=9)) as archive:
        assert archive.lock("amd64").identity() == first.identity()
    assert "chosen at 2026-11-22" in [event.text for event in events if event.level == "warning"][-1]


def test_a_newer_archive_is_used_after_a_day_and_an_older_one_never(archive_at: MakeArchive, key: Tsk) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    with serving(server.handler()) as host:
        with archive_at(host) as archive:
            archive.lock("amd64")
        publish(server, key, main="1.0", security="1.2", date=NOW + timedelta(days=1))
        with archive_at(host, NOW + timedelta(days=2)) as archive:
            assert {package.version for package in archive.lock("amd64").packages} == {"1.2"}
        publish(server, key, main="1.0", security="1.1", date=NOW)
        with archive_at(host, NOW + timedelta(days=4)) as archive:
            with pytest.raises(ReleaseRefused, match="older than one seen before"):
                archive.lock("amd64")


def test_without_a_mirror_and_without_an_older_choice_it_is_unavailable(archive_at: MakeArchive) -> None:
    with archive_at("127.0.0.1:9") as archive, pytest.raises(Unavailable, match="could not be fetched"):
        archive.lock("amd64")


def test_an_index_that_is_not_the_promised_one_is_refused(archive_at: MakeArchive, key: Tsk) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    for path in [path for path in server.files if "by-hash" in path]:
        server.files[path] = bytes(len(server.files[path]))
    with serving(server.handler()) as host, archive_at(host) as archive:
        with pytest.raises(WrongContent):
            archive.lock("amd64")


def test_an_index_that_grew_is_refused(archive_at: MakeArchive, key: Tsk) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    for path in [path for path in server.files if "by-hash" in path]:
        server.files[path] += bytes(1000)
    with serving(server.handler()) as host, archive_at(host) as archive:
        with pytest.raises(Invalid, match=r"larger than the [0-9]+ bytes its index promised"):
            archive.lock("amd64")


def test_an_index_that_is_not_there_by_its_hash_is_taken_by_its_name(archive_at: MakeArchive, key: Tsk) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    for path in [path for path in server.files if "by-hash" in path]:
        server.files[f"{path.partition('/by-hash')[0]}/Packages.xz"] = server.files.pop(path)
    with serving(server.handler()) as host, archive_at(host) as archive:
        assert {package.version for package in archive.lock("amd64").packages} == {"1.1"}


def test_a_mirror_without_the_index_is_named(archive_at: MakeArchive, key: Tsk) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    for path in [path for path in server.files if "by-hash" in path]:
        del server.files[path]
    with serving(server.handler()) as host, archive_at(host) as archive:
        with pytest.raises(NotFound, match="bookworm amd64 index"):
            archive.lock("amd64")


def test_an_index_that_is_cut_or_is_no_xz_is_refused_although_it_is_the_promised_one(
    archive_at: MakeArchive, key: Tsk, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = lzma.compress
    for compress, words in ((lambda text: whole(text)[:-20], "is cut"), (lambda text: text, "cannot be unpacked")):
        server = FileServer({})
        with monkeypatch.context() as patch:
            patch.setattr(lzma, "compress", compress)
            publish(server, key, main="1.0", security="1.1")
        with serving(server.handler()) as host, archive_at(host) as archive:
            with pytest.raises(ReleaseRefused, match=words):
                archive.lock("amd64")


def test_what_was_seen_for_one_architecture_holds_for_another_and_for_a_lock_that_is_lost(
    archive_at: MakeArchive, key: Tsk, tmp_path: Path
) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    with serving(server.handler()) as host:
        with archive_at(host) as archive:
            archive.lock("amd64")
        publish(server, key, main="1.0", security="1.0", date=NOW - timedelta(days=1), architecture="arm64")
        for lost in tmp_path.glob("base/*64.json"):
            lost.unlink()
        with archive_at(host) as archive, pytest.raises(ReleaseRefused, match="older than one seen before"):
            archive.lock("arm64")


def test_all_architectures_of_a_build_go_by_one_release_file(archive_at: MakeArchive, key: Tsk) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    with serving(server.handler()) as host, archive_at(host) as archive:
        archive.lock("amd64")
        with pytest.raises(Invalid, match="has no packages for arm64"):
            archive.lock("arm64")
    assert len([path for path, _ in server.seen if path.endswith("InRelease")]) == len(BOOKWORM.suites)


def test_debian_13_has_suites_packages_and_a_lock_of_its_own(archive_at: MakeArchive, key: Tsk, tmp_path: Path) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1", debian=TRIXIE)
    with serving(server.handler()) as host, archive_at(host, version=TRIXIE) as archive:
        lock = archive.lock("amd64")
    assert lock.debian is TRIXIE
    assert "libpython3.13-stdlib" in {package.name for package in lock.packages}
    assert [path.name for path in tmp_path.glob("base/*64.json")] == ["trixie-amd64.json"]
    with archive_at("127.0.0.1:9", version=TRIXIE) as archive:
        assert archive.lock("amd64") == lock


def test_a_lock_that_was_handed_over_needs_no_network_whatever_its_age(archive_at: MakeArchive, key: Tsk) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    with serving(server.handler()) as host, archive_at(host) as archive:
        first = archive.lock("amd64")
        archive.fetch(first)
    given = read_locks(write_locks([first]), "base.lock.json")
    with archive_at("127.0.0.1:9", NOW + timedelta(days=900), given=given) as archive:
        assert archive.lock("amd64") == first
        assert archive.fetch(first)["libc6"].read_bytes() == b"libc6 1.1"
        with pytest.raises(LockInvalid, match="it is for amd64, and arm64 is wanted"):
            archive.lock("arm64")


def test_a_package_that_neither_cache_nor_mirror_have_is_named_with_the_way_out(
    archive_at: MakeArchive, key: Tsk
) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    with serving(server.handler()) as host:
        with archive_at(host) as archive:
            lock = archive.lock("amd64")
        del server.files["/security/pool/netbase_1.1.deb"]
        with archive_at(host, given={"amd64": lock}) as archive:
            with pytest.raises(PackageGone, match=r"netbase 1\.1 of the base lock of 2026-11-22"):
                archive.fetch(lock)


def test_a_damaged_package_of_the_cache_is_fetched_anew(archive_at: MakeArchive, key: Tsk) -> None:
    server = FileServer({})
    publish(server, key, main="1.0", security="1.1")
    with serving(server.handler()) as host, archive_at(host) as archive:
        lock = archive.lock("amd64")
        path = archive.fetch(lock)["libc6"]
        path.write_bytes(b"libc6 9.9")
        assert archive.fetch(lock)["libc6"].read_bytes() == b"libc6 1.1"
