from typing import Any

from sanderling.image.layers.sizes import LAYER, PACKAGES, layers_record, packages_text, parse_packages, size_report
from sanderling.oci import Descriptor, Digest, Manifest, media_types

BOTH = ("linux/amd64", "linux/arm64")


def descriptor(text: str, size: int, packages: str = "") -> Descriptor:
    annotations = {LAYER: text} | ({PACKAGES: packages} if packages else {})
    return Descriptor(media_types.OCI_LAYER_GZIP, Digest.of(text.encode()), size, annotations=annotations)


def manifest(*layers: Descriptor) -> Manifest:
    config = Descriptor(media_types.OCI_CONFIG, Digest.of(b"{}"), 2)
    return Manifest.build(config, layers)


def image(model: str, cpu: str = "") -> list[dict[str, Any]]:
    packages = packages_text([("numpy", "2.4", 900), ("joblib", "1.5", 90)])
    shared = [descriptor("scoring", 10), descriptor(model, 5)]
    manifests = [manifest(descriptor(f"wheels {one} {cpu}", 1000, packages), *shared) for one in BOTH]
    return layers_record(zip(BOTH, manifests, strict=True))


def test_packages_are_read_as_they_were_written() -> None:
    text = packages_text([("numpy", "2.4.6", 16_000_000), ("joblib", "1.5", 90)])
    assert text == "joblib 1.5 90; numpy 2.4.6 16000000"
    assert parse_packages(text)[1] == {"name": "numpy", "version": "2.4.6", "sizeBytes": 16_000_000}
    assert parse_packages("") == parse_packages("strange; text here") == parse_packages("a b -1; c d ²") == []


def test_a_layer_of_both_platforms_is_one_layer() -> None:
    record = image("model")
    assert [layer["platforms"] for layer in record] == [["linux/amd64"], [*BOTH], [*BOTH], ["linux/arm64"]]
    assert [package["name"] for package in record[0]["packages"]] == ["joblib", "numpy"]


def test_a_device_downloads_what_its_own_platform_lacks() -> None:
    report = size_report(image("model 2"), previous=image("model 1"))
    assert [platform["platform"] for platform in report] == [*BOTH]
    for platform in report:
        assert (platform["sizeBytes"], platform["downloadBytes"], platform["sharedBytes"]) == (1015, 5, 0)
        assert [layer["title"] for layer in platform["layers"] if layer["isNew"]] == ["model 2"]


def test_a_device_with_nothing_downloads_all() -> None:
    assert {platform["downloadBytes"] for platform in size_report(image("model"))} == {1015}


def test_layers_say_which_other_images_have_them() -> None:
    report = size_report(image("model"), {"a:1": image("other"), "b:1": image("model", "new"), "c:1": []})
    layers = {layer["title"]: layer["sharedWith"] for layer in report[0]["layers"]}
    assert layers == {"wheels linux/amd64 ": ["a:1"], "scoring": ["a:1", "b:1"], "model": ["b:1"]}
    assert report[0]["sharedBytes"] == 1015


def test_a_record_of_an_earlier_version_has_no_platforms_and_no_sizes() -> None:
    assert size_report([{"digest": "sha256:0", "sizeBytes": 1, "title": "x"}]) == []
