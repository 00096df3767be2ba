import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sanderling.errors import Invalid
from sanderling.oci import Descriptor, Digest, Index, Manifest, Platform, media_types, parse_manifest

CONFIG = Descriptor(media_types.OCI_CONFIG, Digest.of(b"config"), 6)
LAYER = Descriptor(media_types.OCI_LAYER_GZIP, Digest.of(b"layer"), 5)
MANIFEST = Manifest.build(CONFIG, [LAYER], {"k": "v"})
INDEX = Index.build(
    [
        MANIFEST.descriptor(Platform("linux", "arm", "v6")),
        MANIFEST.descriptor(Platform("linux", "arm", "v7")),
        MANIFEST.descriptor(Platform("linux", "arm64")),
    ]
)


def raw(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def manifest_fields(**change: Any) -> dict[str, Any]:
    return {**json.loads(MANIFEST.raw), **change}


def test_what_is_built_is_what_is_parsed() -> None:
    assert Manifest.parse(MANIFEST.raw) == MANIFEST
    assert (MANIFEST.config, MANIFEST.layers, MANIFEST.annotations) == (CONFIG, (LAYER,), {"k": "v"})
    assert Index.parse(INDEX.raw) == INDEX
    assert INDEX.descriptor() == Descriptor(media_types.OCI_INDEX, INDEX.digest, len(INDEX.raw))


def test_building_is_canonical() -> None:
    assert b" " not in MANIFEST.raw
    assert list(json.loads(MANIFEST.raw)) == sorted(json.loads(MANIFEST.raw))


def test_the_bytes_are_kept_as_they_came() -> None:
    pretty = json.dumps(json.loads(MANIFEST.raw) | {"unknown": [1]}, indent=3).encode()
    parsed = parse_manifest(pretty)
    assert parsed.raw == pretty
    assert parsed.digest == Digest.of(pretty)


def test_artifacts_and_referrers_keep_their_type_and_subject() -> None:
    subject = MANIFEST.descriptor()
    artifact = Manifest.build(CONFIG, [], artifact_type="application/spdx+json", subject=subject)
    assert (artifact.artifact_type, artifact.subject, artifact.layers) == ("application/spdx+json", subject, ())
    index = Index.build([], {"a": "b"}, artifact_type="application/x", subject=subject)
    assert (index.artifact_type, index.subject, index.manifests) == ("application/x", subject, ())


def test_the_total_size_counts_a_repeated_layer_once() -> None:
    doubled = Manifest.build(CONFIG, [LAYER, LAYER])
    assert doubled.total_size_bytes == len(doubled.raw) + 6 + 5


@pytest.mark.parametrize(
    ("platform", "found"),
    [
        ("linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6"),
        ("linux/arm64/v8", "linux/arm64"),
        ("linux/amd64", None),
    ],
)
def test_an_index_finds_the_manifest_of_a_platform(platform: str, found: str | None) -> None:
    descriptor = INDEX.find_platform(Platform.parse(platform))
    assert (str(descriptor.platform) if descriptor else None) == found


@pytest.mark.parametrize(
    ("media_type", "kind"),
    [
        (media_types.DOCKER_MANIFEST, Manifest),
        (media_types.OCI_MANIFEST, Manifest),
        (media_types.DOCKER_MANIFEST_LIST, Index),
        (media_types.OCI_INDEX, Index),
    ],
)
def test_the_media_type_may_be_inside_outside_or_both(media_type: str, kind: type) -> None:
    source = MANIFEST if kind is Manifest else INDEX
    inside = raw(**{**json.loads(source.raw), "mediaType": media_type})
    without = {k: v for k, v in json.loads(source.raw).items() if k != "mediaType"}
    for parsed in (
        parse_manifest(inside),
        parse_manifest(inside, f"{media_type}; charset=utf-8"),
        parse_manifest(raw(**without), media_type),
    ):
        assert isinstance(parsed, kind)
        assert parsed.media_type == media_type
    assert isinstance(parse_manifest(raw(**without)), kind)


@pytest.mark.parametrize(
    "document",
    [
        raw(),
        raw(schemaVersion=1),
        raw(schemaVersion=2),
        raw(schemaVersion=True, config=CONFIG.to_json(), layers=[]),
        raw(**manifest_fields(schemaVersion="2")),
        raw(**manifest_fields(mediaType="text/plain")),
        raw(**manifest_fields(mediaType=5)),
        raw(**manifest_fields(mediaType=media_types.OCI_INDEX)),
        raw(**{**json.loads(INDEX.raw), "mediaType": media_types.OCI_MANIFEST}),
        raw(**manifest_fields(manifests=[])),
        raw(**manifest_fields(layers={})),
        raw(**manifest_fields(layers=[None])),
        raw(**manifest_fields(config=None)),
        raw(**manifest_fields(subject="x")),
        raw(**manifest_fields(subject={})),
        raw(**manifest_fields(Layers=[])),
        MANIFEST.raw.replace(b'"layers"', '"layer\u017f":[],"layers"'.encode()),
        raw(**manifest_fields(Subject=MANIFEST.descriptor().to_json())),
        raw(**manifest_fields(config={**CONFIG.to_json(), "Digest": LAYER.digest})),
        raw(**manifest_fields(layers=[{**LAYER.to_json(), "SIZE": 1}])),
        raw(**manifest_fields(annotations={"a": 1})),
        raw(**manifest_fields(artifactType="nonsense")),
        raw(**{**json.loads(INDEX.raw), "layers": []}),
        raw(schemaVersion=2, mediaType=media_types.OCI_INDEX, manifests=[LAYER.to_json()] * 10_001),
    ],
)
def test_a_document_that_is_no_manifest_is_refused(document: bytes) -> None:
    with pytest.raises(Invalid):
        parse_manifest(document)


def test_a_list_may_be_null_as_go_writes_an_empty_one() -> None:
    assert parse_manifest(raw(**manifest_fields(layers=None))).digest
    index = parse_manifest(raw(**{**json.loads(INDEX.raw), "manifests": None}))
    assert isinstance(index, Index)
    assert index.manifests == ()


def test_unknown_keys_and_annotations_may_differ_in_case_alone() -> None:
    kept = raw(**manifest_fields(annotations={"a": "1", "A": "2"}, Other=1, other=2))
    assert parse_manifest(kept).annotations == {"a": "1", "A": "2"}


def test_a_parser_refuses_the_media_type_of_the_other_kind() -> None:
    with pytest.raises(Invalid, match="image manifest"):
        Manifest.parse(raw(**manifest_fields(mediaType=media_types.OCI_INDEX)))
    with pytest.raises(Invalid, match="image index"):
        Index.parse(raw(**{**json.loads(INDEX.raw), "mediaType": media_types.OCI_MANIFEST}))


def test_a_document_that_was_sent_as_another_type_is_refused() -> None:
    with pytest.raises(Invalid, match="was sent as"):
        parse_manifest(MANIFEST.raw, media_types.OCI_INDEX)
    with pytest.raises(Invalid, match="not a media type of an image"):
        parse_manifest(raw(schemaVersion=2, config=CONFIG.to_json(), layers=[]), "text/html")


HALF_RIGHT = st.dictionaries(
    st.sampled_from(sorted(json.loads(MANIFEST.raw))), st.none() | st.integers() | st.lists(st.text())
)


@given(st.binary() | HALF_RIGHT.map(lambda fields: raw(**fields)))
def test_any_bytes_are_a_manifest_or_invalid(document: bytes) -> None:
    with contextlib.suppress(Invalid):
        assert parse_manifest(document).raw == document
