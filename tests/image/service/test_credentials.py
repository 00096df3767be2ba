"""Credentials of private indexes, of the registry and of the signing key are in nothing that stays or is shown.

A build by the service, with two indexes that want passwords and a registry that is a process of its own. Then all
that it left is searched: blobs unpacked, logs, records, databases, cache, and the command lines while it ran.
"""

import base64
import gzip
import io
import json
import re
import tarfile
import threading
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import quote

import pytest

from sanderling.image import ImageBuild, ImageBuilds, PushTarget, SourceFile
from sanderling.sdk.image_attachments import list_attachments
from sanderling.sdk.image_copy import Side
from sanderling.sdk.registry_auth import RegistryAccount
from sanderling.signatures.keys import SigningKey
from tests.image.packages.index_server import Index
from tests.image.service.test_builds import MakeBuilds, engine, make_builds, wait
from tests.image.service.test_endings import of_build, warm_cache
from tests.registry_process import RegistryProcess, running_registry

__all__ = ["engine", "make_builds", "warm_cache"]  # fixtures

pytestmark = [pytest.mark.network, pytest.mark.timeout(900)]

VARIABLE, FILE = "p@ss/w0rd-of-variable", "tok3n:of-the-file"
BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{40,}={0,2}")


def forms(user: str, password: str) -> dict[bytes, str]:
    """How a password may be written, each with a name for it."""
    both = f"{user}:{password}"
    return {
        password.encode(): f"the password of {user}",
        quote(password, safe="").encode(): f"the password of {user}, quoted",
        json.dumps(password)[1:-1].encode(): f"the password of {user}, in JSON",
        base64.b64encode(both.encode()).rstrip(b"="): f"the header of {user}",
    }


def layers_of(raw: bytes) -> Iterator[bytes]:
    """*raw*, and what is packed in it: gzip, the files of tars and their names, base64 in documents, zlib in bodies."""
    yield raw
    if raw[:2] == b"\x1f\x8b":
        plain = gzip.decompress(raw)
        yield plain
        with suppress(tarfile.TarError), tarfile.open(fileobj=io.BytesIO(plain)) as tar:
            for member in tar:
                file = tar.extractfile(member) if member.isfile() else None
                yield from layers_of(file.read()) if file is not None and member.name.endswith(".gz") else ()
    if raw[:1] in b"{[" and len(raw) < 4 << 20:
        for found in BASE64.findall(raw):
            with suppress(ValueError):
                yield base64.b64decode(found + b"=" * (-len(found) % 4))
    if raw[:1] == b"\x78":
        with suppress(zlib.error):
            yield zlib.decompress(raw)


def search(folder: Path, secrets: Mapping[bytes, str]) -> list[str]:
    """What of *secrets* is in the files below *folder*, names included, and where."""
    found = []
    for path in (path for path in sorted(folder.rglob("*")) if path.is_file()):
        for raw in (str(path).encode(), *layers_of(path.read_bytes())):
            found += [f"{path}: {name}" for secret, name in secrets.items() if secret in raw]
    return found


@contextmanager
def watched(folder: Path) -> Iterator[set[bytes]]:
    """The command lines of all processes of builds below *folder*, while the block runs."""
    seen: set[bytes] = set()
    stop = threading.Event()

    def look() -> None:
        while not stop.wait(0.005):
            seen.update(of_build(folder))

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        stop.set()
        thread.join()


@contextmanager
def indexes(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Index, str]]:
    """Two indexes: the server's own, whose user is in its variable, and one that the environment's file names."""
    own, named = Index(), Index()
    own.wheel("mine", "1.0", requires=["other"])
    named.wheel("other", "0.5")
    own.lock_with("variable", VARIABLE)
    named.lock_with("file", FILE)
    with own.serving() as first, named.serving() as second:
        monkeypatch.setenv("UV_INDEX_URL", f"http://variable:{quote(VARIABLE, safe='')}@{first}/simple/")
        yield own, f"http://file:{quote(FILE, safe='')}@{second}/simple/"


def built(builds: ImageBuilds, folder: Path, number: int, url: str, package: str) -> ImageBuild:
    environment = folder / f"environment-{number}.yml"
    environment.write_text(f"dependencies:\n  - pip:\n    - --extra-index-url {url}\n    - {package}\n")
    script = SourceFile("score.py", folder / "score.py")
    return wait(builds, builds.create("demo", "digits", script=script, environment=environment))


def test_no_credential_stays_anywhere(
    make_builds: MakeBuilds, tmp_path: Path, score: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = SigningKey.generate().private_pem().decode()
    home = tmp_path / "home"
    home.mkdir()
    with running_registry(home / "registry", "--http") as registry, indexes(monkeypatch) as (own, url):
        target = PushTarget(registry.login_server, username="admin", password=registry.password, plain_http=True)
        builds = make_builds(target, signing_key=lambda _: key)
        builds.start()
        with watched(tmp_path) as lines:
            done = built(builds, tmp_path, 1, url, "mine")
            absent = built(builds, tmp_path, 2, url, "not-anywhere==3.0")
            own.lock_with("variable", "changed meanwhile")
            refused = built(builds, tmp_path, 3, url, "mine>=0.9")
        assert done.error is None
        assert [build.state for build in (done, absent, refused)] == ["succeeded", "failed", "failed"]
        shown = json.dumps([[build.to_json(), dict(build.record)] for build in (done, absent, refused)])
        told = json.dumps(
            [builds.read_log("demo", "digits", number).to_json() for number in (1, 2, 3)], ensure_ascii=False
        )
        kinds = {one.kind for one in list_attachments(done.location, side=side_of(registry))}
        secrets = forms("variable", VARIABLE) | forms("file", FILE)
        ours = forms("admin", registry.password) | {key.splitlines()[1].encode(): "the private key"}
    assert kinds == {"lock", "sbom", "provenance", "signature", "attestation"}
    assert "mine 1.0" in told  # it is the log of what was built
    everywhere = secrets | ours
    assert any(b"sanderling.image" in line for line in lines)
    assert any(b"pip\0compile" in line for line in lines)  # uv was seen, too
    assert [name for secret, name in everywhere.items() for line in lines if secret in line] == []
    assert [name for secret, name in everywhere.items() if secret in (shown + told).encode()] == []
    assert search(tmp_path / "builds", everywhere) == []
    for database in tmp_path.glob("builds.db*"):
        assert [name for secret, name in everywhere.items() if secret in database.read_bytes()] == []
    assert sum(path.is_file() for path in (home / "registry").rglob("*")) > 15
    assert search(home / "registry", secrets) == []
    for folder in ("locks", "pushed", "uv"):  # downloads and layers are what the image is made of
        assert search(shared_cache / folder, everywhere) == []


def side_of(registry: RegistryProcess) -> Side:
    return Side(RegistryAccount("admin", registry.password), is_plain_http=True)


def test_the_search_finds_what_is_packed(tmp_path: Path) -> None:
    secrets = forms("user", "p@ss")
    payload = {"payload": base64.b64encode(b'{"url": "https://user:p%40ss@host/simple", "more": "......."}').decode()}
    inside = io.BytesIO()
    with tarfile.open(fileobj=inside, mode="w:gz") as tar:
        member = tarfile.TarInfo("usr/lib/pip.conf")
        member.size = 4
        tar.addfile(member, io.BytesIO(b"p@ss"))
    (tmp_path / "bundle").write_text(json.dumps(payload))
    (tmp_path / "layer").write_bytes(inside.getvalue())
    assert {line.rpartition("/")[2].partition(":")[0] for line in search(tmp_path, secrets)} == {"bundle", "layer"}
