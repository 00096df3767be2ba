import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from sanderling.cli.app import app

COMMANDS = [
    "up", "init", "deploy", "messages", "demo", "serve", "status", "open", "edge run",
    "model register", "model list", "model show", "model download", "model delete",
    "image build", "image prefetch", "image list", "image show", "image logs", "image copy",
    "image key", "image lock", "image sbom", "image provenance", "image verify",
    "registry list", "registry credentials", "registry login",
    "registry token create", "registry token list", "registry token disable", "registry token enable",
    "registry token regenerate", "registry token delete",
    "registry serve", "registry usage", "registry gc", "registry quota show", "registry quota set",
    "registry retention show", "registry retention set", "registry retention clear",
    "registry upstream add", "registry upstream list", "registry upstream show", "registry upstream enable",
    "registry upstream disable", "registry upstream remove",
    "device create", "device list", "device show", "device connection-string", "device modules", "device delete",
]  # fmt: skip
# They run until they are ended, or print a document of another form.
NO_DOCUMENT = {"serve", "demo", "edge run", "image lock", "image sbom", "image provenance"}


def run_process(*arguments: str, cwd: Path, **more: str) -> "subprocess.CompletedProcess[str]":
    """The command line as a process of its own, which is slower than `up.cli`."""
    command = [sys.executable, "-P", "-m", "sanderling.cli", *arguments]
    return subprocess.run(
        command, cwd=cwd, env={**os.environ, **more}, capture_output=True, text=True, timeout=60, check=False
    )


def leaves(command: Any, path: str = "") -> list[str]:
    if not hasattr(command, "commands"):
        return [path]
    return [leaf for name, sub in command.commands.items() for leaf in leaves(sub, f"{path} {name}".strip())]


def test_the_commands_are_these() -> None:
    assert sorted(leaves(get_command(app))) == sorted(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_help_with_an_example_and_json(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    app([*command.split(), "--help"], standalone_mode=False, prog_name="sanderling")
    text = capsys.readouterr().out
    assert f"Example:\n    sanderling {command}" in text
    assert ("--json" in text) == (command not in NO_DOCUMENT)


def test_help_imports_neither_network_nor_tables() -> None:
    code = (
        "import sys; sys.argv = ['sanderling', '--help']\n"
        "from sanderling.cli import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "print(sorted({'httpx', 'rich.table', 'sanderling.server', 'sklearn'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "[]\n"


@pytest.mark.parametrize(
    "arguments", [["modell"], ["model", "show"], ["up", "--port", "x"], ["model", "list", "--nix"]]
)
def test_wrong_usage_is_one_line_with_a_way_out_and_exit_code_2(up: Any, tmp_path: Path, arguments: list[str]) -> None:
    done = up.cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert hint.startswith("try: sanderling")
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [[], ["model"], ["edge"]])
def test_no_command_is_answered_with_the_help_as_it_is(up: Any, tmp_path: Path, arguments: list[str]) -> None:
    done = up.cli(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert "error:" not in done.stderr
    assert done.stderr.startswith("Usage: sanderling")
    assert len(done.stderr.splitlines()) > 8


def test_a_folder_without_a_config_says_how_to_make_one(up: Any, tmp_path: Path) -> None:
    done = up.cli("model", "list", cwd=tmp_path)
    assert done.returncode == 2
    assert "no config.json" in done.stderr
    assert "try: sanderling init --name WORKSPACE" in done.stderr


def test_a_traceback_is_shown_only_when_it_is_asked_for(up: Any, tmp_path: Path) -> None:
    assert "Traceback" not in up.cli("model", "list", cwd=tmp_path).stderr
    assert "Traceback" in up.cli("model", "list", cwd=tmp_path, SANDERLING_DEBUG="1").stderr


def test_a_server_that_has_gone_is_exit_code_1(up: Any, project: Path) -> None:
    config = json.loads((project / "config.json").read_text())
    (project / "config.json").write_text(json.dumps({**config, "url": "https://localhost:1"}))
    done = up.cli("model", "list", cwd=project, SANDERLING_TOKEN="t", SANDERLING_CA=str(up.ca_file))
    assert done.returncode == 1
    assert "error: no server answers at https://localhost:1" in done.stderr


def test_a_wrong_token_is_exit_code_1(up: Any, project: Path) -> None:
    done = up.cli("model", "list", cwd=project, SANDERLING_TOKEN="wrong")
    assert done.returncode == 1
    assert "try: sanderling init" in done.stderr


def test_a_missing_extra_is_named_with_the_command_that_installs_it(up: Any, tmp_path: Path) -> None:
    # A package that cannot be imported stands for one that is not installed.
    (tmp_path / "fastapi.py").write_text("raise ModuleNotFoundError('No module named fastapi', name='fastapi')")
    path = f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"
    done = run_process("up", "--data", "d", cwd=tmp_path, PYTHONPATH=path)
    assert done.returncode == 1
    assert "fastapi" in done.stderr
    assert "try: pip install 'sanderling[server]'" in done.stderr
    assert not (tmp_path / "d").exists()
