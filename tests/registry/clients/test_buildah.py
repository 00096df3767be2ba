"""buildah builds from nothing, pushes, and takes images of the registry as a base; no container is run."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.registry.clients.documented import run_documented
from tests.registry.clients.images import write_build_context
from tests.registry.clients.mounts import nothing_mounted_below
from tests.registry.clients.site import Site
from tests.registry.clients.tools import Tool, auth_file, needed, needed_root


@pytest.fixture(scope="module")
def buildah(site: Site, cert_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tool]:
    """Signed in as `admin`."""
    program, home = needed("buildah", "buildah"), tmp_path_factory.mktemp("buildah")
    needed_root("buildah")
    options = ("--root", f"{home}/root", "--runroot", f"{home}/run", "--storage-driver", "vfs")
    tool = Tool(program, home, options, {"REGISTRY_AUTH_FILE": str(home / "auth.json"), "BUILDAH_ISOLATION": "chroot"})
    login = ("login", f"--cert-dir={cert_dir}", "--username=admin", "--password-stdin", site.address)
    assert "Login Succeeded!" in tool(*login, stdin=site.password).out
    yield tool
    tool("rm", "--all")
    tool("rmi", "--all", "--force")
    nothing_mounted_below(home)


def build(buildah: Tool, image: str, tmp_path: Path, *options: str) -> str:
    """Build an image that no other test has; return its reference."""
    write_build_context(tmp_path)
    buildah("build", "--quiet", f"--tag={image}", *options, tmp_path)
    return image


@pytest.mark.parametrize("form", ["oci", "v2s2"])
def test_an_image_is_pushed_and_pulled(buildah: Tool, certs: str, name: str, form: str, tmp_path: Path) -> None:
    image = build(buildah, f"{name}:1", tmp_path)
    buildah("push", "--quiet", certs, f"--format={form}", f"--digestfile={tmp_path}/digest", image)
    buildah("rmi", image)
    buildah("pull", "--quiet", certs, image)
    buildah("pull", "--quiet", certs, f"{name}@{(tmp_path / 'digest').read_text()}")


def test_an_image_of_the_registry_is_a_base(buildah: Tool, certs: str, name: str, tmp_path: Path) -> None:
    buildah("push", "--quiet", certs, build(buildah, f"{name}:base", tmp_path))
    buildah("rmi", f"{name}:base")
    (tmp_path / "Containerfile").write_text(f"FROM {name}:base\nCOPY words /again\n")
    buildah("build", "--quiet", certs, f"--tag={name}:1", tmp_path)
    buildah("push", "--quiet", certs, f"{name}:1")
    container = buildah("from", "--quiet", certs, f"{name}:1").out.strip()
    buildah("copy", "--quiet", container, tmp_path / "words", "/third")
    buildah("commit", "--quiet", certs, "--rm", container, f"docker://{name}:2")
    assert "ANSWER=42" in buildah("inspect", buildah("pull", "--quiet", certs, f"{name}:2").out.strip()).out


def test_images_of_two_platforms_become_one_index(buildah: Tool, certs: str, name: str, tmp_path: Path) -> None:
    buildah("manifest", "create", f"{name}:all")
    for architecture in ("amd64", "arm64"):
        image = build(buildah, f"{name}:{architecture}", tmp_path, f"--arch={architecture}")
        buildah("manifest", "add", f"{name}:all", f"containers-storage:{image}")
    buildah("manifest", "push", "--all", "--rm", certs, f"{name}:all", f"docker://{name}:all")
    buildah("rmi", f"{name}:amd64", f"{name}:arm64")
    pulled = buildah("pull", "--quiet", certs, "--arch=arm64", f"{name}:all").out.strip()
    assert json.loads(buildah("inspect", "--type=image", pulled).out)["OCIv1"]["architecture"] == "arm64"


def test_without_our_authority_nothing_is_sent(buildah: Tool, name: str, tmp_path: Path) -> None:
    image = build(buildah, f"{name}:1", tmp_path)
    assert "x509: certificate signed by unknown authority" in buildah("push", image, fails=True).err


def test_what_was_never_pushed_is_said_so(buildah: Tool, certs: str, name: str) -> None:
    assert ":1 is not here; was it pushed?" in buildah("pull", certs, f"{name}:1", fails=True).err


def test_a_wrong_password_is_said_so(buildah: Tool, site: Site, certs: str, name: str, tmp_path: Path) -> None:
    login = ("login", certs, "--username=demo", "--password-stdin", site.address)
    said = buildah(*login, stdin="wrong", fails=True, REGISTRY_AUTH_FILE=str(tmp_path / "auth")).err
    assert "invalid username/password" in said
    wrong = auth_file(tmp_path, site.address, "demo", "wrong")
    image = build(buildah, f"{name}:1", tmp_path)
    said = buildah("push", certs, image, fails=True, REGISTRY_AUTH_FILE=str(wrong)).err
    assert "unauthorized: the user name or the password is wrong" in said


def test_a_device_pulls_with_its_token_and_cannot_push(
    buildah: Tool, site: Site, certs: str, name: str, tmp_path: Path
) -> None:
    image = build(buildah, f"{name}:1", tmp_path)
    buildah("push", "--quiet", certs, image)
    buildah("rmi", image)
    device = str(auth_file(tmp_path, site.address, "device", site.token("demo/*", "pull")))
    buildah("pull", "--quiet", certs, image, REGISTRY_AUTH_FILE=device)
    other = build(buildah, f"{name}:other", tmp_path)
    said = buildah("push", certs, other, fails=True, REGISTRY_AUTH_FILE=device).err
    assert "denied: device may not push demo/" in said


def test_a_token_that_expired_is_said_so(buildah: Tool, site: Site, certs: str, name: str, tmp_path: Path) -> None:
    expired = auth_file(tmp_path, site.address, "device", site.token("demo/*", "pull", ttl_s=-1))
    said = buildah("pull", certs, f"{name}:1", fails=True, REGISTRY_AUTH_FILE=str(expired)).err
    assert "unauthorized: the token expired at " in said


def test_who_signs_out_is_nobody(buildah: Tool, site: Site, certs: str, name: str, tmp_path: Path) -> None:
    file = {"REGISTRY_AUTH_FILE": str(tmp_path / "auth")}
    buildah("login", certs, "--username=demo", "--password-stdin", site.address, stdin=site.demo_password, **file)
    buildah("logout", site.address, **file)
    said = buildah("pull", certs, f"{name}:1", fails=True, **file).err
    assert "sign in with a user name and a password" in said


def test_the_documentation_is_right(buildah: Tool, site: Site, tmp_path: Path) -> None:
    (tmp_path / "Containerfile").write_text("FROM scratch\nCOPY ca.pem /\n")
    run_documented(buildah, site, tmp_path, REGISTRY_AUTH_FILE=str(tmp_path / "auth"))
