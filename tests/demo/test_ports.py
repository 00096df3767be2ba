import socket
from dataclasses import asdict
from pathlib import Path

import pytest

from sanderling.demo.ports import are_free, choose


def test_the_next_run_has_the_same_ports(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = choose(file)
    assert len(set(asdict(first).values())) == 6
    assert choose(file) == first


def test_ports_that_are_taken_meanwhile_are_chosen_anew(tmp_path: Path) -> None:
    file = tmp_path / "ports.json"
    first = choose(file)
    with socket.create_server(("127.0.0.1", first.gateway)):
        assert not are_free([first.gateway])
        second = choose(file)
    assert first.gateway not in asdict(second).values()
    assert choose(file) == second


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"https": "x"}'])
def test_a_damaged_file_is_written_anew(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ports.json"
    file.write_text(text)
    assert choose(file) == choose(file)
