"""containerd's ctr, with a containerd of its own."""

import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.registry.clients.documented import run_documented
from tests.registry.clients.images import for_platforms, simple
from tests.registry.clients.mounts import nothing_mounted_below
from tests.registry.clients.site import Site
from tests.registry.clients.tools import PATH, Tool, needed, needed_root

OTHERS = ("aufs", "btrfs", "devmapper", "zfs")


@pytest.fixture(scope="module")
def containerd(site: Site) -> Iterator[tuple[Tool, Path]]:
    """ctr, and the folder with `hosts.toml` that makes it trust our authority."""
    daemon = needed("containerd", "containerd")
    needed_root("containerd")
    with tempfile.TemporaryDirectory(prefix="ctr-", dir="/tmp") as folder:  # a socket's path is short
        root = Path(folder)
        without = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]
        without += [f"io.containerd.snapshotter.v1.{name}" for name in OTHERS]
        (root / "config.toml").write_text(
            f'version = 2\nroot = "{root}/root"\nstate = "{root}/state"\ndisabled_plugins = {without}\n'
            f'[grpc]\naddress = "{root}/sock"\n[ttrpc]\naddress = "{root}/ttrpc"\n'
        )
        hosts, url = root / "hosts" / site.address, f"https://{site.address}"
        hosts.mkdir(parents=True)
        # The server is named twice: containerd 1.6 wants a host, and falls back to the server.
        trust = f'ca = "{site.ca}"\n'
        (hosts / "hosts.toml").write_text(f'server = "{url}"\n{trust}[host."{url}"]\n{trust}')
        with (root / "log").open("wb") as log:
            process = subprocess.Popen(
                [daemon, "--config", f"{root}/config.toml"], stdout=log, stderr=log, env={"PATH": PATH}
            )
        try:
            deadline = time.monotonic() + 30
            while b"containerd successfully booted" not in (root / "log").read_bytes():
                assert process.poll() is None, (root / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, (root / "log").read_text()[-2000:]
                time.sleep(0.05)
            yield Tool(needed("ctr", "containerd"), root, ("--address", f"{root}/sock", "--namespace", "test")), hosts
        finally:
            process.terminate()
            process.wait(30)
        nothing_mounted_below(root)


class Images:
    """`ctr images` with our authority and somebody's password."""

    def __init__(self, ctr: Tool, hosts: Path, user: str) -> None:
        self.ctr, self.options = ctr, (f"--hosts-dir={hosts.parent}", f"--user={user}")

    def pull(self, image: str, *options: str, fails: bool = False) -> str:
        said = self.ctr("images", "pull", "--snapshotter=native", *self.options, *options, image, fails=fails)
        return said.text

    def push(self, image: str, *local: str, fails: bool = False) -> str:
        return self.ctr("images", "push", *self.options, image, *local, fails=fails).text


@pytest.fixture
def images(site: Site, containerd: tuple[Tool, Path]) -> Images:
    return Images(*containerd, f"admin:{site.password}")


def load(images: Images, source: str, image: str, tmp_path: Path) -> None:
    """Bring the layout *source* into containerd as *image*."""
    folder = Path(source.split(":")[1])
    subprocess.run(["tar", "--create", "--file", str(tmp_path / "image.tar"), "-C", str(folder), "."], check=True)
    images.ctr("images", "import", "--snapshotter=native", "--all-platforms", "--no-unpack", "--base-name=local",
        str(tmp_path / "image.tar"))  # fmt: skip
    images.ctr("images", "tag", "local:1", image)
    images.ctr("images", "rm", "local:1")


def test_an_image_is_pushed_and_pulled(images: Images, name: str, tmp_path: Path) -> None:
    source, manifest = simple(tmp_path / "in")
    load(images, source, f"{name}:1", tmp_path)
    images.push(f"{name}:1")
    images.ctr("images", "rm", "--sync", f"{name}:1")
    assert manifest.digest in images.pull(f"{name}:1")
    assert f"{name}:1" in images.ctr("images", "ls", "--quiet").out


def test_an_index_is_pushed_and_pulled(images: Images, name: str, tmp_path: Path) -> None:
    source, index = for_platforms(tmp_path / "in", "amd64", "arm64")
    load(images, source, f"{name}:1", tmp_path)
    images.push(f"{name}:1")
    images.ctr("images", "rm", "--sync", f"{name}:1")
    images.ctr("content", "fetch", "--all-platforms", *images.options, f"{name}:1")
    assert index.digest in images.ctr("images", "ls").out
    kept = images.ctr("content", "ls", "--quiet").out
    assert all(one.digest in kept for one in index.manifests)


def test_without_our_authority_nothing_is_sent(containerd: tuple[Tool, Path], site: Site, name: str) -> None:
    ctr, _ = containerd
    # For this machine's own address it would try plain HTTP, were no host named.
    (ctr.home / "untrusted" / site.address).mkdir(parents=True)
    (ctr.home / "untrusted" / site.address / "hosts.toml").write_text(f'[host."https://{site.address}"]\n')
    options = (f"--hosts-dir={ctr.home}/untrusted", f"--user=admin:{site.password}")
    said = ctr("images", "pull", *options, f"{name}:1", fails=True).err
    assert "x509: certificate signed by unknown authority" in said


def test_a_wrong_password_and_an_expired_token_are_refused(
    containerd: tuple[Tool, Path], site: Site, name: str
) -> None:
    for user in (f"{site.new_user()[0]}:wrong", f"device:{site.token('demo/*', 'pull', ttl_s=-1)}"):
        said = Images(*containerd, user).pull(f"{name}:1", fails=True)
        assert "failed to authorize: failed to fetch oauth token: unexpected status: 401 Unauthorized" in said


def test_what_was_never_pushed_is_said_so(images: Images, name: str) -> None:
    said = images.pull(f"{name}:1", fails=True)
    assert f'failed to resolve reference "{name}:1": {name}:1: not found' in said


def test_a_device_pulls_with_its_token_and_cannot_push(
    images: Images, containerd: tuple[Tool, Path], site: Site, name: str, tmp_path: Path
) -> None:
    source, _ = simple(tmp_path / "in")
    load(images, source, f"{name}:1", tmp_path)
    images.push(f"{name}:1")
    images.ctr("images", "rm", "--sync", f"{name}:1")
    device = Images(*containerd, f"device:{site.token('demo/*', 'pull')}")
    device.pull(f"{name}:1")
    # Refused, ctr 1.6 now and then waits for itself for ever: it is ended, and what it was told is read.
    ctr = images.ctr
    patient = Tool(needed("timeout", "coreutils"), ctr.home, ("10", ctr.program, "--debug", *ctr.options))
    said = patient("images", "push", *device.options, f"{name}:2", f"{name}:1", fails=True).text
    assert "403 Forbidden" in said
    assert "device may not push demo/" in said


def test_the_documentation_is_right(images: Images, site: Site, tmp_path: Path) -> None:
    source, _ = simple(tmp_path / "in")
    load(images, source, f"{site.address}/demo/digits:1", tmp_path)
    images.push(f"{site.address}/demo/digits:1")
    run_documented(images.ctr, site, tmp_path, CONTAINERD_SNAPSHOTTER="native")
