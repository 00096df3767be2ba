import json
from pathlib import Path

import pytest
from cyclonedx.model.bom import Bom
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from packageurl import PackageURL

from sanderling.image.supply_chain import sbom
from sanderling.oci import Digest
from tests.image.supply_chain import world

MANIFEST = Digest.of(b"manifest")


def document(folder: Path, **changes: object) -> dict[str, object]:
    contents = world.contents(world.AMD64, **changes)
    made = sbom.bill_of_materials(world.recipe(folder), contents, MANIFEST, "9")
    loaded = json.loads(sbom.to_bytes(made))
    assert isinstance(loaded, dict)
    return loaded


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"conda": (world.conda(),)},
        {"debian": (), "suite": "", "base": f"index.example/python@sha256:{world.sha256('base')}"},
    ],
    ids=["debian", "conda", "another image"],
)
def test_it_is_what_the_official_schema_allows_and_the_official_library_reads(
    tmp_path: Path, changes: dict[str, object]
) -> None:
    made = document(tmp_path, **changes)
    assert JsonStrictValidator(SchemaVersion.V1_6).validate_str(json.dumps(made)) is None
    bom = Bom.from_json(made)  # type: ignore[attr-defined]  # the library adds it when it runs
    assert len(bom.components) == len(made["components"])  # type: ignore[arg-type]


def test_every_package_has_a_package_url_and_the_hash_of_its_file(tmp_path: Path) -> None:
    made = document(tmp_path, conda=(world.conda(),))
    parts = {part["name"]: part for part in made["components"]}  # type: ignore[attr-defined]
    assert parts["libc6"]["purl"] == "pkg:deb/debian/libc6@2.36-9%2Bdeb12u10?arch=amd64&distro=debian-12"
    assert parts["tzdata"]["purl"].endswith("?arch=all&distro=debian-12")
    assert parts["numpy"]["purl"] == "pkg:pypi/numpy@2.1.0"
    assert parts["lightgbm"]["purl"].startswith("pkg:conda/lightgbm@4.5.0?build=py311_0&channel=conda-forge")
    for part in parts.values():
        if "purl" in part:
            assert PackageURL.from_string(part["purl"]).to_string() == part["purl"]
            assert part["hashes"][0]["alg"] == "SHA-256"
    assert parts["digits"]["type"] == "machine-learning-model"
    assert parts["digits"]["version"] == "3"
    assert parts["digits"]["components"][0]["hashes"][0]["content"] == world.sha256("model")


def test_licences_are_told_as_the_packages_say_them(tmp_path: Path) -> None:
    parts = {part["name"]: part for part in document(tmp_path)["components"]}  # type: ignore[attr-defined]
    assert parts["joblib"]["licenses"] == [{"expression": "BSD-3-Clause"}]
    assert [one["license"]["name"] for one in parts["libc6"]["licenses"]] == ["LGPL-2.1-or-later", "GPL-2.0-only"]
    assert "licenses" not in parts["numpy"]


def test_the_serial_number_is_the_images_and_there_is_no_time(tmp_path: Path) -> None:
    first, again = document(tmp_path / "a"), document(tmp_path / "b")
    assert first == again
    other = sbom.bill_of_materials(world.recipe(tmp_path), world.contents(world.AMD64), Digest.of(b"other"), "9")
    assert other["serialNumber"] != first["serialNumber"]
    assert "timestamp" not in first["metadata"]  # type: ignore[operator]
