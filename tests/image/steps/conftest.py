"""A small image to put steps upon, and what comes of it."""

import io
import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from isal import isal_zlib

from sanderling.image import Log, Recipe, SourceFile
from sanderling.image.assembly import image_config
from sanderling.image.bases import Base
from sanderling.image.interpreter import DEBIAN_12
from sanderling.image.layers.layer_file import Layer
from sanderling.image.layers.store import LayerStore, Made
from sanderling.image.layers.tree import Entry
from sanderling.image.steps import Applied, apply_steps, check_steps
from sanderling.oci import ImageConfig, Platform

AMD64 = Platform("linux", "amd64")
PASSWD = b"root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/false\napp:x:1001:1002::/home/app:/bin/sh\n"
GROUP = b"root:x:0:\nweb:x:33:\n"
ROOT = [
    Entry("bin", "link", 0o777, target="usr/bin"),
    Entry("etc/passwd", "file", 0o644, PASSWD),
    Entry("etc/group", "file", 0o644, GROUP),
    Entry("home/app", "folder", 0o700, owner=1001, group=1002),
    Entry("opt/current", "link", 0o777, target="/opt/v1"),
    Entry("opt/nowhere", "link", 0o777, target="gone"),
    Entry("opt/v1", "folder", 0o755),
    Entry("tmp", "folder", 0o1777),
    Entry("usr/bin/python3", "file", 0o755, b"python"),
]


@dataclass
class World:
    """Steps upon an image; the files beside the Dockerfile are in *folder*."""

    folder: Path
    store: LayerStore
    log: Log
    score: Path
    platform: Platform = AMD64
    root: tuple[Entry, ...] = tuple(ROOT)

    def write(self, files: dict[str, bytes]) -> None:
        for name, content in files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(content)

    def recipe(self, dockerfile: str) -> Recipe:
        place = self.folder.parent / "Dockerfile"
        place.write_text(dockerfile)
        files = sorted(path for path in self.folder.rglob("*") if path.is_file())
        return Recipe(
            "demo/digits:1",
            SourceFile("score.py", self.score),
            dockerfile=SourceFile("Dockerfile", place),
            context=tuple(
                SourceFile(f.relative_to(self.folder).as_posix(), f, bool(f.stat().st_mode & 0o100)) for f in files
            ),
        )

    def base(self) -> Base:
        return Base((self.layer(list(self.root), "base"),))

    def layer(self, entries: list[Entry], title: str) -> Made:
        @contextmanager
        def opened() -> Iterator[list[Entry]]:
            yield entries

        return self.store.ensure(title, [repr(entry) for entry in entries], title, opened)

    def apply(self, dockerfile: str) -> Applied:
        recipe = self.recipe(dockerfile)
        assert recipe.dockerfile is not None
        check_steps(recipe, recipe.dockerfile.source.read_bytes())
        base = self.base()
        application = self.layer([Entry("var/azureml-app/score.py", "file", 0o644, b"score")], "application")
        return apply_steps(
            recipe, self.platform, [*base.layers, application], base, recipe.variables(), self.store, self.log
        )

    def config(self, dockerfile: str) -> dict[str, Any]:
        applied = self.apply(dockerfile)
        layers = [made.layer for made in applied.layers]
        raw = image_config(self.recipe(dockerfile), DEBIAN_12, self.platform, layers, self.base(), applied)
        found: dict[str, Any] = ImageConfig.parse(raw).to_json()["config"]
        return found

    def members(self, layer: Layer) -> dict[str, tarfile.TarInfo]:
        with self.open(layer) as tar:
            return {info.name: info for info in tar.getmembers()}

    def open(self, layer: Layer) -> tarfile.TarFile:
        plain = isal_zlib.decompress(self.store.blobs.read(layer.digest), wbits=31)
        return tarfile.open(fileobj=io.BytesIO(plain))

    def files(self, dockerfile: str) -> dict[str, str]:
        """What the steps put into the image: by path, the content; or '-> TARGET'."""
        found: dict[str, str] = {}
        for made in self.apply(dockerfile).layers:
            with self.open(made.layer) as tar:
                for info in tar:
                    if info.isreg():
                        found[info.name] = tar.extractfile(info).read().decode()  # type: ignore[union-attr]
                    elif info.issym():
                        found[info.name] = f"-> {info.linkname}"
        return found


@pytest.fixture
def world(tmp_path: Path, log: Log, score: Path) -> World:
    (tmp_path / "context").mkdir()
    return World(tmp_path / "context", LayerStore(tmp_path / "cache", log, None), log, score)


Apply = Callable[[str], Applied]
