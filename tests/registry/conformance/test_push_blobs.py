"""distribution-spec 1.1, workflow category "Push": "Pushing blobs", "Mounting a blob from another repository"."""

import re
import uuid
from collections.abc import Iterator

import httpx
import pytest
from tests.registry.conformance.repository import Repository, refused

from sanderling.oci import Digest

CONTENT = bytes(n % 253 for n in range(3 * 1024 - 5))
CHUNK = 1024
ALGORITHMS = pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
CONTENTS = pytest.mark.parametrize("content", [CONTENT, b"", b"{}"], ids=["bytes", "empty", "empty JSON"])


def is_created(repository: Repository, response: httpx.Response, content: bytes, digest: Digest) -> bool:
    """Say whether the blob is there, where the answer says."""
    assert response.status_code == 201, response.text
    assert response.headers["docker-content-digest"] == digest
    pulled = repository.http.get(response.headers["location"])
    assert (pulled.status_code, pulled.content) == (200, content)
    return True


# "Pushing a blob monolithically": "POST then PUT"


@ALGORITHMS
@CONTENTS
def test_a_blob_is_pushed_with_post_then_put(repository: Repository, content: bytes, algorithm: str) -> None:
    digest = Digest.of(content, algorithm)
    begun = repository.http.post(repository.uploads)
    assert (begun.status_code, begun.content) == (202, b"")
    location = begun.headers["location"]
    assert uuid.UUID(re.split(r"[/?]", location)[-1])
    assert begun.headers["range"] == "0-0"
    put = repository.http.put(
        location, params={"digest": digest}, content=content, headers={"Content-Type": "application/octet-stream"}
    )
    assert is_created(repository, put, content, digest)
    assert refused(repository.http.get(location), 404, "BLOB_UPLOAD_UNKNOWN")


def test_the_path_of_uploads_may_lack_its_last_slash(repository: Repository) -> None:
    assert repository.http.post(repository.uploads.rstrip("/")).status_code == 202


# "Single POST"


@ALGORITHMS
@CONTENTS
def test_a_blob_is_pushed_with_a_single_post(repository: Repository, content: bytes, algorithm: str) -> None:
    digest = Digest.of(content, algorithm)
    response = repository.http.post(repository.uploads, params={"digest": digest}, content=content)
    assert is_created(repository, response, content, digest)


def test_a_digest_may_be_encoded_in_the_query(repository: Repository) -> None:
    digest = Digest.of(CONTENT)
    for written in (digest, digest.replace(":", "%3A"), digest.replace(":", "%3a")):
        response = repository.http.post(f"{repository.uploads}?digest={written}", content=CONTENT)
        assert is_created(repository, response, CONTENT, digest)


# "Pushing a blob in chunks"


@ALGORITHMS
@pytest.mark.parametrize("with_put", [False, True], ids=["PATCH only", "last chunk in PUT"])
@pytest.mark.parametrize("out_of_order", [False, True])
def test_a_blob_is_pushed_in_chunks(repository: Repository, algorithm: str, with_put: bool, out_of_order: bool) -> None:
    digest = Digest.of(CONTENT, algorithm)
    location = repository.begin()
    for first in range(0, len(CONTENT), CHUNK):
        chunk = CONTENT[first : first + CHUNK]
        is_last = first + CHUNK >= len(CONTENT)
        method, parameters = ("PUT", {"digest": str(digest)}) if with_put and is_last else ("PATCH", {})
        if out_of_order:
            wrong = 0 if is_last else first + CHUNK
            response = repository.chunk(location, CONTENT[wrong : wrong + CHUNK], wrong, method, **parameters)
            assert refused(response, 416, "BLOB_UPLOAD_INVALID")
            # A GET tells where to go on; so does the refusal itself.
            status = repository.http.get(location)
            assert (status.status_code, status.content) == (204, b"")
            assert status.headers["range"] == response.headers["range"] == f"0-{max(first - 1, 0)}"
            location = status.headers["location"]
            assert location == response.headers["location"]
        response = repository.chunk(location, chunk, first, method, **parameters)
        if method == "PATCH":
            assert response.status_code == 202
            assert response.headers["range"] == f"0-{first + len(chunk) - 1}"
            location = response.headers["location"]
    if not with_put:
        response = repository.http.put(location, params={"digest": digest}, headers={"Content-Length": "0"})
    assert is_created(repository, response, CONTENT, digest)


