"""The commands that the documentation gives to check a signature without us are run here."""

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from sanderling.blobs import FileBlobs
from sanderling.image import Log, PushTarget
from sanderling.image.push import push
from sanderling.image.supply_chain.attachments import told_about
from sanderling.signatures.keys import SigningKey
from tests.image.supply_chain import world
from tests.image.supply_chain.test_attach import WHEN
from tests.registry.clients.tools import needed
from tests.registry_process import RegistryProcess, running_registry

PAGE = Path(__file__).parents[3] / "docs" / "image-supply-chain.md"


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RegistryProcess]:
    with running_registry(tmp_path / "root", "--no-auth", "--http") as started:
        yield started


def test_the_documented_commands_verify_the_right_key_and_no_other(
    registry: RegistryProcess, tmp_path: Path, blobs: FileBlobs, log: Log
) -> None:
    for program in ("skopeo", "jq", "openssl"):
        needed(program, program)
    key = SigningKey.generate()
    made = world.recipe(tmp_path / "inputs", world.AMD64, world.ARM64)
    image = world.image(made, blobs)
    target = PushTarget(registry.login_server, "demo/digits", "1", plain_http=True)
    told = told_about(image, made, f"{registry.login_server}/demo/digits", key, WHEN, log)
    push(image, blobs, target, log, attachments=told)
    script = re.search(r"<!-- run by .*? -->\n```sh\n(.*?)```", PAGE.read_text(), re.DOTALL)
    assert script is not None
    for public, is_right in ((key.public, True), (SigningKey.generate().public, False)):
        folder = tmp_path / str(is_right)
        folder.mkdir()
        (folder / "pub.pem").write_bytes(public.pem())
        variables = {"IMAGE": f"{registry.login_server}/demo/digits:1", "PATH": "/usr/bin:/bin", "HOME": str(folder)}
        done = subprocess.run(
            ["sh", "-euc", script[1]], cwd=folder, env=variables, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode == 0) is is_right, done.stderr
        assert (done.stdout == "Verified OK\ntrue\n") is is_right
