from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from sanderling.errors import Conflict, Invalid, NotFound
from sanderling.oci import Digest
from sanderling.workspace import Workspaces

if TYPE_CHECKING:
    from tests.workspace.conftest import World


def test_a_registered_model_is_read_back_as_it_was_given(world: World) -> None:
    files = {"folder/model.pkl": world.send(b"model"), "folder/labels.txt": world.send(b"0 1 2")}
    made = world.workspaces.register("demo", "digits", files, {"accuracy": "0.97"}, {"run": "7"}, "Digits")
    read = world.workspaces.get_model("demo", "digits", 1)
    assert read == made
    assert (read.id, read.description, read.size_bytes) == ("digits:1", "Digits", 10)
    assert (read.tags, read.properties) == ({"accuracy": "0.97"}, {"run": "7"})
    assert [(file.path, file.digest) for file in read.files] == sorted(files.items())
    assert world.workspaces.get_file("demo", "digits", 1, "folder/labels.txt")[1].read_bytes() == b"0 1 2"


def test_versions_count_up_and_never_return_after_a_delete(world: World) -> None:
    assert [world.register("digits") for _ in range(3)] == [1, 2, 3]
    world.workspaces.delete_model("demo", "digits", 3)
    world.workspaces.delete_model("demo", "digits", 1)
    assert world.register("digits") == 4
    assert [model.version for model in world.workspaces.find_models("demo")] == [4, 2]
    assert world.register("other") == 1


def test_a_deleted_model_is_gone_with_its_tags_and_files(world: World) -> None:
    world.register("digits", {"stage": "prod"})
    world.workspaces.delete_model("demo", "digits", 1)
    assert world.workspaces.find_models("demo", tags=["stage"]) == []
    with pytest.raises(NotFound, match="digits"):
        world.workspaces.get_model("demo", "digits", 1)
    with pytest.raises(NotFound):
        world.workspaces.delete_model("demo", "digits", 1)


def test_models_registered_at_once_get_different_versions(world: World) -> None:
    digest = world.send(b"model")
    with ThreadPoolExecutor(8) as pool:
        work = [
            pool.submit(world.workspaces.register, "demo", "digits", {"m": digest}, {"n": str(n)}, {})
            for n in range(24)
        ]
        versions = sorted(made.result().version for made in work)
    assert versions == list(range(1, 25))


def test_models_are_listed_newest_first_and_by_name_tag_and_latest(world: World) -> None:
    world.register("digits", {"stage": "prod"})
    world.register("digits", {"stage": "test"})
    world.register("churn", {"stage": "prod", "team": "a"})
    find = world.workspaces.find_models
    assert [model.id for model in find("demo")] == ["churn:1", "digits:2", "digits:1"]
    assert [model.id for model in find("demo", name="digits")] == ["digits:2", "digits:1"]
    assert [model.id for model in find("demo", tags=["stage=prod"])] == ["churn:1", "digits:1"]
    assert [model.id for model in find("demo", tags=["stage=prod", "team"])] == ["churn:1"]
    assert [model.id for model in find("demo", latest=True)] == ["churn:1", "digits:2"]
    assert [model.id for model in find("demo", tags=["stage=prod"], latest=True)] == ["churn:1", "digits:1"]
    assert [model.id for model in find("demo", limit=1)] == ["churn:1"]


