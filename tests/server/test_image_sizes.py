from collections.abc import Iterator
from typing import Any

import pytest
from tests.registry.world import make_engine
from tests.server.conftest import RunningServer

from sanderling.image.service.build_records import BuildRecords

SIZES = "/api/v1/workspaces/demo/images/{}/versions/{}/sizes"


def layer(name: str, size: int) -> dict[str, Any]:
    packages = [{"name": name, "version": "1.0", "sizeBytes": size}]
    known = {"digest": f"sha256:{name:0>64}", "sizeBytes": size, "title": name, "packages": packages}
    return known | {"platforms": ["linux/amd64"]}


@pytest.fixture
def records(server: RunningServer) -> Iterator[BuildRecords]:
    server.api.post("/api/v1/workspaces", json={"name": "demo", "existOk": True})
    engine = make_engine(server.data / "sanderling.db")
    yield BuildRecords(engine)
    engine.dispose()


def built(records: BuildRecords, name: str, version: int, *layers: dict[str, Any]) -> None:
    recipe = {"platforms": ["linux/amd64"], "models": [], "tags": {}, "description": ""}
    records.add("demo", name, version, {"location": "here", "recipe": recipe, "properties": {}}, {}, 100)
    build = records.find("demo", name, version)
    assert build is not None
    if layers:
        records.change(build, ["queued", "running"], state="succeeded", layers=list(layers))
    else:
        records.change(build, ["queued", "running"], state="failed")


def test_the_report_compares_with_the_version_before_and_with_all_images(
    server: RunningServer, records: BuildRecords
) -> None:
    built(records, "sized", 1, layer("ba5e", 100), layer("a1", 10))
    built(records, "sized", 2)
    built(records, "sized", 3, layer("ba5e", 100), layer("a3", 11))
    built(records, "cousin", 1, layer("ba5e", 100))
    report = server.api.get(SIZES.format("sized", 3)).json()
    assert (report["id"], report["previous"]) == ("sized:3", "sized:1")
    (platform,) = report["platforms"]
    assert (platform["sizeBytes"], platform["downloadBytes"], platform["sharedBytes"]) == (111, 11, 100)
    assert platform["layers"][0]["sharedWith"] == ["sized:1", "cousin:1"]
    assert platform["layers"][1]["packages"] == [{"name": "a3", "version": "1.0", "sizeBytes": 11}]
    first = server.api.get(SIZES.format("sized", 1)).json()
    assert (first["previous"], first["platforms"][0]["downloadBytes"]) == (None, 110)
    same = server.api.get(SIZES.format("sized", 1), params={"previous": 1}).json()
    assert same["platforms"][0]["downloadBytes"] == 0


def test_what_is_not_built_has_no_sizes(server: RunningServer, records: BuildRecords) -> None:
    built(records, "unbuilt", 1)
    assert server.api.get(SIZES.format("unbuilt", 1)).status_code == 409
    assert server.api.get(SIZES.format("nowhere", 1)).status_code == 404
    assert server.api.get(SIZES.format("unbuilt", 1), params={"previous": 0}).status_code in (400, 422)
