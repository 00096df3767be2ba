"""podman with a storage of its own; no container is run."""

import json
import secrets
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.registry.clients.documented import run_documented
from tests.registry.clients.images import docker_archive, write_build_context
from tests.registry.clients.mounts import nothing_mounted_below
from tests.registry.clients.site import Site
from tests.registry.clients.tools import Tool, auth_file, needed, needed_root


@pytest.fixture(scope="module")
def podman(site: Site, cert_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    """Signed in as `admin`."""
    program, home = needed("podman", "podman"), tmp_path_factory.mktemp("podman")
    needed_root("podman")
    settings = home / "containers.conf"  # without these it makes files in /dev/shm, /etc and /run
    settings.write_text(f'[engine]\nlock_type="file"\n[network]\nnetwork_config_dir="{home}/networks"\n')
    # "podman manifest inspect" 4.3 knows credentials from this place only: $XDG_RUNTIME_DIR/containers/auth.json
    environment = {"REGISTRY_AUTH_FILE": f"{home}/containers/auth.json", "CONTAINERS_CONF": str(settings)}
    # It refuses a --runroot of more than 50 letters.
    with tempfile.TemporaryDirectory(prefix="podman-", dir="/tmp") as run:
        options = ("--root", f"{home}/root", "--runroot", run, "--tmpdir", f"{home}/tmp")
        options += ("--storage-driver", "vfs", "--cgroup-manager", "cgroupfs", "--events-backend", "none")
        tool = Tool(program, home, options, environment)
        login = ("login", f"--cert-dir={cert_dir}", "--username=admin", "--password-stdin", site.address)
        assert "Login Succeeded!" in tool(*login, stdin=site.password).out
        yield tool
        tool("system", "reset", "--force")
        nothing_mounted_below(home)


def load(podman: Tool, name: str, tmp_path: Path, layers: int = 1) -> str:
    """Make an image that no other test has; return its reference."""
    archive = docker_archive(tmp_path / f"{secrets.token_hex(4)}.tar", f"{name}:1", layers)
    podman("load", "--quiet", "--input", archive)
    return f"{name}:1"


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_an_image_is_pushed_pulled_and_the_same(podman: Tool, certs: str, name: str, form: str, tmp_path: Path) -> None:
    image = load(podman, name, tmp_path, layers=3)
    podman("push", "--quiet", certs, f"--format={form}", f"--digestfile={tmp_path}/digest", image)
    podman("rmi", image)
    identity = podman("pull", "--quiet", certs, image).out.strip()
    digest = (tmp_path / "digest").read_text()
    assert podman("inspect", "--format={{.Digest}}", identity).out.strip() == digest
    podman("rmi", image)
    podman("pull", "--quiet", certs, f"{name}@{digest}")


def test_an_image_that_is_built_is_pushed(podman: Tool, certs: str, name: str, tmp_path: Path) -> None:
    write_build_context(tmp_path)
    podman("build", "--quiet", "--isolation=chroot", f"--tag={name}:1", tmp_path)
    podman("push", "--quiet", certs, f"{name}:1")
    podman("rmi", f"{name}:1")
    podman("pull", "--quiet", certs, f"{name}:1")
    assert "ANSWER=42" in podman("inspect", "--format={{.Config.Env}}", f"{name}:1").out


def test_images_of_two_platforms_become_one_index(podman: Tool, certs: str, name: str, tmp_path: Path) -> None:
    podman("manifest", "create", f"{name}:all")
    for architecture in ("amd64", "arm64"):
        image = load(podman, f"{name}-{architecture}", tmp_path)
        podman("manifest", "add", f"--arch={architecture}", f"{name}:all", f"containers-storage:{image}")
    podman("manifest", "push", "--all", certs, "--format=oci", f"{name}:all", f"docker://{name}:all")
    podman("manifest", "rm", f"{name}:all")
    podman("pull", "--quiet", certs, "--arch=arm64", f"{name}:all")


def test_an_index_of_the_registry_is_read(podman: Tool, site: Site, certs: str, name: str, tmp_path: Path) -> None:
    image = load(podman, name, tmp_path)
    podman("push", "--quiet", certs, image)
    podman("manifest", "create", f"{name}:all")
    podman("manifest", "add", certs, "--arch=amd64", f"{name}:all", image)
    podman("manifest", "push", "--all", certs, f"{name}:all", f"docker://{name}:all")
    podman("manifest", "rm", f"{name}:all")
    said = podman("manifest", "inspect", f"{name}:all", SSL_CERT_FILE=str(site.ca)).out
    assert [one["platform"]["architecture"] for one in json.loads(said)["manifests"]] == ["amd64"]


def test_repositories_and_tags_are_found(podman: Tool, site: Site, certs: str, name: str, tmp_path: Path) -> None:
    image = load(podman, name, tmp_path)
    podman("push", "--quiet", certs, image)
    podman("push", "--quiet", certs, image, f"{name}:2")
    trust = {"SSL_CERT_FILE": str(site.ca)}  # podman's search has no --cert-dir
    assert podman("search", "--format={{.Name}}", name, **trust).out.split() == [name]
    listed = json.loads(podman("search", "--list-tags", "--format=json", name, **trust).out)
    assert listed == [{"Name": name, "Tags": ["1", "2"]}]


def test_without_our_authority_nothing_is_sent(podman: Tool, name: str, tmp_path: Path) -> None:
    image = load(podman, name, tmp_path)
    assert "x509: certificate signed by unknown authority" in podman("push", image, fails=True).err


def test_what_was_never_pushed_is_said_so(podman: Tool, certs: str, name: str) -> None:
    assert ":1 is not here; was it pushed?" in podman("pull", certs, f"{name}:1", fails=True).err


def test_a_wrong_password_is_said_so(podman: Tool, site: Site, certs: str, name: str, tmp_path: Path) -> None:
    login = ("login", certs, "--username=demo", "--password-stdin", site.address)
    said = podman(*login, stdin="wrong", fails=True, REGISTRY_AUTH_FILE=str(tmp_path / "auth")).err
    assert "invalid username/password" in said
    wrong = auth_file(tmp_path, site.address, "demo", "wrong")
    image = load(podman, name, tmp_path)
    said = podman("push", certs, image, fails=True, REGISTRY_AUTH_FILE=str(wrong)).err
    assert "unauthorized: the user name or the password is wrong" in said


def test_a_device_pulls_with_its_token_and_cannot_push(
    podman: Tool, site: Site, certs: str, name: str, tmp_path: Path
) -> None:
    image = load(podman, name, tmp_path)
    podman("push", "--quiet", certs, image)
    podman("rmi", image)
    device = str(auth_file(tmp_path, site.address, "device", site.token("demo/*", "pull")))
    podman("pull", "--quiet", certs, image, REGISTRY_AUTH_FILE=device)
    other = load(podman, f"{name}-other", tmp_path)
    said = podman("push", certs, other, fails=True, REGISTRY_AUTH_FILE=device).err
    assert "denied: device may not push demo/" in said


def test_a_token_that_expired_is_said_so(podman: Tool, site: Site, certs: str, name: str, tmp_path: Path) -> None:
    expired = auth_file(tmp_path, site.address, "device", site.token("demo/*", "pull", ttl_s=-1))
    said = podman("pull", certs, f"{name}:1", fails=True, REGISTRY_AUTH_FILE=str(expired)).err
    assert "unauthorized: the token expired at " in said


def test_who_guesses_is_told_to_wait(podman: Tool, site: Site, certs: str, tmp_path: Path) -> None:
    login = ("login", certs, f"--username=guesser-{secrets.token_hex(4)}", "--password-stdin", site.address)
    said = [podman(*login, stdin=f"{n}", fails=True, REGISTRY_AUTH_FILE=f"{tmp_path}/auth").err for n in range(6)]
    assert "invalid username/password" in said[4]
    assert "too many requests" in said[5]


def test_who_signs_out_is_nobody(podman: Tool, site: Site, certs: str, name: str, tmp_path: Path) -> None:
    file = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth")}
    podman("login", certs, "--username=demo", "--password-stdin", site.address, stdin=site.demo_password, **file)
    assert podman("login", "--get-login", site.address, **file).out.strip() == "demo"
    podman("logout", site.address, **file)
    said = podman("pull", certs, f"{name}:1", fails=True, **file).err
    assert "sign in with a user name and a password" in said


def test_the_documentation_is_right(podman: Tool, site: Site, tmp_path: Path) -> None:
    podman("load", "--quiet", "--input", docker_archive(tmp_path / "digits.tar", "localhost/digits:latest", 1))
    said = run_documented(podman, site, tmp_path, REGISTRY_AUTH_FILE=str(tmp_path / "auth"))
    assert f"{site.address}/demo/digits" in said
