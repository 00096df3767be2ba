"""distribution-spec 1.1, workflow category "Content Discovery"; Docker's `_catalog`."""

import re
from typing import Any

import httpx
import pytest
from tests.registry.conformance.repository import Repository, described, descriptor, index, refused

from sanderling.oci import Digest, media_types

SBOM, SIGNATURE = "application/vnd.example.sbom.v1", "application/vnd.example.signature.v1"


def pages(http: httpx.Client, path: str, key: str) -> list[list[Any]]:
    """Follow `Link` from page to page (RFC 8288)."""
    found = []
    while path:
        response = http.get(path)
        assert response.status_code == 200
        found.append(response.json()[key])
        link = response.headers.get("link", "")
        match = re.fullmatch(r'<([^<>]+)>; ?rel="?next"?', link)
        assert match or not link
        path = match[1] if match else ""
    return found


# "Listing Tags"


def test_a_repository_without_tags_lists_none(repository: Repository) -> None:
    repository.push_blob(b"only a blob")
    assert repository.tags() == []


def test_tags_are_sorted_as_ascii_sorts(repository: Repository) -> None:
    tags = ["b", "a", "A", "B", "_", "10", "9", "1.0", "1-0", "1_0", "a.", "a-"]
    for tag in tags:
        repository.push(repository.artifact(), tag)
    assert repository.tags() == sorted(tags)


def test_four_tags_are_listed_in_parts(repository: Repository) -> None:
    for number in range(4):
        repository.push(repository.artifact(), f"test{number}")
    assert repository.tags() == ["test0", "test1", "test2", "test3"]
    assert repository.tags(n=2) == ["test0", "test1"]
    assert repository.tags(n=2, last="test1") == ["test2", "test3"]
    assert repository.tags(n=2, last="test2") == ["test3"]
    assert repository.tags(last="test1") == ["test2", "test3"]
    # `last` need not be a tag that is there.
    assert repository.tags(last="test1x") == ["test2", "test3"]
    assert repository.tags(last="") == repository.tags(n=4) == repository.tags(n=100)
    assert repository.tags(last="zzz") == repository.tags(n=1, last="test3") == []


def test_a_part_that_is_not_all_links_to_the_next(repository: Repository) -> None:
    for number in range(5):
        repository.push(repository.artifact(), f"test{number}")
    path = f"{repository.path}/tags/list"
    assert pages(repository.http, f"{path}?n=2", "tags") == [["test0", "test1"], ["test2", "test3"], ["test4"]]
    assert [len(page) for page in pages(repository.http, f"{path}?n=5", "tags")] == [5]
    assert "link" not in repository.http.get(path).headers


def test_n_of_0_lists_nothing_and_links_nowhere(repository: Repository) -> None:
    repository.push(repository.artifact(), "test0")
    response = repository.http.get(f"{repository.path}/tags/list", params={"n": "0"})
    assert (response.json()["tags"], response.headers.get("link")) == ([], None)


@pytest.mark.parametrize("n", ["-1", "x", "1.5", "0x10", "1e3", "٣", "1 "])
def test_n_is_a_number(repository: Repository, n: str) -> None:
    repository.push(repository.artifact(), "test0")
    response = repository.http.get(f"{repository.path}/tags/list", params={"n": n})
    assert refused(response, 400, "UNSUPPORTED")


def test_n_may_be_as_large_as_it_likes(repository: Repository) -> None:
    repository.push(repository.artifact(), "test0")
    for n in (2**31, 2**63, 10**300, "0" * 1000 + "5"):
        assert repository.tags(n=n) == ["test0"]


@pytest.mark.parametrize(
    "last", ["\0", "\ud7ff", "\U0010ffff", "é", "e\u0301", "\u202e", "'; --", "%", "x" * 5000, "\n"]
)
def test_last_may_be_any_text(repository: Repository, last: str) -> None:
    repository.push(repository.artifact(), "test0")
    assert repository.tags(last=last) in ([], ["test0"])
    assert repository.http.get(f"{repository.path}/tags/list?last=%ff%fe%00%ed%a0%80").status_code == 200


# "Listing Referrers"


def test_what_nothing_refers_to_has_an_empty_list(repository: Repository) -> None:
    unknown = Digest.of(b"hello world")
    assert repository.referrers(unknown).json()["manifests"] == []  # nor is the repository known
    repository.push(repository.image(), "tag")
    for digest in (unknown, described(repository.image())["digest"], "sha512:" + "a" * 128):
        assert repository.referrers(digest).json()["manifests"] == []
        filtered = repository.referrers(digest, artifactType=SBOM)
        assert filtered.json()["manifests"] == []
        assert filtered.headers["oci-filters-applied"] == "artifactType"


