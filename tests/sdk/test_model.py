import os
from pathlib import Path

import pytest

from sanderling import Model, Workspace
from sanderling.errors import Conflict, Invalid, NotFound
from sanderling.sdk.model import local_files, safe_path, split_id


def test_versions_of_a_model_count_up_and_what_is_downloaded_is_what_was_registered(
    workspace: Workspace, tmp_path: Path
) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(b"one")
    first = Model.register(workspace, file, "digits", tags={"a": "b"}, properties={"p": "q"}, description="for people")
    file.write_bytes(b"two")
    second = Model.register(workspace=workspace, model_path=file, model_name="digits")
    assert (first.id, second.id) == ("digits:1", "digits:2")
    assert (dict(first.tags), dict(first.properties), first.description) == ({"a": "b"}, {"p": "q"}, "for people")
    assert first.created_time is not None
    assert Model.get(workspace, "digits") == second
    assert Model.get(workspace, "digits:1") == first
    assert first.download(tmp_path / "out").read_bytes() == b"one"


def test_a_folder_keeps_its_name_as_the_first_part_of_each_path(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "net"
    (folder / "weights").mkdir(parents=True)
    (folder / "weights" / "w.bin").write_bytes(b"w")
    (folder / "a b ü.txt").write_text("t")
    model = Model.register(workspace, folder)
    assert [file.path for file in model.files] == ["net/a b ü.txt", "net/weights/w.bin"]
    top = model.download(tmp_path / "out")
    assert top == tmp_path / "out" / "net"
    assert (top / "weights" / "w.bin").read_bytes() == b"w"
    assert (top / "a b ü.txt").read_text() == "t"


def test_a_download_does_not_overwrite_unless_it_may(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(b"one")
    model = Model.register(workspace, file)
    with pytest.raises(Conflict, match="is there already"):
        model.download(tmp_path)
    file.write_bytes(b"changed here")
    assert model.download(tmp_path, exist_ok=True).read_bytes() == b"one"


def test_models_are_listed_by_name_and_tag(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "m"
    file.write_bytes(b"m")
    for name, tags in (("a", {"k": "1"}), ("a", {}), ("b", {"k": "2"})):
        Model.register(workspace, file, name, tags=tags)
    assert {m.id for m in Model.list(workspace)} == {"a:1", "a:2", "b:1"}
    assert {m.id for m in Model.list(workspace, name="a")} == {"a:1", "a:2"}
    assert {m.id for m in Model.list(workspace, tag="k=2")} == {"b:1"}
    assert {m.id for m in Model.list(workspace, latest=True)} == {"a:2", "b:1"}
    assert set(workspace.models) == {"a", "b"}


def test_a_deleted_version_does_not_return(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "m"
    file.write_bytes(b"m")
    Model.register(workspace, file).delete()
    with pytest.raises(NotFound):
        Model.get(workspace, "m")
    assert Model.register(workspace, file).version == 2


def test_a_missing_file_is_named_and_nothing_is_sent(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"nix\.pkl is not there"):
        Model.register(workspace, tmp_path / "nix.pkl", "digits")
    assert Model.list(workspace) == []


def test_an_unreadable_file_is_named_and_nothing_is_sent(workspace: Workspace) -> None:
    # Reading it fails for everyone, root included.
    with pytest.raises(Invalid, match="/proc/self/mem cannot be read"):
        Model.register(workspace, "/proc/self/mem", "digits")
    assert Model.list(workspace) == []


def test_a_folder_without_a_file_and_a_pipe_are_refused(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="holds no file"):
        list(local_files(tmp_path))
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(Invalid, match="neither a file nor a folder"):
        list(local_files(tmp_path / "pipe"))


def test_a_name_that_cannot_be_one_is_refused_before_the_file_is_looked_at(workspace: Workspace) -> None:
    with pytest.raises(Invalid, match="cannot name a model"):
        Model.register(workspace, "nowhere", "-digits")


def test_tags_that_are_not_text_are_refused(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(b"m")
    with pytest.raises(Invalid, match="tags"):
        Model.register(workspace, tmp_path / "m", tags={"n": 1})  # type: ignore[dict-item]


@pytest.mark.parametrize("text", ["digits", "digits:", ":1", "digits:one", "digits:9999999999"])
def test_an_id_is_a_name_and_a_number(text: str) -> None:
    with pytest.raises(Invalid):
        split_id(text)
    assert split_id("a:b:3") == ("a:b", 3)


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "a/../../x", ""])
def test_a_path_that_leads_out_of_the_folder_is_refused(path: str) -> None:
    with pytest.raises(Invalid, match="leads out"):
        safe_path(path)
