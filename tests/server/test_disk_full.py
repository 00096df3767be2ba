"""A server whose disk is full, whose clients go away, whose quota is used up: true disk, true clients."""

from __future__ import annotations

import base64
import json
import os
import shutil
import socket
import ssl
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.dockerd import running_dockerd
from tests.registry.clients.images import Layout, tar_of
from tests.server.test_joined import MANIFEST, digest_of, login_server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx
    from tests.server.conftest import RunningServer

    MakeServer = Callable[..., RunningServer]

SKOPEO, DOCKER = shutil.which("skopeo"), shutil.which("docker")
UPLOADS = "/v2/demo/digits/blobs/uploads/"
DISK_BYTES = 16 << 20
MIB = 1 << 20


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 16 MiB."""
    if os.geteuid() != 0:
        pytest.skip("a small disk is mounted by root alone")
    folder = tmp_path / "disk"
    folder.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "none", folder],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        pytest.skip(f"no disk can be mounted here: {done.stderr.strip()}")
    yield folder
    subprocess.run(["umount", "--lazy", folder], check=True)


def uploads_of(data: Path) -> list[Path]:
    return list((data / "blobs" / "registry" / "uploads").glob("*"))


def code_of(answer: httpx.Response) -> tuple[int, str, str]:
    (error,) = answer.json()["errors"]
    return answer.status_code, error["code"], error["message"]


def push(registry: httpx.Client, tag: str) -> None:
    """Push an image of one small layer."""
    config = json.dumps({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}).encode()
    for content in (config, b"layer"):
        answer = registry.post(UPLOADS, params={"digest": digest_of(content)}, content=content)
        assert answer.status_code == 201, answer.text
    part = "application/vnd.oci.image"
    manifest = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": f"{part}.config.v1+json", "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": f"{part}.layer.v1.tar", "digest": digest_of(b"layer"), "size": 5}],
    }
    headers = {"Content-Type": MANIFEST}
    answer = registry.put(f"/v2/demo/digits/manifests/{tag}", content=json.dumps(manifest), headers=headers)
    assert answer.status_code == 201, answer.text


def ready(server: RunningServer) -> httpx.Client:
    registry = server.api
    assert registry.post("/api/v1/workspaces", json={"name": "demo"}).status_code == 201
    push(registry, "1")
    return registry


def test_on_a_full_disk_a_push_is_refused_leaves_nothing_and_pulls_go_on(
    make_server: MakeServer, small_disk: Path
) -> None:
    data = small_disk / "data"
    registry = ready(make_server(data))
    for way in ("post", "put", "patch", "stream"):
        refuse_on_a_full_disk(registry, data, way)
        assert registry.get("/v2/demo/digits/manifests/1").status_code == 200
    push(registry, "2")


def refuse_on_a_full_disk(registry: httpx.Client, data: Path, way: str) -> None:
    content = os.urandom(DISK_BYTES)
    parameters = {"digest": digest_of(content)}
    if way == "post":
        answer = registry.post(UPLOADS, params=parameters, content=content)
    else:
        where = registry.post(UPLOADS).headers["location"]
        if way == "put":
            answer = registry.put(where, params=parameters, content=content)
        else:
            pieces = (content[start : start + MIB] for start in range(0, len(content), MIB))
            answer = registry.patch(where, content=content if way == "patch" else pieces)
    status, code, message = code_of(answer)
    assert (status, code) == (507, "UNAVAILABLE")
    assert "the disk is full" in message
    deadline = time.monotonic() + 10
    while uploads_of(data):
        assert time.monotonic() < deadline, "what arrived is still there"
        time.sleep(0.05)


def test_a_database_without_room_says_so_and_pulls_go_on(make_server: MakeServer, small_disk: Path) -> None:
    server = make_server(small_disk / "data")
    registry = ready(server)
    config = registry.get("/v2/demo/digits/manifests/1").json()["config"]["digest"]
    manifest = registry.get("/v2/demo/digits/manifests/1").content
    ballast = small_disk / "ballast"
    with ballast.open("wb", buffering=0) as file:
        try:
            while True:
                file.write(b"\0" * 4096)
        except OSError:
            pass
    answers = []
    for number in range(300):  # what the database has left of its own files goes first
        large = manifest[:-1] + b',"annotations":{"n":"%d%s"}}' % (number, b"x" * 100_000)
        answers.append(
            registry.put(f"/v2/demo/digits/manifests/t{number}", content=large, headers={"Content-Type": MANIFEST})
        )
        if answers[-1].status_code != 201:
            break
    status, code, message = code_of(answers[-1])
    assert (status, code) == (507, "UNAVAILABLE")
    assert "the disk is full" in message
    assert registry.get("/v2/demo/digits/manifests/1").content == manifest
    assert registry.get(f"/v2/demo/digits/blobs/{config}").status_code == 200
    refused = registry.post(UPLOADS, params={"digest": digest_of(b"x")}, content=b"x")
    assert code_of(refused)[:2] == (507, "UNAVAILABLE")
    assert uploads_of(small_disk / "data") == []
    ballast.unlink()
    push(registry, "3")
    assert "Traceback" not in server.errors()


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_client_that_goes_away_leaves_nothing_half_written(make_server: MakeServer, method: str) -> None:
    server = make_server()
    registry = ready(server)
    path = f"{UPLOADS}?digest={digest_of(b'')}"
    if method == "PUT":
        path = f"{registry.post(UPLOADS).headers['location']}?digest={digest_of(b'')}"
    host, _, port = login_server(server).partition(":")
    context = ssl.create_default_context(cafile=str(server.data / "tls" / "ca.pem"))
    lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Authorization: Bearer {server.token}", "Content-Length: 9000000"]
    head = "\r\n".join([*lines, "", ""])
    with context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host) as client:
        client.sendall(head.encode() + b"x" * 3_000_000)
        time.sleep(0.3)
    deadline = time.monotonic() + 20
    left = 0 if method == "POST" else 1  # an upload that was begun goes on where it ended
    while len(uploads_of(server.data)) != left:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    if method == "PUT":
        status = registry.get(path.partition("?")[0])
        assert status.status_code == 204
        assert status.headers["range"] == f"0-{uploads_of(server.data)[0].stat().st_size - 1}"
    assert registry.head(f"/v2/demo/digits/blobs/{digest_of(b'')}").status_code == 404


def test_a_quota_ends_a_body_of_unknown_length_where_it_is_used_up(make_server: MakeServer) -> None:
    server = make_server()
    registry = ready(server)
    assert registry.put("/api/v1/workspaces/demo/registry/quota", json={"limitBytes": 5 * MIB}).status_code == 200
    where = registry.post(UPLOADS).headers["location"]
    answer = registry.patch(where, content=(os.urandom(MIB) for _ in range(12)))
    status, code, message = code_of(answer)
    assert (status, code) == (403, "DENIED")
    assert "workspace demo may hold 5.2 MB" in message
    assert uploads_of(server.data) == []
    assert registry.get(where).status_code == 404
    whole = os.urandom(4 * MIB)
    assert registry.post(UPLOADS, params={"digest": digest_of(whole)}, content=whole).status_code == 201
    # What the workspace has already takes no more room; what would, is refused before it is sent.
    again = registry.post("/v2/demo/other/blobs/uploads/", params={"digest": digest_of(whole)}, content=whole)
    assert again.status_code == 201
    more = os.urandom(2 * MIB)
    assert registry.post(UPLOADS, params={"digest": digest_of(more)}, content=more).status_code == 403


def full_workspace(server: RunningServer) -> str:
    """Give the workspace a quota of 1 MiB; return the admin user's password."""
    registry = ready(server)
    registry.put("/api/v1/workspaces/demo/registry/quota", json={"limitBytes": MIB})
    registry.post("/api/v1/workspaces/demo/registry/admin-user", json={"enabled": True})
    return str(registry.get("/api/v1/workspaces/demo/registry/credentials").json()["passwords"][0]["value"])


