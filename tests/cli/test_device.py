import json
import stat
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest


@pytest.fixture
def device(up: Any, project: Path) -> str:
    name = f"press-{uuid4().hex[:6]}"
    done = up.cli("device", "create", name, cwd=project)
    assert done.returncode == 0, done.stderr
    return name


def test_a_device_is_created_listed_shown_and_deleted(up: Any, project: Path, device: str) -> None:
    assert device in {d["deviceId"] for d in json.loads(up.cli("device", "list", "--json", cwd=project).stdout)}
    shown = json.loads(up.cli("device", "show", device, "--json", cwd=project).stdout)
    assert (shown["edge"], shown["connected"], shown["status"]) == (True, False, "enabled")
    assert "disconnected" in up.cli("device", "show", device, cwd=project).stdout
    assert up.cli("device", "delete", device, "--yes", cwd=project).returncode == 0
    assert up.cli("device", "show", device, cwd=project).returncode == 2


def test_a_device_is_created_once(up: Any, project: Path, device: str) -> None:
    done = up.cli("device", "create", device, cwd=project)
    assert done.returncode == 1
    assert f"device '{device}' exists already" in done.stderr


@pytest.mark.parametrize("verb", ["show", "connection-string", "modules", "delete"])
def test_an_unknown_device_is_named(up: Any, project: Path, verb: str) -> None:
    done = up.cli("device", verb, "nix", cwd=project)
    assert done.returncode == 2
    assert "error: there is no device 'nix'" in done.stderr
    assert "try: sanderling device list" in done.stderr


def test_a_name_that_cannot_be_one_is_refused(up: Any, project: Path) -> None:
    done = up.cli("device", "create", "a/b", cwd=project)
    assert done.returncode == 2
    assert "'a/b' cannot name a device" in done.stderr


def test_a_connection_string_is_alone_on_stdout_or_in_a_file_for_its_owner(up: Any, project: Path, device: str) -> None:
    done = up.cli("device", "connection-string", device, cwd=project)
    assert done.stdout.startswith(f"HostName={up.url.removeprefix('https://')};DeviceId={device};SharedAccessKey=")
    assert len(done.stdout.splitlines()) == 1
    file = project / "secret"
    written = up.cli("device", "connection-string", device, "--to", "secret", cwd=project)
    assert file.read_text() == done.stdout
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "SharedAccessKey" not in written.stdout + written.stderr
    again = up.cli("device", "connection-string", device, "--to", "secret", cwd=project)
    assert again.returncode == 1
    assert "is there already" in again.stderr


def test_a_device_without_a_deployment_has_no_modules(up: Any, project: Path, device: str) -> None:
    assert json.loads(up.cli("device", "modules", device, "--json", cwd=project).stdout) == []
    assert "no modules" in up.cli("device", "modules", device, cwd=project).stdout
