import socket
from pathlib import Path
from typing import Any


def test_a_port_in_use_is_named_and_nothing_is_written(up: Any, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = up.cli("up", "--data", "d", "--host", "127.0.0.1", "--port", str(port), cwd=tmp_path)
    assert done.returncode == 1
    assert f"port {port} is in use" in done.stderr
    assert not (tmp_path / "d").exists()


def test_a_data_folder_that_a_server_has_is_refused(up: Any, tmp_path: Path) -> None:
    done = up.cli("up", "--data", up.data, "--port", "0", "--mqtt-port", "0", cwd=tmp_path)
    assert done.returncode == 1
    assert str(up.data) in done.stderr


def test_the_sign_in_link_of_a_server_is_not_on_stderr_with_json(up: Any) -> None:
    log = (up.config.parent / "stderr").read_text()
    assert "sign-in#" in up.sign_in_url
    assert "sign-in#" not in log
