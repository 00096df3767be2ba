"""Say what uv found wrong in our words: which package, and the way out."""

import re

from sanderling.errors import Denied, Invalid, SanderlingError, Unavailable
from sanderling.image.events import without_credentials
from sanderling.oci import Platform

_NAME = r"(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*?)"
_SPEC = r"(?P<spec>[<>=!~][^\s,]*)?"


class ResolutionFailed(Invalid):
    """No set of wheels satisfies the environment; *package* is the culprit where uv named one."""

    def __init__(self, text: str, *, package: str | None = None) -> None:
        super().__init__(text)
        self.package = package


def explain(stderr: str, platform: Platform) -> SanderlingError:
    """The error to raise for what uv printed to *stderr*."""
    text = " ".join(re.sub(r"(?m)^\s*(error|cause|warning):", " ", without_credentials(stderr)).split())
    reason, _, hint = text.partition(" hint: ")
    reason = reason.removeprefix("No solution found when resolving dependencies").strip(" :")
    if re.search(r"Failed to fetch|Request failed|error sending request|dns error|timed out", text, re.IGNORECASE):
        return _of_the_network(text)
    return _of_the_packages(reason, hint, platform)


def _of_the_network(text: str) -> SanderlingError:
    place = re.search(r"https?://[^\s`'\")]+", text)
    where = place[0] if place else "the package index"
    if re.search(r"\b(401|403)\b", text):
        return Denied(f"{where} asks for a user and password; put them into UV_INDEX_URL as https://user:password@...")
    return Unavailable(f"the package index did not answer at {where}: {_short(text, 200)}")


def _of_the_packages(reason: str, hint: str, platform: Platform) -> ResolutionFailed:
    missing = re.search(rf"{_NAME} was not found in the (?:package registry|provided package locations)", reason)
    if missing:
        name = missing["name"]
        return ResolutionFailed(
            f"package '{name}': no index has it. Is the name right? For a private package, name its index with "
            f"'--extra-index-url' in the pip section. uv says: {_short(reason)}",
            package=name,
        )
    wheels = re.search(rf"{_NAME}{_SPEC} ha(?:s|ve) no (?:usable )?wheels", reason)
    if wheels:
        name = wheels["name"]
        more = f" ({_short(hint, 300)})" if hint else ""
        return ResolutionFailed(
            f"package '{name}': there is no wheel for {platform} with Python 3.11{more}. Choose a version that has "
            "one, or give an index that has it; sources are not built",
            package=name,
        )
    version = re.search(rf"there (?:is|are) no versions? of {_NAME}{_SPEC}(?: and|,|$)", reason)
    if version and version["spec"]:
        name = version["name"]
        return ResolutionFailed(
            f"package '{name}': no version satisfies {name}{version['spec']}; loosen or mend the pin. "
            f"uv says: {_short(reason)}",
            package=name,
        )
    conflict = re.findall(r"you require ([A-Za-z0-9][A-Za-z0-9._-]*)\s*(?:[<>=!~]|and|,)", reason)
    if conflict:
        pins = sorted(set(re.findall(r"(?:you require|and) ([A-Za-z0-9][A-Za-z0-9._-]*[<>=!~][^\s,]*[^\s,.])", reason)))
        return ResolutionFailed(
            f"the requirements contradict each other{': ' + ', '.join(pins) if pins else ''}. "
            f"Loosen one of these pins. uv says: {_short(reason)}",
            package=conflict[-1],
        )
    return ResolutionFailed(f"no set of packages satisfies the environment. uv says: {_short(reason or hint)}")


def _short(text: str, length: int = 800) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"
