"""What goes along with an image that is built here: lock, bill of materials, provenance, and a signature on request."""

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from sanderling.sdk.image_attachments import list_attachments, verify_image
from sanderling.sdk.image_copy import Side
from sanderling.signatures.keys import SigningKey
from tests.conftest import run_cli
from tests.registry.clients.tools import needed
from tests.registry_process import running_registry

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

PLAIN = ["lock", "provenance", "sbom"]
SIGNED = ["attestation", "lock", "provenance", "sbom", "signature"]


def build(folder: Path, cache: Path, *arguments: str | Path, code: int = 0) -> "subprocess.CompletedProcess[str]":
    words = ("image", "build", "--script", "score.py", "--no-gate", *arguments, "--cache", cache, "--json")
    done = run_cli(*words, cwd=folder, config=folder / "config")
    assert done.returncode == code, done.stdout + done.stderr
    return done


def built(folder: Path, cache: Path, *arguments: str | Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads(build(folder, cache, *arguments).stdout)
    return told


def kinds(reference: str, **side: Any) -> list[str]:
    return sorted({one.kind for one in list_attachments(reference, side=Side(**side))})


def listed(layout: Path) -> list[dict[str, Any]]:
    return list(json.loads((layout / "index.json").read_bytes())["manifests"])


@pytest.fixture
def folder(tmp_path: Path, score: Path, model: Path) -> Path:
    return score.parent


def test_a_layout_holds_what_is_told_and_a_build_again_adds_nothing(folder: Path, shared_cache: Path) -> None:
    first = built(folder, shared_cache, "--output", "oci:out", "--attachments")
    layout = folder / "out"
    assert first["outputs"][0]["attachments"] == ["lock", "sbom", "provenance"]
    assert kinds(f"oci:{layout}") == kinds(f"oci:{layout}:score:latest") == PLAIN
    assert listed(layout)[0]["digest"] == first["digest"]  # who reads the first alone has the image
    before = listed(layout)
    again = built(folder, shared_cache, "--output", "oci:out", "--attachments")
    assert again["digest"] == first["digest"]
    assert listed(layout) == before
    bare = built(folder, shared_cache, "--output", "oci:bare")
    assert (bare["digest"], len(listed(folder / "bare"))) == (first["digest"], 1)


def test_a_new_image_of_the_name_takes_the_place_of_the_old_with_all_that_was_about_it(
    folder: Path, shared_cache: Path
) -> None:
    built(folder, shared_cache, "--output", "oci:out", "--attachments")
    built(folder, shared_cache, "--output", "oci:out:kept", "--attachments")
    count = len(listed(folder / "out"))
    for content in (b"one", b"two"):
        (folder / "model.pkl").write_bytes(content)
        built(folder, shared_cache, "--model", "model.pkl", "--output", "oci:out", "--attachments")
    assert len(listed(folder / "out")) == count + len(PLAIN)
    assert kinds(f"oci:{folder / 'out'}:kept") == kinds(f"oci:{folder / 'out'}:score:latest") == PLAIN


def test_an_image_is_signed_with_the_key_of_a_file_for_each_place_that_can_hold_it(
    folder: Path, shared_cache: Path
) -> None:
    needed("openssl", "openssl")
    make = ["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", "key.pem"]
    subprocess.run(make, cwd=folder, check=True, capture_output=True)
    subprocess.run(
        ["openssl", "pkey", "-in", "key.pem", "-pubout", "-out", "pub.pem"], cwd=folder, check=True, capture_output=True
    )
    with running_registry(folder / "registry", "--no-auth", "--http") as registry:
        pushed = f"{registry.login_server}/demo/digits:1"
        places = ("--output", "oci:out", "--output", "oci-archive:out.tar", "--output", "docker-archive:docker.tar")
        done = build(
            folder, shared_cache, *places, "--push", pushed, "--push-plain-http", "--sign-key", "key.pem",
            "--platform", "linux/amd64",
        )  # fmt: skip
        told = json.loads(done.stdout)
        assert kinds(pushed, is_plain_http=True) == SIGNED
        for reference in (f"oci:{folder / 'out'}", f"oci-archive:{folder / 'out.tar'}", pushed):
            checked = verify_image(reference, folder / "pub.pem", side=Side(is_plain_http=True))
            assert checked.digest == told["digest"]
    assert "docker-archive:docker.tar holds no signature" in done.stderr
    assert [len(one["attachments"]) for one in told["outputs"]] == [6, 6, 0, 6]
    assert "PRIVATE" not in done.stdout + done.stderr


def test_skopeo_and_copy_read_the_layout_as_before(folder: Path, shared_cache: Path) -> None:
    needed("skopeo", "skopeo")
    digest = built(folder, shared_cache, "--output", "oci:out", "--attachments")["digest"]
    built(folder, shared_cache, "--output", "oci:bare")
    for place in ("oci:out:score:latest", "oci:bare"):
        inspect = ["skopeo", "inspect", "--format", "{{.Digest}}", place]
        found = subprocess.run(inspect, cwd=folder, capture_output=True, text=True)
        assert (found.returncode, found.stdout.strip()) == (0, digest), found.stderr
    copied = ["skopeo", "copy", "-q", "oci:out:score:latest", "oci:again:x"]
    subprocess.run(copied, cwd=folder, check=True, capture_output=True)
    done = run_cli("image", "copy", "oci:out", "oci:other:x", "--referrers", cwd=folder, config=folder / "config")
    assert done.returncode == 0, done.stderr
    assert kinds(f"oci:{folder / 'other'}") == PLAIN


def test_a_file_that_is_no_key_is_refused_before_anything_is_built(folder: Path, shared_cache: Path) -> None:
    (folder / "key.pem").write_text("secret-word")
    done = build(folder, shared_cache, "--output", "oci:out", "--sign-key", "key.pem", code=2)
    assert "this is no private key in PEM" in done.stderr
    assert "try: openssl genpkey -algorithm EC" in done.stderr
    assert "secret-word" not in done.stderr
    gone = build(folder, shared_cache, "--output", "oci:out", "--sign-key", "nowhere.pem", code=2)
    assert "the key nowhere.pem cannot be read" in gone.stderr
    (folder / "key.pem").write_bytes(SigningKey.generate().private_pem())
    both = build(folder, shared_cache, "--output", "oci:out", "--sign-key", "key.pem", "--no-attachments", code=2)
    assert "leave --no-attachments out" in both.stderr
    assert not (folder / "out").exists()
