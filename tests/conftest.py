"""One server for the tests of all rooms that speak the public API: started as a user starts it."""

import io
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from sanderling.cli import main

# A slow machine is no fault of the code: no test may depend on how long it takes.
settings.register_profile("sanderling", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("sanderling")


@pytest.hookimpl(tryfirst=True)  # before pytest-xdist reads the groups
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one file share its fixtures, those of the journey one run of the demo: each stays in one process."""
    for item in items:
        group = f"{item.path.parent.name}/{item.path.stem}"
        if item.path.parent.name == "journey":
            group = "journey"
        item.add_marker(pytest.mark.xdist_group(group))


@dataclass(frozen=True)
class Up:
    """A running `sanderling up`, and the command line of the user who started it."""

    url: str
    mqtt_port: int
    sign_in_url: str
    data: Path
    config: Path

    @property
    def ca_file(self) -> Path:
        return self.data / "tls" / "ca.pem"

    @property
    def token(self) -> str:
        return (self.data / "secrets" / "owner-token").read_text().strip()

    def cli(
        self, *arguments: str | Path, cwd: Path, stdin: str = "", **more: str
    ) -> "subprocess.CompletedProcess[str]":
        """Run `sanderling ARGUMENTS` in *cwd*; *more* are environment variables."""
        return run_cli(*arguments, cwd=cwd, config=self.config, stdin=stdin, **more)


def run_cli(
    *arguments: str | Path, cwd: Path, config: Path, stdin: str = "", **more: str
) -> "subprocess.CompletedProcess[str]":
    """The command line in this process: a process of its own takes half a second longer."""
    out, err, code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(out), redirect_stderr(err):
        patch.chdir(cwd)
        for name, value in {"SANDERLING_CONFIG_DIR": str(config), **more}.items():
            patch.setenv(name, value)
        patch.setattr(sys, "stdin", io.StringIO(stdin))
        patch.setattr(sys, "argv", ["sanderling", *map(str, arguments)])
        try:
            main()
        except SystemExit as ended:
            code = int(ended.code or 0)
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="session")
def up(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Up]:
    """A server on free ports, with a config folder of its own; ended by Ctrl-C's signal."""
    root = tmp_path_factory.mktemp("up")
    log = root / "stderr"
    command = [sys.executable, "-P", "-m", "sanderling.cli", "up", "--json", "--host", "127.0.0.1"]
    command += ["--data", str(root / "data"), "--port", "0", "--mqtt-port", "0"]
    env = {**os.environ, "SANDERLING_CONFIG_DIR": str(root / "config")}
    with log.open("w") as stderr:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True, env=env)
    try:
        assert process.stdout is not None
        text = ""
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, f"the server did not start: {log.read_text()}"
            text += line
        told = json.loads(text)
        yield Up(told["url"], told["mqttPort"], told["signInUrl"], Path(told["data"]), root / "config")
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()