@ALGORITHMS
def test_a_blob_is_streamed_in_one_patch(repository: Repository, algorithm: str) -> None:
    """Docker's way: chunked transfer coding, no Content-Range."""

    def pieces() -> Iterator[bytes]:
        yield from (CONTENT[first : first + 100] for first in range(0, len(CONTENT), 100))

    digest = Digest.of(CONTENT, algorithm)
    response = repository.http.patch(repository.begin(), content=pieces())
    assert (response.status_code, response.headers["range"]) == (202, f"0-{len(CONTENT) - 1}")
    put = repository.http.put(response.headers["location"], params={"digest": digest})
    assert is_created(repository, put, CONTENT, digest)


def test_a_patch_without_a_range_goes_on_at_the_end(repository: Repository) -> None:
    location = repository.begin()
    for first in range(0, len(CONTENT), CHUNK):
        assert repository.http.patch(location, content=CONTENT[first : first + CHUNK]).status_code == 202
    put = repository.http.put(location, params={"digest": Digest.of(CONTENT)})
    assert is_created(repository, put, CONTENT, Digest.of(CONTENT))


def test_a_patch_of_nothing_changes_nothing(repository: Repository) -> None:
    location = repository.begin()
    response = repository.http.patch(location, headers={"Content-Length": "0"})
    assert (response.status_code, response.headers["range"]) == (202, "0-0")
    assert is_created(repository, repository.http.put(location, params={"digest": Digest.of(b"")}), b"", Digest.of(b""))


@pytest.mark.parametrize("content_range", ["x", "", "-1-5", "5", "0-", "-5", "9-0", "0-99/100/100", "0--1", "0-9" * 50])
def test_a_range_that_is_none_is_416(repository: Repository, content_range: str) -> None:
    location = repository.begin()
    response = repository.http.patch(location, content=b"0123456789", headers={"Content-Range": content_range})
    assert refused(response, 416, "BLOB_UPLOAD_INVALID")
    assert repository.http.get(location).headers["range"] == "0-0"


@pytest.mark.parametrize("content_range", ["0-8", "0-10", "0-0"])
def test_a_range_that_does_not_fit_the_chunk_is_refused(repository: Repository, content_range: str) -> None:
    location = repository.begin()
    response = repository.http.patch(location, content=b"0123456789", headers={"Content-Range": content_range})
    assert refused(response, 400, "SIZE_INVALID")
    assert repository.http.get(location).headers["range"] == "0-0"


def test_two_chunks_of_the_same_place_are_not_both_taken(repository: Repository) -> None:
    location = repository.begin()
    assert repository.chunk(location, CONTENT[:CHUNK], 0).status_code == 202
    assert refused(repository.chunk(location, CONTENT[:CHUNK], 0), 416, "BLOB_UPLOAD_INVALID")


# "end-4c": the algorithm of the later digest


def test_an_upload_may_tell_the_algorithm_of_its_digest(repository: Repository) -> None:
    for algorithm in ("sha256", "sha512"):
        location = repository.begin(**{"digest-algorithm": algorithm})
        repository.chunk(location, CONTENT, 0)
        digest = Digest.of(CONTENT, algorithm)
        assert is_created(repository, repository.http.put(location, params={"digest": digest}), CONTENT, digest)
    for algorithm in ("md5", "sha384", "", "sha512 "):
        response = repository.http.post(repository.uploads, params={"digest-algorithm": algorithm})
        assert refused(response, 400, "DIGEST_INVALID")


# Digests that do not fit


@ALGORITHMS
@pytest.mark.parametrize("way", ["single POST", "POST then PUT", "chunks", "last chunk in PUT", "stream"])
def test_content_that_differs_from_its_digest_is_refused(repository: Repository, way: str, algorithm: str) -> None:
    digest = Digest.of(CONTENT, algorithm)
    bad = CONTENT + b"oh no"
    http = repository.http
    if way == "single POST":
        response = http.post(repository.uploads, params={"digest": digest}, content=bad)
    else:
        location = repository.begin()
        if way == "POST then PUT":
            response = http.put(location, params={"digest": digest}, content=bad)
        elif way == "last chunk in PUT":
            repository.chunk(location, bad[:CHUNK], 0)
            response = repository.chunk(location, bad[CHUNK:], CHUNK, "PUT", digest=str(digest))
        else:
            if way == "chunks":
                repository.chunk(location, bad, 0)
            else:
                http.patch(location, content=bad)
            response = http.put(location, params={"digest": digest})
        assert refused(http.get(location), 404, "BLOB_UPLOAD_UNKNOWN")
    assert refused(response, 400, "DIGEST_INVALID")
    assert refused(http.get(repository.blob(digest)), 404, "BLOB_UNKNOWN")