def test_the_latest_model_is_the_one_without_a_version(world: World) -> None:
    world.register("digits")
    world.register("digits")
    assert world.workspaces.get_model("demo", "digits").version == 2
    with pytest.raises(NotFound, match=r"no version 9 .* it has 1, 2"):
        world.workspaces.get_model("demo", "digits", 9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "no spaces"}, "model name"),
        ({"name": ""}, "model name"),
        ({"name": "-dash"}, "model name"),
        ({"files": {}}, "at least one file"),
        ({"files": {"/etc/passwd": None}}, "absolute"),
        ({"files": {"a/../b": None}}, "plainly"),
        ({"files": {"a//b": None}}, "plainly"),
        ({"files": {"C:/b": None}}, "absolute"),
        ({"files": {"a\\b": None}}, "printable"),
        ({"files": {"a\0b": None}}, "printable"),
        ({"files": {"a": None, "a/b": None}}, "folder"),
        ({"files": {"a": None, "a.b": None, "a/b": None}}, "folder"),
        ({"files": {"m": Digest.of(b"never sent")}}, "not sent"),
        ({"tags": ["a", "b"]}, "mapping"),
        ({"tags": {"a": 1}}, "text"),
        ({"tags": {"": "x"}}, "printable"),
        ({"tags": {"a": "x" * 5000}}, "at most"),
        ({"properties": {"a": None}}, "text"),
        ({"description": None}, "description"),
    ],
)
def test_a_bad_registration_is_refused_and_changes_nothing(
    world: World, change: dict[str, object], message: str
) -> None:
    sent = world.send(b"model")
    given: dict[str, object] = {
        "name": "digits",
        "files": {"model.pkl": sent},
        "tags": {},
        "properties": {},
        "description": "",
    }
    if isinstance(change.get("files"), dict):
        change = {"files": {path: digest or sent for path, digest in change["files"].items()}}
    with pytest.raises(Invalid, match=message):
        world.workspaces.register("demo", **(given | change))
    assert world.workspaces.find_models("demo") == []
    assert world.register("digits") == 1, "a refused registration must not use up a version"


def test_content_of_another_workspace_cannot_be_used_by_its_digest(world: World) -> None:
    world.workspaces.create("other")
    secret = world.send(b"theirs", workspace="other")
    assert world.workspaces.find_sizes("demo", [secret]) == {}
    with pytest.raises(Invalid, match="not sent to workspace 'demo'"):
        world.workspaces.register("demo", "digits", {"m": secret}, {}, {})


def test_workspaces_are_made_once_and_listed_by_name(world: World) -> None:
    world.workspaces.create("a-team")
    with pytest.raises(Conflict, match="demo"):
        world.workspaces.create("demo")
    assert world.workspaces.create("demo", exist_ok=True).name == "demo"
    world.register("digits")
    assert [(info.name, info.model_count) for info in world.workspaces.list_all()] == [("a-team", 0), ("demo", 1)]


@pytest.mark.parametrize("name", ["ab", "Demo", "demo_1", "-demo", "demo-", "a" * 33, "demo\n", ""])
def test_a_bad_workspace_name_is_refused(world: World, name: str) -> None:
    with pytest.raises(Invalid, match="workspace name"):
        world.workspaces.create(name)


def test_an_unknown_workspace_is_named_with_the_way_to_make_it(world: World) -> None:
    with pytest.raises(NotFound, match="init --name nowhere"):
        world.workspaces.find_models("nowhere")
    with pytest.raises(NotFound, match="nowhere"):
        world.workspaces.register("nowhere", "m", {"m": world.send(b"x")}, {}, {})


def test_everything_is_there_after_a_restart(world: World) -> None:
    world.register("digits", {"stage": "prod"})
    again = Workspaces(world.engine, world.blobs)
    assert again.get_model("demo", "digits") == world.workspaces.get_model("demo", "digits")


def test_content_that_no_model_has_is_removed_after_a_while(world: World) -> None:
    world.register("digits", content=b"kept by a model")
    world.register("churn", content=b"of a deleted model")
    world.workspaces.delete_model("demo", "churn", 1)
    awaited, fresh = world.send(b"awaited by a build"), world.send(b"sent just now")
    for info in world.blobs.digests():
        if info.digest != fresh:
            os.utime(world.blobs.path(info.digest), (1000, 1000))
    assert world.workspaces.remove_unused([awaited], datetime.fromtimestamp(2000, UTC)) == 1
    left = {world.blobs.read(info.digest) for info in world.blobs.digests()}
    assert left == {b"kept by a model", b"awaited by a build", b"sent just now"}
    gone = Digest.of(b"of a deleted model")
    assert world.workspaces.find_sizes("demo", [gone]) == {}
    assert world.register("churn", content=b"of a deleted model") == 2
