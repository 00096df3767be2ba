"""The record of a build that succeeded, against what is in the registry."""

import hashlib
from pathlib import Path

import pytest

from sanderling.image import ModelFiles, SourceFile
from sanderling.image.service.record import of_failure
from sanderling.image.version import product_version
from sanderling.sdk.image_attachments import list_attachments, read_attachment
from sanderling.sdk.image_copy import Side
from sanderling.sdk.registry_auth import RegistryAccount
from sanderling.signatures.keys import SigningKey
from tests.image.service.test_builds import MakeBuilds, engine, make_builds, wait
from tests.image.service.test_endings import target, warm_cache
from tests.registry.serving import served

__all__ = ["engine", "make_builds", "warm_cache"]  # fixtures

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]


def test_a_build_that_ends_before_it_says_a_word_has_no_steps_and_no_lines() -> None:
    assert of_failure([], None) == {"errorLines": [], "steps": [], "culprit": {}}


def test_the_record_says_what_went_in_what_came_out_and_how_long_it_took(
    make_builds: MakeBuilds, tmp_path: Path, score: Path, model: Path
) -> None:
    key = SigningKey.generate()
    with served(tmp_path) as (address, credentials):
        builds = make_builds(target(address, credentials), signing_key=lambda _: key.private_pem().decode())
        builds.start()
        models = [ModelFiles("digits", 3, {"model.pkl": model})]
        build = builds.create(
            "demo", "digits", script=SourceFile("score.py", score), models=models, requested_by="workspace demo"
        )
        done = wait(builds, build)
        assert done.error is None
        record = done.record
        [manifest] = record["manifests"]
        assert (manifest["platform"], manifest["digest"]) == ("linux/amd64", done.digest)
        assert manifest["sizeBytes"] == done.size_bytes
        [base] = record["bases"]
        assert (base["kind"], base["platform"], base["architecture"]) == ("debian", "linux/amd64", "amd64")
        assert base["packages"] > 20
        assert record["requestedBy"] == "workspace demo"
        assert record["builder"] == product_version()
        assert record["keyId"] == key.public.key_id
        assert record["sentBytes"] > 0
        assert all(step["seconds"] >= 0 for step in record["steps"])
        assert sum(layer["sizeBytes"] for layer in done.layers) < manifest["sizeBytes"]
        [inside] = record["inputs"]["models"]
        assert inside["files"]["model.pkl"] == f"sha256:{hashlib.sha256(model.read_bytes()).hexdigest()}"
        account = credentials.set_admin_enabled("demo", True)
        side = Side(RegistryAccount(account.username, account.passwords[0]), is_plain_http=True)
        beside = {(one.kind, one.digest) for one in list_attachments(done.location, side=side)}
        for document in record["documents"]:
            assert (document["kind"], document["digest"]) in beside
            raw = read_attachment(done.location, document["kind"], side=side)
            assert document["contentDigest"] == f"sha256:{hashlib.sha256(raw).hexdigest()}"
        assert [document["kind"] for document in record["documents"]] == ["lock", "sbom"]
