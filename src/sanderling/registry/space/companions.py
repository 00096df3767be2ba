"""Tags that are no names of images: cosign's ``sha256-HEX.sig``, and what stands in for a list of referrers.

What such a tag names is about the image with that digest. Rules treat it as a manifest without a tag that has this
subject: it does not count among the last images, it keeps nothing, and it goes when its image goes.
Sources: cosign's SIGNATURE_SPEC; distribution-spec 1.1, "Referrers Tag Schema".
"""

import re
from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sanderling.registry.space.rules import Snapshot, TagFacts

_TAG = re.compile(r"sha256-([0-9a-f]{64})(\.(sig|att|sbom))?")


def subject_of(tag: str) -> str:
    """Return the digest that a tag's manifest is about, by the tag's own name; empty for a name of an image."""
    found = _TAG.fullmatch(tag)
    return f"sha256:{found[1]}" if found else ""


def is_companion(tag: str) -> bool:
    """Say whether a tag names something about an image, and no image."""
    return bool(subject_of(tag))


def without_companions(snapshot: "Snapshot") -> "tuple[Snapshot, dict[str, list[TagFacts]]]":
    """Return the repository with its names of images alone, and the other tags by what they name."""
    taken: dict[str, list[TagFacts]] = defaultdict(list)
    for tag in snapshot.tags:
        if is_companion(tag.name):
            taken[tag.digest].append(tag)
    if not taken:
        return snapshot, {}
    manifests = dict(snapshot.manifests)
    for digest, tags in taken.items():
        if digest in manifests and not manifests[digest].subject:
            manifests[digest] = replace(manifests[digest], subject=subject_of(tags[0].name))
    names = [tag for tag in snapshot.tags if not is_companion(tag.name)]
    return replace(snapshot, manifests=manifests, tags=names), dict(taken)
