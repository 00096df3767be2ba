"""The commands of docs/image-build.md, run as they stand there; those without a network where there is none."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.registry.serving import served

PAGE = Path(__file__).parents[3] / "docs" / "image-build.md"
ENVIRONMENT = "dependencies:\n  - python=3.11\n  - pip:\n    - six==1.16.0\n"


def blocks() -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE)


def run(folder: Path, block: str, *, has_network: bool = True, **more: str) -> None:
    program = f'sanderling() {{ "{sys.executable}" -m sanderling.cli "$@"; }}'
    command = ["bash", "-c", f"set -eu\n{program}\n{block}"]
    environment = {**os.environ, "SANDERLING_CONFIG_DIR": str(folder / "config"), **more}
    done = subprocess.run(
        command if has_network else ["unshare", "--map-root-user", "--net", *command],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def top(layout: Path) -> str:
    """The digest of the layout's image."""
    return str(json.loads((layout / "index.json").read_bytes())["manifests"][0]["digest"])


@pytest.mark.network
@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_page_does_what_it_says(tmp_path: Path, score: Path, model: Path, shared_cache: Path) -> None:
    (tmp_path / "lookup").mkdir()
    (tmp_path / "lookup" / "table.csv").write_text("a,b\n")
    (tmp_path / "myenv.yml").write_text(ENVIRONMENT)
    layout, archives, push, signed, rebuilt, prefetch, offline = blocks()
    user = tmp_path / "user"
    user.mkdir()
    (user / "build").symlink_to(shared_cache)
    home = {"SANDERLING_CACHE_DIR": str(user), "HOME": str(user), "DOCKER_CONFIG": str(user), "XDG_RUNTIME_DIR": ""}
    run(tmp_path, layout, **home)
    run(tmp_path, archives, **home)
    assert (tmp_path / "digits.tar").is_file()
    assert (tmp_path / "load.tar").is_file()
    (tmp_path / "registry").mkdir()
    with served(tmp_path / "registry") as (address, credentials):
        password = credentials.set_admin_enabled("demo", True).passwords[0]
        account = {"auths": {address: {"username": "demo", "password": password}}}
        (user / "config.json").write_text(json.dumps(account))
        run(tmp_path, push, REGISTRY=address, **home)
    run(tmp_path, signed, **home)
    run(tmp_path, rebuilt, **home)
    assert top(tmp_path / "rebuilt") == top(tmp_path / "signed")
    run(tmp_path, prefetch, **home)
    # The same image on a machine that has nothing but the folder, and no network: and with all that is here.
    shutil.rmtree(tmp_path / "digits")
    run(tmp_path, offline, **home)
    with_network = top(tmp_path / "digits")
    shutil.rmtree(tmp_path / "digits")
    run(tmp_path, offline, has_network=False, **(home | {"SANDERLING_CACHE_DIR": str(tmp_path / "other")}))
    assert top(tmp_path / "digits") == with_network