@pytest.mark.parametrize("digest", ["latest", "sha256:x", "sha256:" + "A" * 64, "md5:" + "0" * 32])
def test_referrers_of_what_is_no_digest_are_refused(repository: Repository, digest: str) -> None:
    assert refused(repository.http.get(f"{repository.path}/referrers/{digest}"), 400, "DIGEST_INVALID")


def test_referrers_are_listed_with_their_types_and_annotations(repository: Repository) -> None:
    image = repository.image()
    subject = described(image)
    early = repository.artifact(subject=subject, annotations={"when": "before the subject"})
    repository.push(early)
    repository.push(image, "image")
    config = descriptor("application/vnd.example.config", repository.push_blob(b"config"), 6)
    expected = {}
    for document, kind in (
        (early, SBOM),
        (
            repository.artifact(subject=subject, artifactType=SIGNATURE, annotations={"a": "ä \u202e \0", "b": ""}),
            SIGNATURE,
        ),
        (repository.image(subject=subject), media_types.OCI_CONFIG),
        (repository.image(subject=subject) | {"config": config}, "application/vnd.example.config"),
        (repository.image(subject=subject, artifactType=SBOM), SBOM),
        (index(subject=subject, artifactType=SBOM, annotations={"of": "an index"}), SBOM),
        (index(subject=subject), None),
    ):
        repository.push(document)
        entry = described(document)
        if kind is not None:
            entry["artifactType"] = kind
        if "annotations" in document:
            entry["annotations"] = document["annotations"]
        expected[entry["digest"]] = entry
    # Of another subject, and of none.
    repository.push(repository.artifact(subject=descriptor(media_types.OCI_MANIFEST, Digest.of(b"x"), 1)))
    repository.push(repository.artifact())

    listed = repository.referrers(subject["digest"])
    assert {entry["digest"]: entry for entry in listed.json()["manifests"]} == expected
    assert "oci-filters-applied" not in listed.headers

    # "Filtering by artifactType"
    for kind in {entry.get("artifactType") for entry in expected.values()} - {None}:
        filtered = repository.referrers(subject["digest"], artifactType=kind)
        assert filtered.headers["oci-filters-applied"] == "artifactType"
        of_kind = {digest: entry for digest, entry in expected.items() if entry.get("artifactType") == kind}
        assert {entry["digest"]: entry for entry in filtered.json()["manifests"]} == of_kind
    assert repository.referrers(subject["digest"], artifactType="application/x").json()["manifests"] == []
    # A filter that we do not have is not claimed.
    assert "oci-filters-applied" not in repository.referrers(subject["digest"], other="x").headers

    # Deleted, a referrer is gone from the list; a deleted subject keeps its list.
    gone = described(early)["digest"]
    assert repository.http.delete(repository.manifest(gone)).status_code == 202
    assert repository.http.delete(repository.manifest(subject["digest"])).status_code == 202
    left = {entry["digest"] for entry in repository.referrers(subject["digest"]).json()["manifests"]}
    assert left == set(expected) - {gone}


def test_referrers_of_another_repository_are_not_listed(repository: Repository, other: Repository) -> None:
    subject = described(repository.image())
    other.push(other.artifact(subject=subject))
    assert repository.referrers(subject["digest"]).json()["manifests"] == []


def test_referrers_with_large_annotations_come_in_pages_below_4_mib(repository: Repository) -> None:
    subject = descriptor(media_types.OCI_MANIFEST, Digest.of(b"subject"), 1)
    pushed = {
        repository.push(repository.artifact(subject=subject, annotations={"n": str(n), "large": "x" * 900_000}))
        for n in range(6)
    }
    for query in ("", f"?artifactType={SBOM.replace('/', '%2F')}"):
        path = f"{repository.path}/referrers/{subject['digest']}{query}"
        found = pages(repository.http, path, "manifests")
        assert len(found) > 1
        assert sorted(entry["digest"] for page in found for entry in page) == sorted(pushed)


# Docker's catalogue: "Docker Registry HTTP API V2", "Listing Repositories"


def test_the_catalogue_lists_repositories_in_order_and_in_pages(repository: Repository, other: Repository) -> None:
    for one in (other, repository):
        one.push(one.artifact(), "tag")
    (all_names,) = pages(repository.http, "/v2/_catalog", "repositories")
    assert {repository.name, other.name} <= set(all_names)
    assert all_names == sorted(all_names)
    for n in (1, 2, 7):
        found = pages(repository.http, f"/v2/_catalog?n={n}", "repositories")
        assert [name for page in found for name in page] == all_names
        assert all(len(page) <= n for page in found)
    assert repository.http.get("/v2/_catalog", params={"last": all_names[-1]}).json() == {"repositories": []}
    response = repository.http.get("/v2/_catalog", params={"n": "-1"})
    assert (response.status_code, response.json()["errors"][0]["code"]) == (400, "PAGINATION_NUMBER_INVALID")
