import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from sanderling import Deployment


@pytest.fixture
def device(up: Any, project: Path) -> str:
    name = f"press-{uuid4().hex[:6]}"
    assert up.cli("device", "create", name, cwd=project).returncode == 0
    return name


def modules(up: Any, project: Path, device: str) -> list[dict[str, Any]]:
    return list(json.loads(up.cli("device", "modules", device, "--json", cwd=project).stdout))


def test_a_manifest_is_given_to_the_device_which_has_not_reported_yet(up: Any, project: Path, device: str) -> None:
    manifest = Deployment("registry.example/scorer:1", "scorer").manifest
    (project / "deployment.json").write_text(json.dumps(manifest))
    done = up.cli("deploy", "--device", device, "--manifest", "deployment.json", "--no-wait", cwd=project)
    assert done.returncode == 0, done.stderr
    (module,) = modules(up, project, device)
    assert (module["name"], module["desiredStatus"], module["status"]) == ("scorer", "running", None)


def test_a_plan_is_shown_for_an_image_of_any_registry(up: Any, project: Path, device: str) -> None:
    arguments = ("--image", "registry.example/scorer:1", "--port", "9000", "--input-from", "camera/still", "--no-wait")
    done = up.cli("deploy", "--device", device, *arguments, cwd=project)
    assert done.returncode == 0, done.stderr
    assert "9000 -> 5001 (/score)" in done.stdout
    assert "FROM /messages/modules/camera/outputs/still INTO" in done.stdout


def test_a_device_that_does_not_come_is_told_after_the_timeout(up: Any, project: Path, device: str) -> None:
    done = up.cli("deploy", "--device", device, "--image", "registry.example/x:1", "--timeout", "1", cwd=project)
    assert done.returncode == 1
    assert "x not reported yet; it is not connected" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "code", "text"),
    [
        ("--image nix", 2, "'nix'"),
        ("--image nix:3", 2, "'nix:3'"),
        ("--manifest nix.json", 2, "nix.json is not there"),
        ("--manifest config.json", 2, "config.json: the manifest lacks 'modulesContent'"),
        ("", 2, "give either --image or --manifest"),
        ("--image a/b:1 --manifest config.json", 2, "give either --image or --manifest"),
        ("--manifest config.json --port 80", 2, "belong to --image"),
        ("--manifest config.json --registry-credentials", 2, "belong to --image"),
        ("--image elsewhere.example/b:1 --registry-credentials", 2, "is not an image of workspace"),
        ("--image a/b:1 --registry-credentials --expires soon", 2, "90m, 12h or 30d"),
        ("--image a/b:1 --expires 30d", 2, "--registry-credentials, and that is not given"),
        ("--image a/b:1 --port 0", 2, "--port"),
        ("--image a/b:1 --route nonsense", 2, "nonsense"),
        ("--image a/b:1 --input-from a/b/c", 2, "'a/b/c' is not MODULE or MODULE/OUTPUT"),
    ],
)
def test_bad_input_is_named_and_the_device_keeps_what_it_had(
    up: Any, project: Path, device: str, arguments: str, code: int, text: str
) -> None:
    done = up.cli("deploy", "--device", device, *arguments.split(), cwd=project)
    assert (done.returncode, text in done.stderr) == (code, True), done.stderr
    assert modules(up, project, device) == []


def test_an_unknown_device_is_named(up: Any, project: Path) -> None:
    done = up.cli("deploy", "--device", "nix", "--image", "a/b:1", cwd=project)
    assert done.returncode == 2
    assert "there is no device 'nix'" in done.stderr


def test_an_image_that_is_not_in_our_registry_is_refused(up: Any, project: Path, device: str) -> None:
    reference = f"{up.url.removeprefix('https://')}/demo/nix:1"
    done = up.cli("deploy", "--device", device, "--image", reference, "--no-wait", cwd=project)
    assert done.returncode in (1, 2)
    assert "demo/nix:1" in done.stderr
    assert modules(up, project, device) == []


def test_a_device_without_the_edge_runtime_cannot_run_modules(up: Any, project: Path) -> None:
    name = f"thermometer-{uuid4().hex[:6]}"
    up.cli("device", "create", name, "--no-edge", cwd=project)
    done = up.cli("deploy", "--device", name, "--image", "a/b:1", "--no-wait", cwd=project)
    assert done.returncode == 2
    assert "has no edge runtime" in done.stderr


def test_ctrl_c_while_waiting_says_what_goes_on(up: Any, project: Path, device: str) -> None:
    arguments = ("deploy", "--device", device, "--image", "registry.example/scorer:1")
    env = {**os.environ, "SANDERLING_CONFIG_DIR": str(up.config), "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-P", "-m", "sanderling.cli", *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=project, env=env, stdout=pipe, stderr=pipe, text=True)
    try:
        assert process.stdout is not None
        assert any("waiting for the device" in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    finally:
        process.kill()
        process.communicate()
    told = f"the device keeps the deployment; look again: sanderling device modules {device}"
    assert (process.returncode, errors.splitlines()) == (130, [told, "interrupted"])
    assert [module["name"] for module in modules(up, project, device)] == ["scorer"]


def test_a_plan_says_which_modules_it_ends(up: Any, project: Path, device: str) -> None:
    for image in ("registry.example/first:1", "registry.example/second:1"):
        done = up.cli("deploy", "--device", device, "--image", image, "--no-wait", cwd=project)
        assert done.returncode == 0, done.stderr
    assert "removes module first (registry.example/first:1)" in done.stdout
    assert [module["name"] for module in modules(up, project, device)] == ["second"]
