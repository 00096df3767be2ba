"""distribution-spec 1.1, workflow category "Push": "Pushing Manifests"; the manifests of image-spec 1.1."""

import base64
import json
from typing import Any

import pytest
from tests.registry.conformance.repository import Repository, described, descriptor, index, manifest, refused

from sanderling.oci import MAX_DOCUMENT_BYTES, Digest, media_types

MISSING = Digest.of(b"never pushed")
ARTIFACT = "application/vnd.example.sbom.v1"


def is_kept(repository: Repository, document: Any, *references: str) -> Digest:
    """Push *document*; say its digest when it is pulled as it was pushed, by every reference."""
    raw = document if isinstance(document, bytes) else json.dumps(document, indent=1).encode()
    digest = Digest.of(raw)
    for reference in (*references, digest):
        response = repository.put(raw, reference)
        assert response.status_code == 201, response.text
        assert response.headers["docker-content-digest"] == digest
        assert repository.http.get(response.headers["location"]).content == raw
    for reference in (*references, digest):
        pulled = repository.http.get(repository.manifest(reference))
        assert pulled.content == raw
        assert pulled.headers["content-type"] == json.loads(raw)["mediaType"]
        assert pulled.headers["docker-content-digest"] == digest
    return digest


def test_an_image_is_pushed_by_tag_and_by_digest(repository: Repository) -> None:
    assert is_kept(repository, repository.image(), "v1", "_", "A.b-c_d", "x" * 128)


def test_a_tag_moves(repository: Repository) -> None:
    old = repository.push(repository.image(b"old"), "latest")
    new = repository.push(repository.image(b"new"), "latest")
    assert repository.http.get(repository.manifest("latest")).headers["docker-content-digest"] == new
    assert repository.http.get(repository.manifest(old)).status_code == 200
    assert repository.tags() == ["latest"]


@pytest.mark.parametrize("media_type", [media_types.OCI_MANIFEST, media_types.DOCKER_MANIFEST])
def test_a_manifest_may_lack_its_media_type(repository: Repository, media_type: str) -> None:
    document = repository.image()
    del document["mediaType"]
    digest = repository.push(document, "tag", media_type=media_type)
    assert repository.http.get(repository.manifest(digest)).headers["content-type"] == media_type


def test_a_manifest_without_any_media_type_is_known_by_its_fields(repository: Repository) -> None:
    image = repository.image()
    del image["mediaType"]
    assert repository.put(image, "image", None).status_code == 201
    assert repository.http.get(repository.manifest("image")).headers["content-type"] == media_types.OCI_MANIFEST
    assert repository.put({"schemaVersion": 2, "manifests": []}, "index", None).status_code == 201
    assert repository.http.get(repository.manifest("index")).headers["content-type"] == media_types.OCI_INDEX


def test_parameters_of_the_content_type_are_ignored(repository: Repository) -> None:
    digest = repository.push(repository.image(), media_type=f"{media_types.OCI_MANIFEST}; charset=utf-8")
    assert repository.http.get(repository.manifest(digest)).headers["content-type"] == media_types.OCI_MANIFEST


def test_every_kind_of_manifest_is_kept_byte_for_byte(repository: Repository) -> None:
    image = repository.image()
    docker = repository.image() | {"mediaType": media_types.DOCKER_MANIFEST}
    artifact = repository.artifact()
    for document in (image, docker, artifact):
        is_kept(repository, document)
    nested = index(described(image, platform={"os": "linux", "architecture": "amd64"}), described(docker))
    for document in (
        nested,
        index(),
        index(described(artifact), artifactType=ARTIFACT),
        index(described(nested), described(image), annotations={"k": "v"}),
        index(described(image)) | {"mediaType": media_types.DOCKER_MANIFEST_LIST},
    ):
        is_kept(repository, document, "index")


def test_lists_of_layers_may_be_empty(repository: Repository) -> None:
    is_kept(repository, {**repository.image(), "layers": []}, "none")
    is_kept(repository, {**repository.artifact(), "layers": []}, "artifact")


