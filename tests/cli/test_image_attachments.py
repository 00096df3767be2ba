import asyncio
import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from tests.conftest import Up
from tests.image.supply_chain import world

from sanderling.blobs import FileBlobs
from sanderling.image.layout import write_layout
from sanderling.image.supply_chain.attach import attach
from sanderling.image.supply_chain.attachments import attachments_of
from sanderling.signatures import cosign
from sanderling.signatures.keys import PublicKey, SigningKey
from sanderling.transfer.places import LayoutPlace

KEY = SigningKey.generate()


@pytest.fixture
def project(up: Up, tmp_path: Path) -> Path:
    """A workspace's folder, with a signed image for two platforms in the layout `in`."""
    folder = tmp_path / "project"
    folder.mkdir()
    done = up.cli("init", "--name", "supply", cwd=folder)
    assert done.returncode == 0, done.stderr
    made = world.recipe(tmp_path / "inputs", world.AMD64, world.ARM64)
    blobs = FileBlobs(tmp_path / "blobs")
    image = world.image(made, blobs)
    write_layout(image, blobs, folder / "in", "1")
    now = datetime.now(UTC)
    told = attachments_of(image, made, builder_version="9", started_at=now, repository="host/demo/digits", key=KEY)
    asyncio.run(attach(LayoutPlace(folder / "in"), told))
    (folder / "pub.pem").write_bytes(KEY.public.pem())
    (folder / "other.pem").write_bytes(SigningKey.generate().public.pem())
    return folder


def test_a_signed_image_is_verified_where_it_is_and_where_it_was_copied_to(up: Up, project: Path) -> None:
    there = f"{up.url.removeprefix('https://')}/supply/digits:1"
    copied = up.cli("image", "copy", "--referrers", "oci:in:1", there, cwd=project)
    assert copied.returncode == 0, copied.stderr
    for place in ("oci:in:1", there):
        done = up.cli("image", "verify", place, "--key", "pub.pem", "--json", cwd=project)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
        assert told["keyId"] == KEY.public.key_id
        assert told["signedFor"] == ["host/demo/digits"]
        assert told["predicates"] == [cosign.PROVENANCE_PREDICATE]
        refused = up.cli("image", "verify", place, "--key", "other.pem", cwd=project)
        assert refused.returncode == 1
        assert "other keys" in refused.stderr
    assert up.cli("image", "verify", there, cwd=project).returncode == 1  # the workspace's own key did not sign it


def test_the_documents_are_read_from_beside_the_image(up: Up, project: Path) -> None:
    lock = up.cli("image", "lock", "oci:in:1", cwd=project)
    assert json.loads(lock.stdout)["platforms"].keys() == {"linux/amd64", "linux/arm64"}
    pylock = up.cli(
        "image", "lock", "oci:in:1", "--pylock", "--platform", "linux/arm64", "--output", "pylock.toml", cwd=project
    )
    assert pylock.returncode == 0, pylock.stderr
    assert "aarch64" in (project / "pylock.toml").read_text()
    several = up.cli("image", "sbom", "oci:in:1", cwd=project)
    assert several.returncode == 2
    assert "--platform linux/amd64" in several.stderr
    sbom = up.cli("image", "sbom", "oci:in:1", "--platform", "linux/amd64", cwd=project)
    assert json.loads(sbom.stdout)["bomFormat"] == "CycloneDX"
    provenance = up.cli("image", "provenance", "oci:in:1", cwd=project)
    assert json.loads(provenance.stdout)["predicateType"] == cosign.PROVENANCE_PREDICATE


def test_an_image_without_documents_says_so(up: Up, project: Path) -> None:
    up.cli("image", "copy", "oci:in:1", "oci:bare:1", cwd=project)
    done = up.cli("image", "sbom", "oci:bare:1", cwd=project)
    assert done.returncode == 2
    assert "has no sbom" in done.stderr
    refused = up.cli("image", "verify", "oci:bare:1", "--key", "pub.pem", cwd=project)
    assert refused.returncode == 1
    assert "no signature" in refused.stderr


def test_the_workspaces_public_key_is_printed_and_stays(up: Up, project: Path) -> None:
    first, again = (up.cli("image", "key", cwd=project).stdout for _ in range(2))
    assert first == again
    told = json.loads(up.cli("image", "key", "--json", cwd=project).stdout)
    assert PublicKey.parse(first.encode()).key_id == told["keyId"]
