"""The README's commands, run as they stand; only ports, folders and what runs beside is put in."""

import json
import os
import re
import shlex
import sys
import time
from contextlib import ExitStack
from pathlib import Path

import pytest
from tests.journey.conftest import SANDERLING, Told
from tests.journey.terminal import beside, free_ports, run, until

pytestmark = [pytest.mark.network, pytest.mark.slow, pytest.mark.timeout(600)]

README = Path(__file__).parents[2] / "README.md"


def commands() -> list[str]:
    """The lines of the block below "The same by hand", without comments."""
    section = README.read_text().split("## The same by hand")[1]
    block = re.search(r"((?:^    .*\n|^\n)+)", section.lstrip("\n"), re.MULTILINE)
    assert block
    lines = [re.sub(r"\s+#.*$", "", line).strip() for line in block[1].splitlines()]
    return [line for line in lines if line]


def python_of_the_docs() -> str:
    """The example "In Python" of docs/journey.md, up to where it waits for a device that is not there."""
    section = (README.parent / "docs" / "journey.md").read_text().split("## In Python")[1]
    block = re.search(r"```python\n(.*?)```", section, re.DOTALL)
    assert block
    example, found, _ = block[1].partition("deployment.wait(device)")
    assert found
    return example


def test_the_commands_of_the_readme_lead_from_a_model_to_predictions(told: Told, tmp_path: Path) -> None:
    assert told.code == 0, told.output[-3000:]
    project = told.data / "project"
    folder = tmp_path / "by-hand"
    folder.mkdir()
    for name in ("model.pkl", "score.py", "myenv.yml"):
        (folder / name).write_bytes((project / name).read_bytes())
    (folder / "data").symlink_to(told.data / "server")  # with its cache of packages
    https, mqtt, gateway, module = free_ports(4)
    env = {**os.environ, "PATH": f"{SANDERLING.parent}:{os.environ['PATH']}"}
    env["SANDERLING_CONFIG_DIR"] = str(tmp_path / "config")
    seen = []
    with ExitStack() as stack:
        for line in commands():
            line = line.replace("5001", str(module)).replace("[[0, 0, 5]]", json.dumps([[0] * 64]))
            match shlex.split(line)[:3]:
                case [".", *_]:
                    continue
                case ["sanderling", "up", *_]:
                    line += f" --port {https} --mqtt-port {mqtt}"
                    log = tmp_path / "up.log"
                    until("Ready", log, stack.enter_context(beside(line, folder, env, log)))
                case ["sanderling", "edge", "run"]:
                    line = re.sub(r"--gateway-port \d+", "", line) + f" --gateway-port {gateway} --data device"
                    log = tmp_path / "edge.log"
                    until("is connected to the hub", log, stack.enter_context(beside(line, folder, env, log)))
                case ["sanderling", "messages", *_]:
                    log = tmp_path / "messages.log"
                    process = stack.enter_context(beside(line, folder, env, log))
                    time.sleep(1)
                    assert process.poll() is None, log.read_text()
                case ["curl", *_]:
                    answer = json.loads(run(line + " --silent --fail", folder, env))
                    assert len(answer) == 1
                    assert answer[0] in range(10)
                case _:
                    run(line, folder, env)
            seen.append(shlex.split(line)[:2][-1])
        modules = json.loads(run("sanderling device modules gateway-1 --json", folder, env))
        assert "running" in json.dumps(modules)
        (folder / "journey.py").write_text(python_of_the_docs())
        run(f"{sys.executable} journey.py", folder, env)
    assert {"up", "init", "model", "image", "registry", "device", "edge", "deploy", "messages"} <= set(seen)
