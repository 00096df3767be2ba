import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.conftest import Up, run_cli
from tests.registry.serving import served
from tests.transfer.images import Made, content_of

from sanderling.registry import RegistryCredentials


@pytest.fixture
def other(tmp_path: Path) -> Iterator[tuple[str, RegistryCredentials]]:
    """A registry that is not the workspace's."""
    (tmp_path / "other").mkdir()
    with served(tmp_path / "other") as (address, credentials):
        yield address, credentials


@pytest.fixture
def project(up: Up, tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    folder.mkdir()
    done = up.cli("init", "--name", "copying", cwd=folder)
    assert done.returncode == 0, done.stderr
    write_layout(folder / "in")
    return folder


def write_layout(folder: Path) -> None:
    made = Made()
    made.name(made.index(made.image("amd64"), made.image("arm64")), "1")
    made.write(folder)


def test_an_image_goes_into_the_workspaces_registry_and_back_without_any_password(up: Up, project: Path) -> None:
    host = up.url.removeprefix("https://")
    there = up.cli("image", "copy", "oci:in:1", f"{host}/copying/digits:1", "--json", cwd=project)
    assert there.returncode == 0, there.stderr
    told = json.loads(there.stdout)
    assert told["images"][0]["name"] == "1"
    assert told["manifests"] == 3
    back = up.cli("image", "copy", f"docker://{host}/copying/digits:1", "oci:out:1", cwd=project)
    assert back.returncode == 0, back.stderr
    assert told["images"][0]["digest"] in back.stdout
    assert content_of(project / "out") == content_of(project / "in")


def test_a_second_copy_sends_nothing(up: Up, project: Path) -> None:
    for sent in (4, 0):
        done = up.cli("image", "copy", "oci:in:1", "oci:out:1", "--json", cwd=project)
        assert json.loads(done.stdout)["sentBlobs"] == sent


def test_credentials_come_from_a_file_standard_input_and_dockers_own(
    up: Up, project: Path, other: tuple[str, RegistryCredentials]
) -> None:
    address, credentials = other
    password = credentials.set_admin_enabled("demo", True).passwords[0]
    target = f"{address}/demo/digits"
    (project / "creds").write_text(f"demo:{password}\n")
    home = {"HOME": str(project / "home"), "DOCKER_CONFIG": str(project / "home"), "XDG_RUNTIME_DIR": ""}
    by_file = up.cli(
        "image", "copy", "oci:in:1", f"{target}:1", "--dst-creds-file", "creds", "--dst-plain-http", cwd=project, **home
    )
    assert by_file.returncode == 0, by_file.stderr
    by_stdin = up.cli(
        "image",
        "copy",
        "oci:in:1",
        f"{target}:2",
        "--dst-creds-file",
        "-",
        cwd=project,
        stdin=f"demo:{password}",
        **home,
    )
    assert by_stdin.returncode == 0, by_stdin.stderr
    refused = up.cli("image", "copy", "oci:in:1", f"{target}:3", cwd=project, **home)
    assert refused.returncode == 1
    assert f"{address} asks for credentials for demo/digits" in refused.stderr
    assert f"try: docker login {address}" in refused.stderr
    (project / "home").mkdir()
    (project / "home" / "config.json").write_text(
        json.dumps({"auths": {address: {"username": "demo", "password": password}}})
    )
    all_tags = up.cli("image", "copy", "--all-tags", target, "oci:all", "--json", cwd=project, **home)
    assert all_tags.returncode == 0, all_tags.stderr
    assert sorted(image["name"] for image in json.loads(all_tags.stdout)["images"]) == ["1", "2"]
    assert password not in all_tags.stdout + all_tags.stderr + refused.stderr


@pytest.mark.parametrize(
    ("source", "target", "said"),
    [
        ("oci:gone:1", "oci:out:1", "gone is no OCI layout"),
        ("oci:in:9", "oci:out:1", "holds no image '9'; it has 1"),
        ("./in", "oci:out", "write oci:./in for a folder"),
        ("https://x/y", "oci:out", "leave the scheme away"),
        ("oci:in:1", "docker-archive:x.tar:a:1", "name one with --platform, as linux/amd64, linux/arm64"),
        ("oci:in:1", "oci:project:1", "is no OCI layout; name another folder"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(up: Up, project: Path, source: str, target: str, said: str) -> None:
    (project / "project").mkdir()
    (project / "project" / "file").touch()
    done = up.cli("image", "copy", source, target, cwd=project)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_outside_of_a_project_it_copies_too(tmp_path: Path) -> None:
    write_layout(tmp_path / "in")
    done = run_cli("image", "copy", "oci:in:1", "oci-archive:x.tar:1", cwd=tmp_path, config=tmp_path / "config")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.tar").is_file()


def test_all_tags_go_into_one_docker_archive_and_out_of_it(tmp_path: Path) -> None:
    write_layout(tmp_path / "in")
    config = tmp_path / "config"
    steps = [
        ("oci:in:1", "oci:in:2"),
        ("--all-tags", "--platform", "linux/arm64", "oci:in", "docker-archive:x.tar:demo/digits"),
        ("--all-tags", "docker-archive:x.tar", "oci:out"),
    ]
    told = {}
    for step in steps:
        done = run_cli("image", "copy", *step, "--json", cwd=tmp_path, config=config)
        assert done.returncode == 0, done.stderr
        told = json.loads(done.stdout)
    assert [image["name"] for image in told["images"]] == ["1", "2"]
    refused = run_cli("image", "copy", "--all-tags", "oci:in:1", "oci:out", cwd=tmp_path, config=config)
    assert refused.returncode == 2
    assert "neither side may name one" in refused.stderr
