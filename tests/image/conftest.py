"""What the tests of this room share: one cache for the whole run, small wheels, a script and a model."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from sanderling.image import Event, Log

SCORE = b"""
import json

def init():
    global model
    model = 1

def run(raw_data):
    return json.loads(raw_data)
"""


@pytest.fixture(scope="session")
def shared_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build cache for the whole run, so that the base is fetched and compiled once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def events() -> list[Event]:
    return []


@pytest.fixture
def log(events: list[Event]) -> Log:
    return Log(events.append)


@pytest.fixture
def score(tmp_path: Path) -> Path:
    path = tmp_path / "score.py"
    path.write_bytes(SCORE)
    return path


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.pkl"
    path.write_bytes(b"a model" * 1000)
    return path


MakeWheel = Callable[..., Path]


@pytest.fixture
def make_wheel(tmp_path: Path) -> MakeWheel:
    """Make a real wheel: ``make_wheel("name", "1.0", {"name/__init__.py": b"..."}, requires=["other"])``."""

    def make(
        name: str,
        version: str,
        files: dict[str, bytes],
        *,
        tag: str = "py3-none-any",
        requires: list[str] | None = None,
        folder: Path | None = None,
    ) -> Path:
        info = f"{name}-{version}.dist-info"
        metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}"]
        metadata += [f"Requires-Dist: {requirement}" for requirement in requires or ()]
        content = files | {
            f"{info}/METADATA": "\n".join(metadata).encode() + b"\n",
            f"{info}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n".encode(),
            f"{info}/RECORD": b"",
        }
        path = (folder or tmp_path) / f"{name}-{version}-{tag}.whl"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for place, data in content.items():
                archive.writestr(place, data)
        return path

    return make


@pytest.fixture
def make_index(tmp_path: Path, make_wheel: MakeWheel) -> Callable[..., str]:
    """Make a package index of wheels as a folder; return its ``file:`` URL."""

    def make(*wheels: tuple[str, str, list[str]], hashes: bool = True) -> str:
        import hashlib

        root = tmp_path / "index"
        for name, version, requires in wheels:
            page = root / "simple" / name
            page.mkdir(parents=True, exist_ok=True)
            source = f"version = {json.dumps(version)}\n".encode()
            wheel = make_wheel(name, version, {f"{name}/__init__.py": source}, requires=requires, folder=page)
            digest = f"#sha256={hashlib.sha256(wheel.read_bytes()).hexdigest()}" if hashes else ""
            with (page / "index.html").open("a") as html:
                html.write(f'<a href="{wheel.name}{digest}">{wheel.name}</a>\n')
        return (root / "simple").as_uri()

    return make
