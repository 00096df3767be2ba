"""distribution-spec 1.1, workflow category "Pull"."""

import json

import pytest
from tests.registry.conformance.repository import Repository, index, refused

from sanderling.oci import Digest, media_types

CONTENT = bytes(n % 251 for n in range(2048))
MISSING = Digest.of(b"never pushed")


# "Determining Support"


def test_the_base_path_says_that_this_is_a_registry(repository: Repository) -> None:
    for path in ("/v2/", "/v2"):
        response = repository.http.get(path)
        assert response.status_code == 200
        # "Legacy Docker support HTTP headers"
        assert response.headers["docker-distribution-api-version"] == "registry/2.0"


def test_who_is_not_signed_in_is_told_where_to(repository: Repository) -> None:
    response = repository.http.get("/v2/", headers={"Authorization": ""})
    assert refused(response, 401, "UNAUTHORIZED")
    assert response.headers["www-authenticate"].startswith('Bearer realm="http://127.0.0.1:')


# "Pulling manifests"


@pytest.mark.parametrize("by", ["tag", "digest"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_manifest_is_pulled_by_tag_and_digest_byte_for_byte(repository: Repository, by: str, method: str) -> None:
    raw = json.dumps(repository.image(unknown={"kept": [1.0, None]}), indent=7).encode() + b"\n \n"
    digest = repository.push(raw, "tag")
    reference = {"tag": "tag", "digest": digest}[by]
    response = repository.http.request(method, repository.manifest(reference))
    assert response.status_code == 200
    assert response.headers["content-type"] == media_types.OCI_MANIFEST
    assert response.headers["docker-content-digest"] == digest == Digest.of(raw)
    assert response.headers["content-length"] == str(len(raw))
    assert response.content == (raw if method == "GET" else b"")


@pytest.mark.parametrize("reference", ["none", str(MISSING), "sha512:" + "0" * 128, ".INVALID_MANIFEST_NAME", "-", "@"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_manifest_that_is_not_here_is_404(repository: Repository, method: str, reference: str) -> None:
    repository.push(repository.image(), "tag")
    response = repository.http.request(method, repository.manifest(reference))
    assert response.status_code == 404
    if method == "GET":
        assert refused(response, 404, "MANIFEST_UNKNOWN")


def test_a_repository_that_is_not_here_is_404(repository: Repository) -> None:
    assert refused(repository.http.get(repository.manifest("latest")), 404, "MANIFEST_UNKNOWN")
    assert refused(repository.http.get(repository.blob(MISSING)), 404, "BLOB_UNKNOWN")
    assert refused(repository.http.get(f"{repository.path}/tags/list"), 404, "NAME_UNKNOWN")


@pytest.mark.parametrize("reference", ["sha256:baddigeststring", "sha256:" + "A" * 64, "md5:" + "0" * 32, ":", "a:b"])
def test_a_reference_that_is_no_digest_is_refused(repository: Repository, reference: str) -> None:
    assert refused(repository.http.get(repository.manifest(reference)), 400, "DIGEST_INVALID")


@pytest.mark.parametrize(
    ("accept", "status"),
    [
        (None, 200),
        ("", 200),
        ("*/*", 200),
        ("application/*", 200),
        (media_types.OCI_MANIFEST, 200),
        (f"{media_types.OCI_INDEX}, {media_types.OCI_MANIFEST};q=0.5", 200),
        (f"text/html, {media_types.DOCKER_MANIFEST}, */*;q=0.1", 200),
        (media_types.DOCKER_MANIFEST, 404),
        (f"{media_types.OCI_MANIFEST};q=0, {media_types.OCI_INDEX}", 404),
    ],
)
def test_content_is_negotiated(repository: Repository, accept: str | None, status: int) -> None:
    """RFC 9110, section 12.5.1; what cannot be sent is not there for this client, as with Docker's registry."""
    digest = repository.push(repository.image(), "tag")
    request = repository.http.build_request("GET", repository.manifest("tag"))
    request.headers.pop("accept")
    if accept is not None:
        request.headers["Accept"] = accept
    response = repository.http.send(request)
    assert response.status_code == status
    assert status != 200 or response.headers["docker-content-digest"] == digest


def test_accept_may_be_sent_in_several_headers(repository: Repository) -> None:
    repository.push(index(), "tag")
    request = repository.http.build_request(
        "GET",
        repository.manifest("tag"),
        headers=[("Accept", media_types.OCI_MANIFEST), ("Accept", media_types.OCI_INDEX)],
    )
    assert repository.http.send(request).headers["content-type"] == media_types.OCI_INDEX


def test_a_proxy_s_namespace_is_ignored(repository: Repository) -> None:
    """ "Registry Proxying": a registry MAY ignore `ns`."""
    repository.push(repository.image(), "tag")
    assert repository.http.get(repository.manifest("tag"), params={"ns": "docker.io"}).status_code == 200


# "Pulling blobs"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
@pytest.mark.parametrize("content", [CONTENT, b"", b"{}"], ids=["bytes", "empty", "empty JSON"])
def test_a_blob_is_pulled_by_its_digest(repository: Repository, content: bytes, algorithm: str) -> None:
    digest = repository.push_blob(content, algorithm)
    for method in ("GET", "HEAD"):
        response = repository.http.request(method, repository.blob(digest))
        assert response.status_code == 200
        assert response.headers["docker-content-digest"] == digest
        assert response.headers["content-length"] == str(len(content))
        assert response.content == (content if method == "GET" else b"")


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_blob_that_is_not_here_is_404(repository: Repository, method: str) -> None:
    repository.push_blob(CONTENT)
    response = repository.http.request(method, repository.blob(MISSING))
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/json"


def test_a_blob_of_another_repository_is_not_here(repository: Repository, other: Repository) -> None:
    digest = other.push_blob(b"elsewhere")
    assert refused(repository.http.get(repository.blob(digest)), 404, "BLOB_UNKNOWN")


def test_manifests_and_blobs_are_two_things(repository: Repository) -> None:
    manifest = repository.push(repository.image())
    blob = repository.push_blob(b"blob")
    assert refused(repository.http.get(repository.blob(manifest)), 404, "BLOB_UNKNOWN")
    assert refused(repository.http.get(repository.manifest(blob)), 404, "MANIFEST_UNKNOWN")


# "Pulling blobs": Range, RFC 9110 section 14


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=500-1499", 500, 1499),
        ("bytes=500-", 500, 2047),
        ("bytes=-500", 1548, 2047),
        ("bytes=2000-5000", 2000, 2047),
        ("bytes=0-0", 0, 0),
        ("bytes=-5000", 0, 2047),
        ("bytes=0-" + "9" * 60, 0, 2047),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_part_of_a_blob_is_pulled(repository: Repository, method: str, asked: str, first: int, last: int) -> None:
    digest = repository.push_blob(CONTENT)
    response = repository.http.request(method, repository.blob(digest), headers={"Range": asked})
    assert response.status_code == 206
    assert response.headers["content-range"] == f"bytes {first}-{last}/2048"
    assert response.headers["content-length"] == str(last - first + 1)
    assert response.headers["docker-content-digest"] == digest
    assert response.content == (CONTENT[first : last + 1] if method == "GET" else b"")


@pytest.mark.parametrize("asked", ["bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=-0", f"bytes={'9' * 60}-"])
def test_a_part_that_is_not_there_is_416(repository: Repository, asked: str) -> None:
    digest = repository.push_blob(CONTENT)
    response = repository.http.get(repository.blob(digest), headers={"Range": asked})
    assert refused(response, 416, "SIZE_INVALID")
    assert response.headers["content-range"] == "bytes */2048"


@pytest.mark.parametrize("asked", ["bytes=0-1,4-5", "pages=1-2", "bytes=", "bytes=-", "bytes=x-", "0-5", "bytes=--5"])
def test_a_range_that_is_not_understood_is_ignored(repository: Repository, asked: str) -> None:
    """RFC 9110, section 14.2: a server may ignore Range; several ranges at once we do not send."""
    digest = repository.push_blob(CONTENT)
    response = repository.http.get(repository.blob(digest), headers={"Range": asked})
    assert (response.status_code, response.content) == (200, CONTENT)


def test_a_blob_that_the_client_has_is_not_sent_again(repository: Repository) -> None:
    digest = repository.push_blob(CONTENT)
    etag = repository.http.get(repository.blob(digest)).headers["etag"]
    assert repository.http.get(repository.blob(digest), headers={"If-None-Match": etag}).status_code == 304
    resumed = repository.http.get(repository.blob(digest), headers={"Range": "bytes=2000-", "If-Range": etag})
    assert (resumed.status_code, resumed.content) == (206, CONTENT[2000:])
    changed = repository.http.get(repository.blob(digest), headers={"Range": "bytes=2000-", "If-Range": '"other"'})
    assert (changed.status_code, changed.content) == (200, CONTENT)
