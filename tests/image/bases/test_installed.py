import gzip
import io
import tarfile
from pathlib import Path

from sanderling.image import Event, Log
from sanderling.image.bases import Base
from sanderling.image.bases.installed import find_installed, replaced, whiteouts
from sanderling.image.bases.pythons import is_wanted
from sanderling.image.bases.root import Root
from sanderling.image.interpreter import DEBIAN_12
from sanderling.image.layers.store import LayerStore
from sanderling.image.packages.resolve import Wheel
from sanderling.image.parts import Parts
from sanderling.image.supply_chain.used import Used
from tests.image.bases.images import Files, tar_of

SITE = "usr/local/lib/python3.12/site-packages"


def root_of(*layers: Files) -> Root:
    root = Root(is_wanted)
    for files in layers:
        with tarfile.open(fileobj=io.BytesIO(tar_of(files)), mode="r|") as tar:
            root.add_layer(tar)
    return root


def installed(name: str, version: str, *paths: str) -> dict[str, bytes | str | None]:
    info = f"{name}-{version}.dist-info"
    record = "".join(f"{path},,\n" for path in (*paths, f"{info}/METADATA", f"{info}/RECORD"))
    files: dict[str, bytes | str | None] = {f"{SITE}/{path}": b"" for path in paths if not path.startswith("..")}
    return {**files, f"{SITE}/{info}/METADATA": b"", f"{SITE}/{info}/RECORD": record.encode()}


def test_a_package_is_known_by_its_one_name_and_goes_folder_by_folder() -> None:
    files = installed("Flask_Cors", "4.0", "flask_cors/__init__.py", "flask_cors/core.py", "../../../bin/cors")
    files |= {f"{SITE}/flask_cors/__pycache__/core.cpython-312.pyc": b"", "usr/local/bin/cors": b""}
    found = find_installed(root_of(files), SITE)
    assert found == {"flask-cors": ["usr/local/bin/cors", f"{SITE}/Flask_Cors-4.0.dist-info", f"{SITE}/flask_cors"]}


def test_a_folder_that_others_have_files_in_stays_and_only_the_packages_own_files_go() -> None:
    files = {**installed("google_a", "1", "google/a.py", "google/gone.py"), **installed("google_b", "1", "google/b.py")}
    del files[f"{SITE}/google/gone.py"]
    found = find_installed(root_of(files), SITE)
    assert found["google-a"] == [f"{SITE}/google/a.py", f"{SITE}/google_a-1.dist-info"]


def test_what_is_taken_away_is_gone_when_the_layer_is_put_on_top() -> None:
    files = {**installed("old", "1", "old/x.py", "old/gone.py"), **installed("other", "1", "other.py")}
    found, unknown = replaced(find_installed(root_of(files), SITE), ["Old", "new"])
    assert (list(found), unknown) == (["old"], [])
    layer: Files = {entry.path: b"" for entry in whiteouts(found["old"])}
    root = root_of(files, layer, installed("old", "2", "old/x.py"))
    assert root.list(f"{SITE}/old") == ["x.py"]
    assert root.list(SITE) == ["old", "old-2.dist-info", "other-1.dist-info", "other.py"]


def test_a_package_without_a_record_is_named() -> None:
    files: Files = {f"{SITE}/odd-1.dist-info/METADATA": b"", f"{SITE}/odd.py": b""}
    assert replaced(find_installed(root_of(files), SITE), ["odd"]) == ({}, ["odd"])


def test_a_record_cannot_name_what_is_outside_or_the_folder_itself() -> None:
    files = installed("evil", "1", "evil.py")
    files[f"{SITE}/evil-1.dist-info/RECORD"] = b"../../../../../../../etc/passwd,,\n.,,\n../site-packages,,\n/,,\n\xff"
    assert find_installed(root_of({**files, "etc/passwd": b""}), SITE) == {"evil": []}
    files[f"{SITE}/evil-1.dist-info/RECORD"] = b"../../../../../../../etc/passwd,,\n.,,\n../site-packages,,\n/,,\n"
    assert find_installed(root_of({**files, "etc/passwd": b""}), SITE) == {"evil": []}


def test_the_layer_that_takes_away_is_made_of_the_wheels_that_come(
    tmp_path: Path, log: Log, events: list[Event]
) -> None:
    files: Files = {**installed("old", "1", "old/x.py"), f"{SITE}/odd-1.dist-info/METADATA": b""}
    base = Base((), installed=find_installed(root_of(files), SITE))
    layers = LayerStore(tmp_path, log, None)
    parts = Parts(layers, DEBIAN_12, Used(tmp_path, layers.blobs), log)
    wheels = [Wheel(name, "2", f"https://x/{name}-2-py3-none-any.whl", None, None) for name in ("Old", "odd", "new")]
    (made,) = parts.replaced(base, wheels)
    root = root_of(files)
    with tarfile.open(fileobj=io.BytesIO(gzip.decompress(layers.blobs.read(made.layer.digest)))) as tar:
        root.add_layer(tar)
    assert root.list(SITE) == ["odd-1.dist-info"]
    assert "odd is in the base already" in next(event.text for event in events if event.level == "warning")
    assert parts.replaced(base, wheels)[0].was_cached
    assert parts.replaced(base, wheels[2:]) == []
