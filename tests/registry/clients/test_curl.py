"""curl speaks the protocol itself: listings, referrers, deleting."""

import json
import secrets
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.registry.clients.documented import run_documented
from tests.registry.clients.site import Site
from tests.registry.clients.tools import Tool, needed

from sanderling.oci import Descriptor, Digest, Manifest, media_types


@pytest.fixture
def curl(tmp_path: Path) -> Tool:
    return Tool(needed("curl", "curl"), tmp_path, ("--silent", "--show-error"))


def push(site: Site, repository: str, *tags: str) -> Manifest:
    """Push an image of nothing; return its manifest."""
    with site.http() as http:
        answer = http.post(f"/v2/{repository}/blobs/uploads/", params={"digest": Digest.of(b"{}")}, content=b"{}")
        assert answer.status_code == 201
        manifest = Manifest.build(Descriptor(media_types.OCI_CONFIG, Digest.of(b"{}"), 2), [])
        for tag in tags:
            headers = {"Content-Type": manifest.media_type}
            path = f"/v2/{repository}/manifests/{tag}"
            assert http.put(path, content=manifest.raw, headers=headers).status_code == 201
    return manifest


def test_the_documentation_is_right(curl: Tool, site: Site, tmp_path: Path) -> None:
    manifest = push(site, "demo/digits", "1", "2")
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login admin password {site.password}\n")
    said = run_documented(curl, site, tmp_path, DIGEST=str(manifest.digest))
    assert '"name":"demo/digits","tags":["1","2"' in said
    with site.http() as http:
        assert "1" not in http.get("/v2/demo/digits/tags/list").json()["tags"]


def test_a_token_is_got_and_used(curl: Tool, site: Site, tmp_path: Path) -> None:
    repository = f"demo/{secrets.token_hex(4)}"
    push(site, repository, "1")
    url = f"https://{site.address}/v2/"
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login admin password {site.password}\n")
    said = curl("--cacert", site.ca, "--include", f"{url}{repository}/manifests/1").out.lower()
    challenge = f'bearer realm="{url}token",service="registry.test:{site.port}",scope="repository:{repository}:pull"'
    assert f"www-authenticate: {challenge}" in said
    token = json.loads(
        curl("--cacert", site.ca, "--netrc-file", "netrc", f"{url}token?scope=repository:{repository}:pull").out
    )["token"]
    bearer = f"Authorization: Bearer {token}"
    assert json.loads(curl("--cacert", site.ca, "--header", bearer, f"{url}{repository}/tags/list").out)["tags"] == [
        "1"
    ]
    refused = curl("--cacert", site.ca, "--header", bearer, "--request", "DELETE", f"{url}{repository}/manifests/1").out
    assert json.loads(refused)["errors"][0]["message"] == f"this token may not delete {repository}"


def test_a_push_that_was_cut_off_goes_on_where_it_stopped(curl: Tool, site: Site, tmp_path: Path) -> None:
    content = secrets.token_bytes(3_000_000)
    upload, kept = _begun_and_cut_off(site, content[:2_000_000])
    assert kept > 0
    (tmp_path / "rest").write_bytes(content[kept:])
    (tmp_path / "netrc").write_text(f"machine 127.0.0.1 login admin password {site.password}\n")
    signed_in = ("--fail-with-body", "--retry", "9", "--retry-all-errors", "--cacert", site.ca, "--netrc-file", "netrc")
    url = f"https://{site.address}{upload}"
    chunk = ("--header", f"Content-Range: {kept}-{len(content) - 1}", "--data-binary", "@rest")
    curl(*signed_in, "--request", "PATCH", *chunk, url)
    curl(*signed_in, "--request", "PUT", "--data", "", f"{url}?digest={Digest.of(content)}")
    blob = url.partition("/uploads/")[0] + f"/{Digest.of(content)}"
    curl(*signed_in, "--output", "whole", blob)
    assert (tmp_path / "whole").read_bytes() == content
    curl(*signed_in, "--continue-at", "2000000", "--output", "part", blob)
    assert (tmp_path / "part").read_bytes() == content[2_000_000:]


def _begun_and_cut_off(site: Site, content: bytes) -> tuple[str, int]:
    """Begin an upload, send *content*, and go away in the middle; return where the upload is, and what was kept."""
    with site.http() as http, site.http() as looking:
        upload = str(http.post(f"/v2/demo/{secrets.token_hex(4)}/blobs/uploads/").headers["Location"])

        def kept() -> int:
            return int(looking.get(upload).headers["Range"].partition("-")[2])

        def never_whole() -> Iterator[bytes]:
            yield content
            while not kept():
                time.sleep(0.05)
            raise ConnectionError("the client is gone")

        with pytest.raises(ConnectionError):
            http.patch(upload, content=never_whole())
        # It is told that the connection is gone a moment later, and keeps what came until then.
        while (before := kept()) != (time.sleep(0.3), kept())[1]:
            pass
        return upload, before + 1


def test_without_our_authority_nothing_is_sent(curl: Tool, site: Site) -> None:
    assert "SSL certificate problem" in curl(f"https://{site.address}/v2/", fails=True).err
