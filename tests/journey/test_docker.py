"""The same module on a device with Docker: a real dockerd, of our own."""

import json
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.dockerd import running_dockerd
from tests.journey.conftest import SANDERLING, Told, run_demo
from tests.journey.terminal import beside, free_ports, run, until

pytestmark = [pytest.mark.docker, pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]


@pytest.fixture
def docker() -> Iterator[str]:
    with running_dockerd() as address:
        yield address


def test_the_same_module_runs_in_docker(told: Told, docker: str, tmp_path: Path) -> None:
    assert told.code == 0, told.output[-3000:]
    https, mqtt, gateway, module = free_ports(4)
    env = {**os.environ, "PATH": f"{SANDERLING.parent}:{os.environ['PATH']}", "DOCKER_HOST": docker}
    env["SANDERLING_CONFIG_DIR"] = str(tmp_path / "config")
    with ExitStack() as stack:
        up = f"sanderling up --data {told.data}/server --port {https} --mqtt-port {mqtt}"
        until("Ready", tmp_path / "up.log", stack.enter_context(beside(up, tmp_path, env, tmp_path / "up.log")))
        run("sanderling init --name demo", tmp_path, env)
        run("sanderling device create dock-1", tmp_path, env)
        run("umask 077; sanderling device connection-string dock-1 > dock-1.txt", tmp_path, env)
        edge = (
            f"sanderling edge run --connection-string-file dock-1.txt --ca {told.data}/server/tls/ca.pem"
            f" --data device --gateway-port {gateway} --engine docker"
        )
        log = tmp_path / "edge.log"
        edge_process = stack.enter_context(beside(edge, tmp_path, env, log))
        until("is connected to the hub", log, edge_process)
        run(f"sanderling deploy --device dock-1 --image digits --port {module} --input-from sensor", tmp_path, env)
        digit = json.dumps({"data": [[0.0] * 64]})
        scored = json.loads(run(f"curl --silent --fail -d '{digit}' http://localhost:{module}/score", tmp_path, env))
        assert scored[0] in range(10)
        names = run("docker ps --format '{{.Names}} {{.Image}}'", tmp_path, env)
        assert names.startswith("digits ")
        until("module 'digits' is connected", log, edge_process)
    # The runtime has ended; Docker keeps the module, as IoT Edge does.
    assert "digits" in run("docker ps --format '{{.Names}}'", tmp_path, env)


def test_the_demo_takes_docker_where_it_answers_and_leaves_nothing_running(told: Told, docker: str) -> None:
    again = run_demo(told.data, DOCKER_HOST=docker)
    assert again.code == 0, again.output[-6000:]
    env = {**os.environ, "DOCKER_HOST": docker}
    assert "digits" in run("docker ps --all --format '{{.Names}}'", told.data, env)
    assert run("docker ps --quiet", told.data, env) == ""
