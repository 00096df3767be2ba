"""The name of a base that is another image, and where its content is."""

from collections.abc import Iterable, Mapping
from typing import Any

from sanderling.errors import Invalid
from sanderling.image.push_target import PushTarget
from sanderling.oci import Digest, Reference


def parse_base(text: str) -> Reference:
    """Read the name of a base as `docker pull` would. Raises Invalid."""
    try:
        reference = Reference.parse(text)
    except Invalid as e:
        raise Invalid(f"the base is not an image: {e.message}") from e
    if reference.registry == "docker.io" and reference.repository == "library/scratch":
        raise Invalid("the base 'scratch' is empty, and an image needs a Python; leave the base out to have ours")
    return reference


def places_of_bases(records: Iterable[Mapping[str, Any]], target: PushTarget) -> dict[Digest, str]:
    """Layer -> repository of *target*'s registry that has it, for the bases (`Base.record`) that came from there."""
    places: dict[Digest, str] = {}
    for record in records:
        if record.get("kind") != "oci":
            continue
        reference = Reference.parse(record["name"])
        if reference.registry in (target.registry, target.shown):
            places |= {Digest(layer): reference.repository for layer in record["layers"]}
    return places