@pytest.mark.skipif(SKOPEO is None, reason="skopeo is not installed (Debian: apt-get install skopeo)")
def test_skopeo_shows_what_the_quota_says(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server()
    password = full_workspace(server)
    layout = Layout(tmp_path / "in")
    image = layout.tag(layout.image(tar_of({"model.pkl": os.urandom(3_000_000)})))
    (tmp_path / "certs").mkdir()
    shutil.copy(server.data / "tls" / "ca.pem", tmp_path / "certs" / "ca.crt")
    (tmp_path / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
    command = [str(SKOPEO), f"--policy={tmp_path}/policy.json", "copy", f"--dest-cert-dir={tmp_path}/certs"]
    command += [f"--dest-creds=demo:{password}", image, f"docker://{login_server(server)}/demo/big:1"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode != 0
    assert "may hold 1.0 MB in the registry" in done.stderr, done.stderr


@pytest.mark.docker
@pytest.mark.skipif(DOCKER is None, reason="docker is not installed (Debian: apt-get install docker-cli)")
def test_docker_shows_what_the_quota_says(make_server: MakeServer, tmp_path: Path) -> None:
    server = make_server()
    auth = base64.b64encode(f"demo:{full_workspace(server)}".encode()).decode()
    (tmp_path / "config.json").write_text(json.dumps({"auths": {login_server(server): {"auth": auth}}}))
    (tmp_path / "layer.tar").write_bytes(tar_of({"model.pkl": os.urandom(3_000_000)}))
    name = f"{login_server(server)}/demo/big:1"
    with running_dockerd("--insecure-registry", login_server(server)) as address:
        docker = [str(DOCKER), "--host", address, "--config", str(tmp_path)]
        subprocess.run([*docker, "import", str(tmp_path / "layer.tar"), name], check=True, capture_output=True)
        done = subprocess.run([*docker, "push", name], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "denied: workspace demo may hold 1.0 MB in the registry" in done.stderr, done.stderr
