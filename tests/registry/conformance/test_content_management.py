"""distribution-spec 1.1, workflow category "Content Management": deletes, that take effect at once."""

import json

import pytest
from tests.registry.conformance.repository import Repository, described, index, refused

from sanderling.oci import Digest

MISSING = Digest.of(b"never pushed")


def is_gone(repository: Repository, *paths: str) -> bool:
    for path in paths:
        assert repository.http.get(path).status_code == 404
        assert repository.http.head(path).status_code == 404
    return True


# "Deleting tags"


def test_a_deleted_tag_is_gone_and_its_manifest_stays(repository: Repository) -> None:
    digest = repository.push(repository.image(), "one")
    repository.push(repository.image(), "two")
    response = repository.http.delete(repository.manifest("one"))
    assert (response.status_code, response.content) == (202, b"")
    assert is_gone(repository, repository.manifest("one"))
    assert repository.tags() == ["two"]
    for reference in ("two", digest):
        assert repository.http.get(repository.manifest(reference)).status_code == 200
    assert refused(repository.http.delete(repository.manifest("one")), 404, "MANIFEST_UNKNOWN")


# "Deleting Manifests"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_deleted_manifest_is_gone_with_its_tags(repository: Repository, algorithm: str) -> None:
    raw = json.dumps(repository.image()).encode()
    digest = Digest.of(raw, algorithm)
    repository.put(raw, digest, tag=["one", "two"])
    other = repository.push(repository.image(b"other"), "three")
    assert repository.http.delete(repository.manifest(digest)).status_code == 202
    assert is_gone(repository, *(repository.manifest(reference) for reference in (digest, "one", "two")))
    assert repository.tags() == ["three"]
    assert repository.http.get(repository.manifest(other)).status_code == 200
    assert refused(repository.http.delete(repository.manifest(digest)), 404, "MANIFEST_UNKNOWN")
    # It may come back.
    assert repository.put(raw, digest, tag="one").status_code == 201
    assert repository.tags() == ["one", "three"]


def test_a_manifest_that_an_index_names_may_be_deleted(repository: Repository) -> None:
    image = repository.image()
    digest = repository.push(image)
    of_index = repository.push(index(described(image)), "index")
    assert repository.http.delete(repository.manifest(digest)).status_code == 202
    assert is_gone(repository, repository.manifest(digest))
    assert repository.http.get(repository.manifest(of_index)).status_code == 200


@pytest.mark.parametrize("reference", ["none", str(MISSING), ".INVALID_MANIFEST_NAME"])
def test_what_is_not_here_is_not_deleted(repository: Repository, reference: str) -> None:
    assert refused(repository.http.delete(repository.manifest(reference)), 404, "MANIFEST_UNKNOWN")
    repository.push(repository.image())
    assert refused(repository.http.delete(repository.manifest(reference)), 404, "MANIFEST_UNKNOWN")
    assert refused(repository.http.delete(repository.manifest("sha256:x")), 400, "DIGEST_INVALID")


def test_deletes_in_one_repository_leave_the_others(repository: Repository, other: Repository) -> None:
    for one in (repository, other):
        digest = one.push(one.image(), "tag")
    repository.http.delete(repository.manifest(digest))
    for reference in (digest, "tag"):
        assert other.http.get(other.manifest(reference)).status_code == 200


# "Deleting Blobs"


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_deleted_blob_is_gone(repository: Repository, algorithm: str) -> None:
    digest = repository.push_blob(b"content", algorithm)
    response = repository.http.delete(repository.blob(digest))
    assert (response.status_code, response.content) == (202, b"")
    assert is_gone(repository, repository.blob(digest))
    assert refused(repository.http.delete(repository.blob(digest)), 404, "BLOB_UNKNOWN")
    repository.push_blob(b"content", algorithm)
    assert repository.http.get(repository.blob(digest)).content == b"content"


def test_a_manifest_whose_blob_was_deleted_is_not_taken_again(repository: Repository) -> None:
    image = repository.image()
    repository.push(image, "tag")
    assert repository.http.delete(repository.blob(image["layers"][0]["digest"])).status_code == 202
    assert repository.http.get(repository.manifest("tag")).status_code == 200
    assert refused(repository.put(image, "again"), 404, "MANIFEST_BLOB_UNKNOWN")


def test_everything_is_deleted_tags_first_then_indexes_manifests_and_blobs(repository: Repository) -> None:
    image = repository.image()
    repository.push(image, "image")
    repository.push(index(described(image)), "index")
    for path in (
        repository.manifest("image"),
        repository.manifest("index"),
        repository.manifest(described(index(described(image)))["digest"]),
        repository.manifest(described(image)["digest"]),
        *(repository.blob(blob["digest"]) for blob in (image["config"], *image["layers"])),
    ):
        assert repository.http.delete(path).status_code == 202
        assert is_gone(repository, path)
    assert repository.tags() == []