@pytest.mark.parametrize(
    "digest", ["", "x", "sha256:", "sha256:baddigeststring", "sha1:" + "0" * 40, "sha256:" + "F" * 64]
)
def test_what_is_no_digest_is_refused(repository: Repository, digest: str) -> None:
    location = repository.begin()
    assert refused(repository.http.put(location, params={"digest": digest}, content=b"x"), 400, "DIGEST_INVALID")
    response = repository.http.post(repository.uploads, params={"digest": digest}, content=b"x")
    assert refused(response, 400, "DIGEST_INVALID")
    for method in ("GET", "DELETE"):
        response = repository.http.request(method, repository.blob(digest or "%20"))
        assert refused(response, 400, "DIGEST_INVALID")
    assert repository.http.get(location).status_code == 204


def test_a_digest_is_needed_to_end_an_upload(repository: Repository) -> None:
    location = repository.begin()
    assert refused(repository.http.put(location, content=CONTENT), 400, "DIGEST_INVALID")


# "Cancel a blob upload"


def test_an_upload_is_cancelled(repository: Repository) -> None:
    location = repository.begin()
    repository.chunk(location, CONTENT[:CHUNK], 0)
    response = repository.http.delete(location, headers={"Content-Length": "0"})
    assert (response.status_code, response.content) == (204, b"")
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        response = repository.http.request(method, f"{location}?digest={Digest.of(CONTENT)}")
        assert refused(response, 404, "BLOB_UPLOAD_UNKNOWN")


def test_an_upload_belongs_to_its_repository(repository: Repository, other: Repository) -> None:
    location = repository.begin().replace(repository.name, other.name)
    for method in ("GET", "PATCH", "PUT", "DELETE"):
        response = repository.http.request(method, f"{location}?digest={Digest.of(CONTENT)}")
        assert refused(response, 404, "BLOB_UPLOAD_UNKNOWN")


# "Mounting a blob from another repository"


@ALGORITHMS
@pytest.mark.parametrize("is_named", [True, False], ids=["with from", "without from"])
def test_a_blob_is_mounted(repository: Repository, other: Repository, algorithm: str, is_named: bool) -> None:
    content = f"{other.name} {algorithm} {is_named}".encode()
    digest = other.push_blob(content, algorithm)
    assert repository.http.get(repository.blob(digest)).status_code == 404
    source = {"from": other.name} if is_named else {}
    response = repository.http.post(
        repository.uploads, params={"mount": digest, **source}, headers={"Content-Length": "0"}
    )
    assert is_created(repository, response, content, digest)
    assert response.headers["location"].endswith(repository.blob(digest))
    # The two are then apart.
    assert repository.http.delete(other.blob(digest)).status_code == 202
    assert repository.http.get(repository.blob(digest)).content == content


@pytest.mark.parametrize("source", [{"from": "demo/none"}, {"from": "NO NAME"}, {"from": ""}, {"from": "other/x"}, {}])
def test_a_mount_that_cannot_be_is_an_upload_that_has_begun(repository: Repository, source: dict[str, str]) -> None:
    content = f"{repository.name}: not pushed yet".encode()
    digest = Digest.of(content)
    response = repository.http.post(repository.uploads, params={"mount": digest, **source})
    assert response.status_code == 202
    assert repository.http.get(repository.blob(digest)).status_code == 404
    put = repository.http.put(response.headers["location"], params={"digest": digest}, content=content)
    assert is_created(repository, put, content, digest)


def test_a_mount_from_a_repository_without_the_blob_is_an_upload(repository: Repository, other: Repository) -> None:
    third = Repository(repository.http)
    digest = third.push_blob(f"only in {third.name}".encode())
    other.push_blob(b"something else")
    response = repository.http.post(repository.uploads, params={"mount": digest, "from": other.name})
    assert response.status_code == 202


def test_a_blob_is_mounted_onto_itself(repository: Repository) -> None:
    digest = repository.push_blob(CONTENT)
    response = repository.http.post(repository.uploads, params={"mount": digest, "from": repository.name})
    assert is_created(repository, response, CONTENT, digest)


# "Layer Upload De-duplication"


def test_a_blob_is_pushed_again(repository: Repository) -> None:
    for _ in range(2):
        repository.push_blob(CONTENT)
    location = repository.begin()
    put = repository.http.put(location, params={"digest": Digest.of(CONTENT)}, content=CONTENT)
    assert is_created(repository, put, CONTENT, Digest.of(CONTENT))