def test_unknown_fields_and_all_white_space_are_kept(repository: Repository) -> None:
    image = repository.image(**{"org.example.FIELD": [{"deep": None}], "zzz": 1e-7, "ünïcode": "\u202eright to left"})
    image["config"]["data"] = base64.b64encode(b"{}").decode()
    image["layers"][0]["unknown"] = True
    raw = b"\n\t " + json.dumps(image, indent=5, ensure_ascii=False).encode() + b"\r\n"
    is_kept(repository, raw, "tag")


def test_the_data_of_a_descriptor_is_kept(repository: Repository) -> None:
    """image-spec 1.1, "Descriptor": `data` embeds the content."""
    layer = b"embedded layer"
    image = repository.image(layer)
    image["layers"][0]["data"] = base64.b64encode(layer).decode()
    is_kept(repository, image)


def test_layers_that_are_kept_elsewhere_may_be_missing(repository: Repository) -> None:
    """image-spec 1.1, "Non-Distributable Layers"."""
    image = repository.image()
    for media_type in ("tar", "tar+gzip"):
        image["layers"].append(
            descriptor(
                f"application/vnd.oci.image.layer.nondistributable.v1.{media_type}",
                Digest.of(media_type.encode()),
                123456,
                urls=["https://store.example.com/layer"],
            )
        )
    is_kept(repository, image, "tag")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_manifest_is_pushed_by_the_digest_that_the_client_chose(repository: Repository, algorithm: str) -> None:
    image = repository.image(algorithm=algorithm)
    raw = json.dumps(image).encode()
    digest = Digest.of(raw, algorithm)
    response = repository.put(raw, digest)
    assert (response.status_code, response.headers["docker-content-digest"]) == (201, digest)
    of_index = json.dumps(index(descriptor(media_types.OCI_MANIFEST, digest, len(raw)))).encode()
    assert repository.put(of_index, Digest.of(of_index, algorithm)).status_code == 201
    pulled = repository.http.get(repository.manifest(digest))
    assert (pulled.content, pulled.headers["docker-content-digest"]) == (raw, digest)
    assert repository.http.head(repository.manifest(digest)).headers["docker-content-digest"] == digest


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_several_tags_are_pushed_at_once(repository: Repository, algorithm: str) -> None:
    """ "end-7b": PUT by digest with `tag` parameters; each is confirmed by OCI-Tag."""
    raw = json.dumps(repository.image()).encode()
    tags = [f"tag-{number}" for number in range(10)]
    response = repository.put(raw, Digest.of(raw, algorithm), tag=tags)
    assert response.status_code == 201
    assert [tag.strip() for tag in response.headers["oci-tag"].split(",")] == tags
    assert repository.tags() == sorted(tags)
    for tag in tags:
        pulled = repository.http.get(repository.manifest(tag))
        assert (pulled.content, pulled.headers["docker-content-digest"]) == (raw, Digest.of(raw, algorithm))


