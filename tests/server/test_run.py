from __future__ import annotations

import json
import signal
import socket
import ssl
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

if TYPE_CHECKING:
    from tests.server.conftest import RunningServer

    MakeServer = Callable[..., RunningServer]


# Half of this on a machine that is not busy with other tests.
STOP_S = 6


def start_and_fail(data: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sanderling.server", "--data", str(data), "--host", "127.0.0.1", *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_a_restart_keeps_everything(make_server: MakeServer) -> None:
    server = make_server()
    server.api.post("/api/v1/workspaces", json={"name": "demo"})
    digest = server.send("demo", b"model")
    files = [{"path": "m", "digest": digest, "size": 5}]
    made = server.api.post("/api/v1/workspaces/demo/models", json={"name": "digits", "files": files}).json()
    token, ca = server.token, (server.data / "tls" / "ca.pem").read_bytes()
    code = str(server.info["signInUrl"]).partition("#")[2]
    server.stop()
    again = make_server()
    assert (again.token, (again.data / "tls" / "ca.pem").read_bytes()) == (token, ca)
    assert again.api.get("/api/v1/workspaces/demo/models/digits").json() == made
    assert again.anyone.post("/api/v1/sign-in", json={"code": code}).status_code == 200


def test_a_stop_is_quick_and_clean_even_with_a_slow_upload_under_way(make_server: MakeServer) -> None:
    server = make_server()
    server.api.post("/api/v1/workspaces", json={"name": "demo"})
    slow = begin_upload(server, b"x" * 1000, promised=2000)
    assert server.stop() < STOP_S
    assert server.process is not None
    assert server.process.returncode == 0, server.errors()
    assert "Traceback" not in server.errors()
    slow.close()
    assert list((server.data / "blobs" / "workspace" / "uploads").iterdir()) == []


def test_ctrl_c_ends_like_sigterm(make_server: MakeServer) -> None:
    server = make_server()
    assert server.stop(signal.SIGINT) < STOP_S
    assert server.process is not None
    assert (server.process.returncode, server.errors()) == (0, "")


def begin_upload(server: RunningServer, part: bytes, promised: int) -> ssl.SSLSocket:
    """Send the head and the first *part* of an upload whose rest never comes."""
    context = ssl.create_default_context(cafile=str(server.data / "tls" / "ca.pem"))
    url = httpx.URL(str(server.info["url"]))
    raw = socket.create_connection(("127.0.0.1", url.port or 443), timeout=10)
    connection = context.wrap_socket(raw, server_hostname="localhost")
    digest = f"sha256:{sha256(part).hexdigest()}"
    head = f"PUT /api/v1/workspaces/demo/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\n"
    head += f"Authorization: Bearer {server.token}\r\nContent-Length: {promised}\r\n\r\n"
    connection.sendall(head.encode() + part)
    uploads = server.data / "blobs" / "workspace" / "uploads"
    wait_until(lambda: uploads.exists() and any(uploads.iterdir()))
    return connection


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_kill_during_an_upload_leaves_nothing_half_visible(make_server: MakeServer) -> None:
    server = make_server()
    server.api.post("/api/v1/workspaces", json={"name": "demo"})
    part = b"y" * 100_000
    slow = begin_upload(server, part, promised=200_000)
    server.stop(signal.SIGKILL)
    slow.close()
    again = make_server()
    digest = f"sha256:{sha256(part).hexdigest()}"
    assert again.api.head(f"/api/v1/workspaces/demo/blobs/{digest}").status_code == 404
    left = [path for path in (again.data / "blobs" / "workspace").rglob("*") if path.is_file()]
    assert left == []


def test_a_port_in_use_is_named_and_nothing_is_made(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        for options in (("--port", str(port), "--mqtt-port", "0"), ("--port", "0", "--mqtt-port", str(port))):
            ended = start_and_fail(tmp_path / "data", *options)
            assert ended.returncode == 1
            assert f"port {port} is in use" in ended.stderr
            assert f"sport = :{port}" in ended.stderr
            assert ("--mqtt-port" in ended.stderr) == (options[3] == str(port))
            assert not (tmp_path / "data").exists()


def test_a_second_server_on_the_same_folder_is_refused_by_name(make_server: MakeServer) -> None:
    server = make_server()
    assert server.process is not None
    ended = start_and_fail(server.data, "--port", "0", "--mqtt-port", "0")
    assert ended.returncode == 1
    assert str(server.data) in ended.stderr
    assert f"process {server.process.pid}" in ended.stderr
    assert server.anyone.get("/healthz").status_code == 200


def test_a_folder_that_cannot_be_used_is_wrong_input(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a folder")
    ended = start_and_fail(tmp_path / "file" / "data", "--port", "0", "--mqtt-port", "0")
    assert (ended.returncode, "--data" in ended.stderr) == (2, True), ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_folder_with_other_things_in_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters.txt").write_text("mine")
    tmp_path.chmod(0o755)
    ended = start_and_fail(tmp_path, "--port", "0", "--mqtt-port", "0")
    assert ended.returncode == 2
    assert "holds other things" in ended.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["letters.txt"]
    assert tmp_path.stat().st_mode & 0o777 == 0o755


def test_secrets_and_data_are_for_their_owner_alone(make_server: MakeServer) -> None:
    server = make_server()
    server.api.post("/api/v1/workspaces", json={"name": "demo"})
    server.send("demo", b"model")
    public = {server.data / "tls" / "ca.pem", server.data / "tls" / "server.pem"}
    for path in [server.data, *server.data.rglob("*")]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert path in public or mode & 0o077 == 0, f"{path}: {mode:o}"


def test_the_running_server_is_recorded_for_its_user_until_it_stops(make_server: MakeServer) -> None:
    server = make_server()
    assert server.process is not None
    file = server.config / "servers.json"
    (record,) = json.loads(file.read_text())["servers"]
    assert (record["url"], record["pid"]) == (server.info["url"], server.process.pid)
    assert Path(record["token_file"]).read_text().strip() == server.token
    assert Path(record["ca_file"]).exists()
    assert server.token not in file.read_text()
    server.stop()
    assert json.loads(file.read_text())["servers"] == []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def test_public_addresses_are_what_clients_are_told(make_server: MakeServer) -> None:
    port = free_port()
    public = ("--public-url", "https://edge.example:9443", "--public-mqtt-port", "9883")
    server = make_server(options=("--port", str(port), "--mqtt-port", "0", *public))
    assert str(server.info["signInUrl"]).startswith("https://edge.example:9443/sign-in#")
    context = ssl.create_default_context(cafile=str(server.data / "tls" / "ca.pem"))
    # The certificate is for the public name too: a relay passes the connection on as it is.
    with httpx.Client(verify=context, trust_env=False) as client:
        told = client.get(
            f"https://127.0.0.1:{port}/.well-known/sanderling", extensions={"sni_hostname": "edge.example"}
        ).json()
    assert (told["loginServer"], told["mqttPort"]) == ("edge.example:9443", 9883)


def test_the_servers_log_never_holds_a_secret(make_server: MakeServer) -> None:
    server = make_server()
    server.api.get("/api/v1/me")
    server.client("not-a-token").get("/api/v1/me")
    code = str(server.info["signInUrl"]).partition("#")[2]
    server.anyone.post("/api/v1/sign-in", json={"code": code})
    server.stop()
    for secret in (server.token, code, "not-a-token"):
        assert secret not in server.errors()


def test_one_code_signs_in_one_of_many_that_come_at_once(make_server: MakeServer) -> None:
    server = make_server()
    code = str(server.info["signInUrl"]).partition("#")[2]
    clients = [server.anyone for _ in range(6)]
    answers: list[int] = []
    threads = [
        threading.Thread(
            target=lambda c=client: answers.append(c.post("/api/v1/sign-in", json={"code": code}).status_code)
        )
        for client in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200, 401, 401, 401, 401, 401]


def test_a_broken_database_is_said_so_and_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    file = tmp_path / "data" / "sanderling.db"
    file.write_bytes(b"this is no database" * 1000)
    ended = start_and_fail(tmp_path / "data", "--port", "0", "--mqtt-port", "0")
    assert ended.returncode == 2
    assert f"the database {file} cannot be used" in ended.stderr
    assert "Traceback" not in ended.stderr
    assert file.read_bytes() == b"this is no database" * 1000


def test_a_head_without_end_is_refused_before_it_fills_the_memory(make_server: MakeServer) -> None:
    server = make_server()
    context = ssl.create_default_context(cafile=str(server.data / "tls" / "ca.pem"))
    url = httpx.URL(str(server.info["url"]))
    raw = socket.create_connection(("127.0.0.1", url.port or 443), timeout=10)
    with context.wrap_socket(raw, server_hostname="localhost") as connection:
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
        with pytest.raises(OSError):
            connection.sendall(b"x" * 16 * 1024**2)
    assert server.anyone.get("/healthz").status_code == 200
