from pathlib import Path
from typing import Any

import pytest


@pytest.mark.parametrize(
    ("arguments", "stdin", "text"),
    [
        ("", "", "connection string is missing"),
        ("", "HostName=localhost", "connection string"),
        ("--connection-string-file nix", "", "nix cannot be read"),
        ("--ca nix.pem", "", "the CA file nix.pem is not there"),
        ("--engine lxc", "", "lxc"),
    ],
)
def test_bad_input_is_named_and_nothing_is_written(
    up: Any, tmp_path: Path, arguments: str, stdin: str, text: str
) -> None:
    done = up.cli("edge", "run", "--data", "d", *arguments.split(), cwd=tmp_path, stdin=stdin)
    assert (done.returncode, text in done.stderr) == (2, True), done.stderr
    assert not (tmp_path / "d").exists()


def test_a_secret_is_not_in_the_error(up: Any, tmp_path: Path) -> None:
    done = up.cli("edge", "run", cwd=tmp_path, stdin="HostName=h;SharedAccessKey=c2VjcmV0")
    assert done.returncode == 2
    assert "c2VjcmV0" not in done.stderr
