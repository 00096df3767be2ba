"""docker with a dockerd of its own: it knows the registry by name, and trusts it only with our authority."""

import json
import secrets
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.dockerd import running_dockerd
from tests.registry.clients.documented import run_documented
from tests.registry.clients.images import docker_archive, write_build_context
from tests.registry.clients.proxied import Proxy, proxied
from tests.registry.clients.site import Site
from tests.registry.clients.tools import Tool, auth_file, needed
from tests.registry_process import running_registry

pytestmark = [pytest.mark.docker]

CERTIFICATES = Path("/etc/docker/certs.d")  # dockerd looks nowhere else


@pytest.fixture(scope="module")
def proxy() -> Iterator[Proxy]:
    with proxied() as proxy:
        yield proxy


@pytest.fixture(scope="module")
def docker(site: Site, proxy: Proxy, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    """Docker that knows no authority of ours, and nobody's password."""
    program, home = needed("docker", "docker.io"), tmp_path_factory.mktemp("docker")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HTTPS_PROXY", proxy.url)
        with running_dockerd("--iptables=false", "--storage-driver=vfs") as address:
            yield Tool(program, home, (), {"DOCKER_HOST": address, "HTTPS_PROXY": proxy.url})


@pytest.fixture(scope="module")
def trusting(docker: Tool, site: Site) -> Iterator[Tool]:
    """The same with our authority, signed in as `admin`."""
    folder = CERTIFICATES / site.named_address
    made = [one for one in (folder, *folder.parents) if not one.exists()]
    folder.mkdir(parents=True)
    try:
        shutil.copy(site.ca, folder / "ca.crt")
        said = docker("login", "--username=admin", "--password-stdin", site.named_address, stdin=site.password)
        assert "Login Succeeded" in said.out
        yield docker
    finally:
        shutil.rmtree(folder)
        with suppress(OSError):  # another test may have its own folder beside ours
            for parent in made[1:]:
                parent.rmdir()


@pytest.fixture
def name(site: Site) -> str:
    """A repository that no other test has, as docker names it."""
    return f"{site.named_address}/demo/{secrets.token_hex(4)}"


def load(docker: Tool, name: str, tmp_path: Path, layers: int = 1) -> str:
    """Make an image that no other test has; return its reference."""
    archive = docker_archive(tmp_path / f"{secrets.token_hex(4)}.tar", f"{name}:1", layers)
    docker("load", "--input", archive)
    return f"{name}:1"


def signed_in(docker: Tool, site: Site, tmp_path: Path, user: str, password: str) -> dict[str, str]:
    """Return the variables of somebody who is signed in, rightly or wrongly."""
    folder = tmp_path / secrets.token_hex(4)
    folder.mkdir()
    auth_file(folder, site.named_address, user, password).rename(folder / "config.json")
    return {"DOCKER_CONFIG": str(folder)}


def test_without_our_authority_docker_signs_in_to_nothing(docker: Tool, site: Site) -> None:
    if (CERTIFICATES / site.named_address).exists():
        pytest.fail("this test comes before those that trust our authority")
    login = ("login", "--username=admin", "--password-stdin", site.named_address)
    assert "certificate signed by unknown authority" in docker(*login, stdin=site.password, fails=True).err


def test_an_image_is_pushed_pulled_and_the_same(trusting: Tool, name: str, tmp_path: Path) -> None:
    image = load(trusting, name, tmp_path, layers=20)
    identity = trusting("inspect", "--format={{.Id}}", image).out
    said = trusting("push", image).out
    assert said.count(": Pushed") == 20
    assert "1: digest: sha256:" in said
    trusting("rmi", image)
    assert "Status: Downloaded newer image" in trusting("pull", image).out
    assert trusting("inspect", "--format={{.Id}}", image).out == identity
    digest = trusting("inspect", "--format={{index .RepoDigests 0}}", image).out.strip()
    assert digest.startswith(f"{name}@sha256:")
    assert "Status: Image is up to date" in trusting("pull", digest).out


def test_a_pushed_layer_is_mounted_in_another_repository(trusting: Tool, name: str, tmp_path: Path) -> None:
    image = load(trusting, name, tmp_path)
    trusting("push", image)
    trusting("tag", image, f"{name}-copy:1")
    assert f"Mounted from {name.partition('/')[2]}" in trusting("push", f"{name}-copy:1").out
    assert "Layer already exists" in trusting("push", image).out


def test_all_tags_are_pushed_and_pulled(trusting: Tool, name: str, tmp_path: Path) -> None:
    image = load(trusting, name, tmp_path)
    trusting("tag", image, f"{name}:{'t' * 128}")
    trusting("push", "--all-tags", name)
    trusting("rmi", image, f"{name}:{'t' * 128}")
    assert trusting("pull", "--all-tags", name).out.count("Digest: sha256:") == 2


def test_an_image_that_is_built_is_pushed(trusting: Tool, name: str, tmp_path: Path) -> None:
    write_build_context(tmp_path)
    trusting("build", "--quiet", "--tag", f"{name}:1", tmp_path, DOCKER_BUILDKIT="0")
    trusting("push", f"{name}:1")
    trusting("rmi", f"{name}:1")
    trusting("pull", f"{name}:1")
    assert "ANSWER=42" in trusting("inspect", "--format={{.Config.Env}}", f"{name}:1").out


def test_images_of_two_platforms_become_one_list(trusting: Tool, name: str, tmp_path: Path) -> None:
    for architecture in ("amd64", "arm64"):
        trusting("push", trusting_tag(trusting, load(trusting, name, tmp_path), f"{name}:{architecture}"))
    trusting("manifest", "create", f"{name}:all", f"{name}:amd64", f"{name}:arm64")
    trusting("manifest", "annotate", "--arch=arm64", f"{name}:all", f"{name}:arm64")
    trusting("manifest", "push", "--purge", f"{name}:all")
    document = json.loads(trusting("manifest", "inspect", f"{name}:all").out)
    assert document["mediaType"] == "application/vnd.docker.distribution.manifest.list.v2+json"
    assert {one["platform"]["architecture"] for one in document["manifests"]} == {"amd64", "arm64"}
    trusting("pull", "--platform=linux/arm64", f"{name}:all")


def trusting_tag(docker: Tool, image: str, name: str) -> str:
    docker("tag", image, name)
    return name


def test_a_push_and_a_pull_go_on_after_the_connection_was_cut(
    trusting: Tool, proxy: Proxy, name: str, tmp_path: Path
) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY large /\n")
    (tmp_path / "large").write_bytes(secrets.token_bytes(6_000_000))
    trusting("build", "--quiet", "--tag", f"{name}:1", tmp_path, DOCKER_BUILDKIT="0")
    cuts = proxy.cuts
    proxy.plan_cut("sent", 2_000_000)
    trusting("push", f"{name}:1")
    assert proxy.cuts == cuts + 1
    trusting("rmi", f"{name}:1")
    proxy.plan_cut("received", 2_000_000)
    trusting("pull", f"{name}:1")
    assert proxy.cuts == cuts + 2


def test_what_was_never_pushed_is_said_so(trusting: Tool, name: str) -> None:
    said = trusting("pull", f"{name}:1", fails=True).err
    assert "manifest unknown: manifest demo/" in said
    assert ":1 is not here; was it pushed?" in said


def test_a_wrong_password_is_said_so_and_changes_nothing(trusting: Tool, site: Site, name: str, tmp_path: Path) -> None:
    login = ("login", "--username=demo", "--password-stdin", site.named_address)
    said = trusting(*login, stdin="wrong", fails=True, DOCKER_CONFIG=str(tmp_path)).err
    assert "unauthorized: the user name or the password is wrong" in said
    image = load(trusting, name, tmp_path)
    said = trusting("push", image, fails=True, **signed_in(trusting, site, tmp_path, "demo", "wrong")).err
    assert "unauthorized: the user name or the password is wrong" in said
    said = trusting("push", image, fails=True, DOCKER_CONFIG=str(tmp_path)).err
    assert "sign in with a user name and a password" in said
    assert ":1 is not here" in trusting("pull", image, fails=True).err


def test_rights_end_at_the_workspace(trusting: Tool, site: Site, name: str, tmp_path: Path) -> None:
    demo = signed_in(trusting, site, tmp_path, "demo", site.demo_password)
    image = load(trusting, name, tmp_path)
    trusting("push", image, **demo)
    other = trusting_tag(trusting, image, image.replace("/demo/", "/other/"))
    assert "denied: demo may not push other/" in trusting("push", other, fails=True, **demo).err


def test_a_device_pulls_with_its_token_and_cannot_push(trusting: Tool, site: Site, name: str, tmp_path: Path) -> None:
    image = load(trusting, name, tmp_path)
    trusting("push", image)
    device = signed_in(trusting, site, tmp_path, "device", site.token("demo/*", "pull"))
    trusting("rmi", image)
    trusting("pull", image, **device)
    other = load(trusting, f"{name}-other", tmp_path)
    assert "denied: device may not push demo/" in trusting("push", other, fails=True, **device).err


def test_a_token_that_expired_is_said_so(trusting: Tool, site: Site, name: str, tmp_path: Path) -> None:
    expired = site.token("demo/*", "pull", ttl_s=-1)
    login = ("login", "--username=device", "--password-stdin", site.named_address)
    said = trusting(*login, stdin=expired, fails=True, DOCKER_CONFIG=str(tmp_path)).err
    assert "unauthorized: the token expired at " in said
    variables = signed_in(trusting, site, tmp_path, "device", expired)
    assert "unauthorized: the token expired at " in trusting("pull", f"{name}:1", fails=True, **variables).err


def test_who_guesses_is_told_to_wait(trusting: Tool, site: Site, tmp_path: Path) -> None:
    login = ("login", f"--username=guesser-{secrets.token_hex(4)}", "--password-stdin", site.named_address)
    said = [trusting(*login, stdin=f"guess-{n}", fails=True, DOCKER_CONFIG=str(tmp_path)).err for n in range(6)]
    assert "the user name or the password is wrong" in said[4]
    assert "too many wrong passwords; try again in " in said[5]


def test_who_signs_out_is_nobody(trusting: Tool, site: Site, name: str, tmp_path: Path) -> None:
    config = {"DOCKER_CONFIG": str(tmp_path)}
    login = ("login", "--username=demo", "--password-stdin", site.named_address)
    trusting(*login, stdin=site.demo_password, **config)
    assert ":1 is not here" in trusting("pull", f"{name}:1", fails=True, **config).err
    trusting("logout", site.named_address, **config)
    assert "sign in with a user name and a password" in trusting("pull", f"{name}:1", fails=True, **config).err


def test_where_nobody_signs_in_docker_pushes_and_pulls(docker: Tool, tmp_path: Path) -> None:
    with running_registry(tmp_path / "open", "--no-auth", "--http") as registry:
        image = load(docker, f"{registry.login_server}/any/name", tmp_path)
        nobody = {"DOCKER_CONFIG": str(tmp_path)}
        docker("push", image, **nobody)
        docker("rmi", image)
        docker("pull", image, **nobody)


def test_the_documentation_is_right(trusting: Tool, site: Site, tmp_path: Path) -> None:
    archive = docker_archive(tmp_path / "digits.tar", "digits:latest", 2)
    trusting("load", "--input", archive)
    said = run_documented(trusting, site, tmp_path, site.named_address, DOCKER_CONFIG=str(tmp_path))
    assert "1: digest: sha256:" in said
