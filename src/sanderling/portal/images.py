"""Pages about images and their builds."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sanderling.portal import hints
from sanderling.portal.builds import build_of
from sanderling.portal.listing import ROWS, newest_first
from sanderling.portal.visit import Page, Visit
from sanderling.sdk import Image

BUILDING = frozenset({"queued", "running"})
LIST_REFRESH_S = 5
BUILD_REFRESH_S = 2


@dataclass(frozen=True, slots=True)
class ModelLink:
    """A model that an image holds: its `name:version`, apart for the address of its page."""

    id: str

    @property
    def name(self) -> str:
        return self.id.rpartition(":")[0]

    @property
    def version(self) -> str:
        return self.id.rpartition(":")[2]


def culprit_text(culprit: Mapping[str, Any]) -> str:
    """What a failed build blames, in one line; empty when it does not know."""
    words = [f"the package {culprit['package']}"] if "package" in culprit else []
    if "file" in culprit:
        words.append(f"{culprit['file']}, line {culprit['line']}" if "line" in culprit else str(culprit["file"]))
    return "; ".join(words)


def show_images(visit: Visit) -> Page:
    """All versions of all images, newest first."""
    images = newest_first(Image.list(visit.home))
    values = {"images": images[:ROWS], "total": len(images), "build": hints.build()}
    is_building = any(image.state in BUILDING for image in images)
    return Page("images.html", "images", values, refresh_s=LIST_REFRESH_S if is_building else None)


def show_image(visit: Visit) -> Page:
    """One version of an image, the latest when none is named, with its build's log."""
    image = Image.get(visit.home, visit.params["name"], visit.params.get("version"))
    values = {
        "image": image,
        "culprit": culprit_text(image.culprit),
        "models": [ModelLink(id) for id in image.models],
        "build": build_of(image.logs(), image.state, visit.now),
        "deploy": hints.deploy(image.id),
    }
    refresh_s = BUILD_REFRESH_S if image.state in BUILDING else None
    return Page("image.html", "images", values, at_top=False, refresh_s=refresh_s)