def test_one_bad_tag_of_several_and_none_is_set(repository: Repository) -> None:
    raw = json.dumps(repository.image()).encode()
    response = repository.put(raw, Digest.of(raw), tag=["good", "not good"])
    assert refused(response, 400, "MANIFEST_INVALID")
    assert repository.tags() == []
    assert refused(repository.http.get(repository.manifest(Digest.of(raw))), 404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("tag", [".x", "-x", "x" * 129, "ä", "a b", "x+y", "%2e", "a%00b"])
def test_what_is_no_tag_is_refused(repository: Repository, tag: str) -> None:
    assert refused(repository.put(repository.image(), tag), 400, "MANIFEST_INVALID")


# "Pushing a manifest with a subject field"


def test_a_subject_is_confirmed_and_may_come_later(repository: Repository) -> None:
    image = repository.image(b"later")
    for digest in (described(image)["digest"], MISSING, "sha512:" + "5" * 128):
        subject = descriptor(media_types.OCI_MANIFEST, digest, 123)
        for document in (repository.artifact(subject=subject), index(subject=subject)):
            response = repository.put(document)
            assert (response.status_code, response.headers["oci-subject"]) == (201, digest)
    response = repository.put(image)
    assert response.status_code == 201
    assert "oci-subject" not in response.headers


# Refusals


def test_a_manifest_needs_all_that_it_names(repository: Repository, other: Repository) -> None:
    image = repository.image()
    elsewhere = other.push_blob(b"in another repository")
    missing = descriptor("application/octet-stream", MISSING, 12)
    for document in (
        manifest(missing, image["layers"]),
        manifest(image["config"], [*image["layers"], missing]),
        manifest(image["config"], [descriptor("application/octet-stream", elsewhere, 21)]),
        index(descriptor(media_types.OCI_MANIFEST, MISSING, 12)),
        index(descriptor(media_types.OCI_INDEX, MISSING, 12)),
        # A blob is no manifest.
        index(descriptor(media_types.OCI_MANIFEST, image["config"]["digest"], image["config"]["size"])),
    ):
        assert refused(repository.put(document, "tag"), 404, "MANIFEST_BLOB_UNKNOWN")
    assert repository.tags() == []


def test_a_manifest_with_a_wrong_size_is_refused(repository: Repository) -> None:
    image = repository.image()
    image["layers"][0]["size"] += 1
    assert refused(repository.put(image), 400, "MANIFEST_INVALID")


def test_a_manifest_that_differs_from_its_digest_is_refused(repository: Repository) -> None:
    raw = json.dumps(repository.image()).encode()
    assert refused(repository.put(raw + b"  ", Digest.of(raw)), 400, "DIGEST_INVALID")
    assert refused(repository.put(raw, Digest.of(raw, "sha512")[:-1] + "x"), 400, "DIGEST_INVALID")
    assert refused(repository.put(raw, "sha256:baddigeststring"), 400, "DIGEST_INVALID")
    assert refused(repository.put(b"blablabla", "sha256:totallywrong", "text/plain"), 400, "DIGEST_INVALID")


def test_a_manifest_of_nearly_4_mib_is_kept_and_a_larger_one_is_413(repository: Repository) -> None:
    image = repository.image(annotations={f"large-{n}": "A" * 10_000 for n in range(390)})
    digest = is_kept(repository, image, "large")
    image["annotations"]["more"] = "A" * (MAX_DOCUMENT_BYTES - len(json.dumps(image)))
    assert refused(repository.put(image), 413, "SIZE_INVALID")
    referrer = repository.artifact(
        subject=descriptor(media_types.OCI_MANIFEST, digest, 5), annotations=image["annotations"] | {"more": ""}
    )
    repository.push(referrer)
    assert repository.referrers(digest).json()["manifests"][0]["annotations"] == referrer["annotations"]


@pytest.mark.parametrize(
    "media_type",
    ["text/plain", "application/json", "application/vnd.docker.distribution.manifest.v1+json", "x", "a/b" * 200],
)
def test_a_media_type_that_is_no_manifest_is_refused(repository: Repository, media_type: str) -> None:
    """Our policy: what we cannot read we cannot check, and a manifest that is not checked is not kept."""
    image = repository.image() | {"mediaType": media_type}
    assert refused(repository.put(image, "tag"), 400, "MANIFEST_INVALID")


def test_a_media_type_inside_and_outside_must_agree(repository: Repository) -> None:
    response = repository.put(repository.image(), "tag", media_types.OCI_INDEX)
    assert refused(response, 400, "MANIFEST_INVALID")


@pytest.mark.parametrize(
    "raw",
    [b"", b"{}", b"[]", b"null", b"blablabla", b"\xff\xfe", b"\xef\xbb\xbf{}", b'{"schemaVersion": 2}', b"{" * 1000],
)
def test_what_is_no_manifest_is_refused(repository: Repository, raw: bytes) -> None:
    assert refused(repository.put(raw, "tag", media_types.OCI_MANIFEST), 400, "MANIFEST_INVALID")
