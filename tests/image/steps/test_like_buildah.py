"""The same steps done by Buildah give the same files: paths, contents, links, owners, modes."""

import io
import os
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sanderling.image.layers.tree import with_parents
from tests.image.steps.conftest import ROOT, World
from tests.image.steps.test_copied import tar_of

# Each is done at once: a call of Buildah takes a second.
STEPS = {
    "names": """
        COPY a.txt /names/b.txt
        COPY a.txt /opt/
        COPY ["a b.txt", "/opt"]
        COPY a.txt data/
        COPY a.txt new/deep/name
        COPY ["a b.txt", "/quoted/"]
        COPY a.txt /x
        COPY sub/b.txt /x
    """,
    "folders": """
        COPY sub /folders/x
        COPY sub/ /opt
        COPY sub/*.txt sub/d* /picked/
        COPY . /all/
    """,
    "owners": """
        COPY --chown=5:6 sub /srv/x
        COPY --chown=5:6 a.txt /srv/y/z/
        COPY --chown=app a.txt /owners/
        COPY --chown=app:web a.txt /owners/web
        COPY --chmod=0640 a.txt /modes/
        COPY --chown=7 --chmod=0711 sub /both/
    """,
    "what is there": """
        COPY a.txt /opt/current/
        COPY a.txt /opt/current/x
        COPY a.txt /bin/tool
        COPY a.txt /tmp/
        COPY a.txt /home/app/
    """,
    "working folders": """
        WORKDIR /w/x
        COPY a.txt .
        COPY sub ./y
        WORKDIR ../z
        WORKDIR deeper
        ENV D=opt
        ARG N=a
        COPY $N.txt /${D:-x}/${E:-e}
    """,
    "archives": """
        ADD all.tar /srv
        ADD all.tar.gz /gz/
        ADD all.tar.xz /opt/current
        ADD a.txt /srv/
        COPY all.tar.gz /srv/
    """,
}
ARCHIVE: dict[str, bytes | str] = {"d/": b"", "d/x": b"xx", "link": "d/x", "other/deep/y": b"y"}


class Buildah:
    """Buildah with a storage of its own, which has the image `base`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options = ("--root", f"{folder}/root", "--runroot", f"{folder}/run", "--storage-driver", "vfs")

    def __call__(self, *arguments: str | Path) -> str:
        command = ["buildah", *self.options, *map(str, arguments)]
        environment = os.environ | {"BUILDAH_ISOLATION": "chroot"}
        return subprocess.run(command, check=True, capture_output=True, text=True, env=environment).stdout.strip()


@pytest.fixture(scope="module")
def buildah(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Buildah]:
    if shutil.which("buildah") is None or os.geteuid() != 0:
        pytest.skip("buildah is not here, or not for this user")
    folder = tmp_path_factory.mktemp("buildah")
    found = Buildah(folder)
    (folder / "base").mkdir()
    with tarfile.open(folder / "base" / "root.tar", "w") as tar:
        # Links last: Buildah forgets one whose target is unpacked after it.
        for entry in sorted(with_parents(ROOT), key=lambda entry: entry.kind == "link"):
            info = tarfile.TarInfo(entry.path)
            info.type = {"file": tarfile.REGTYPE, "folder": tarfile.DIRTYPE, "link": tarfile.SYMTYPE}[entry.kind]
            info.mode, info.uid, info.gid, info.linkname = entry.mode, entry.owner, entry.group or 0, entry.target
            content = entry.content if isinstance(entry.content, bytes) else b""
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    (folder / "base" / "Dockerfile").write_text("FROM scratch\nADD root.tar /\nWORKDIR /var/azureml-app\n")
    found("bud", "--quiet", "-t", "localhost/base", folder / "base")
    yield found
    found("rm", "--all")
    found("rmi", "--all", "--force")


@pytest.mark.parametrize("steps", STEPS.values(), ids=STEPS)
def test_as_buildah_does_it(world: World, steps: str, tmp_path: Path, buildah: Buildah) -> None:
    world.write({"a.txt": b"a", "a b.txt": b"ab", "sub/b.txt": b"b", "sub/deep/c.txt": b"c"})
    packed = (("", ""), (".gz", ":gz"), (".xz", ":xz"))
    world.write({f"all.tar{end}": tar_of(ARCHIVE, f"w{kind}") for end, kind in packed})
    for path in world.folder.rglob("*"):
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert ours(world, steps) == theirs(world, steps, tmp_path, buildah)


def ours(world: World, steps: str) -> dict[str, object]:
    root: dict[str, object] = {}
    for layer in (world.base().layers[0].layer, *(made.layer for made in world.apply(steps).layers)):
        with world.open(layer) as tar:
            root |= looks(tar)
    return compared(root)


def theirs(world: World, steps: str, tmp_path: Path, buildah: Buildah) -> dict[str, object]:
    (tmp_path / "Theirs").write_text(f"FROM localhost/base\n{steps}\n")
    image = buildah("bud", "--quiet", "-f", tmp_path / "Theirs", world.folder)
    container = buildah("from", image)
    place = Path(buildah("mount", container))
    with tarfile.open(tmp_path / "theirs.tar", "w") as tar:
        for path in sorted(place.iterdir()):
            tar.add(path, path.name)
    buildah("rm", container)
    with tarfile.open(tmp_path / "theirs.tar") as tar:
        return compared(looks(tar))


def compared(root: dict[str, object]) -> dict[str, object]:
    """Without the folders of the application, which are not of these steps."""
    return {path: look for path, look in root.items() if path not in ("var", "var/azureml-app")}


def looks(tar: tarfile.TarFile) -> dict[str, object]:
    """What each path is like."""
    found: dict[str, object] = {}
    for info in tar:
        if info.isreg():
            file = tar.extractfile(info)
            assert file is not None
            found[info.name] = (oct(info.mode), info.uid, info.gid, file.read())
        else:
            found[info.name] = (oct(info.mode) if info.isdir() else "", info.uid, info.gid, info.linkname)
    return found
