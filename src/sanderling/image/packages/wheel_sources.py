"""Where uv may look for wheels: the indexes of the host, a folder alone, or only what is on this machine already."""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sanderling.errors import Invalid, NotFound, Unavailable

# What would lead uv to an index, or to another folder.
_LEADING_OUT = re.compile(r"^UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|INDEX_STRATEGY)$")
_NAME = r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?"


class NotInWheelhouse(Invalid):
    """The wheelhouse *folder* has no wheel of *package* that would do."""

    def __init__(self, package: str, folder: Path, reason: str) -> None:
        super().__init__(f"package '{package}': the wheelhouse {folder} has no wheel that will do ({reason})")
        self.package, self.folder = package, folder


class NotOnThisMachine(Unavailable):
    """*what* is in no cache and no folder here, and nothing may be fetched."""

    def __init__(self, what: str, url: str = "") -> None:
        at = f" from {url}" if url else ""
        super().__init__(f"{what} is not on this machine, and nothing may be fetched{at}")
        self.add_note(
            "sanderling image prefetch, where there is a network, and --offline with the folder that it filled"
        )
        self.add_note("the same once with the network: what is fetched is kept")
        self.what = what


@dataclass(frozen=True, slots=True)
class WheelSources:
    """*wheelhouse*: this folder of wheels, and no index. *is_offline*: nothing is fetched from anywhere."""

    wheelhouse: Path | None = None
    is_offline: bool = False

    def __post_init__(self) -> None:
        """Refuse a wheelhouse that is not there."""
        if self.wheelhouse is not None and not self.wheelhouse.is_dir():
            raise NotFound(f"the wheelhouse {self.wheelhouse} is no folder that is there")

    @property
    def key(self) -> str:
        """What names a kept choice of versions beside its environment: the wheelhouse's files, if there is one."""
        if self.wheelhouse is None:
            return ""
        files = sorted((path.name, path.stat().st_size) for path in self.wheelhouse.glob("*.whl"))
        return "-" + hashlib.sha256(json.dumps(files).encode()).hexdigest()[:16]

    def options(self, options: tuple[str, ...]) -> tuple[str, ...]:
        """The lines for uv out of an environment's *options*: with a wheelhouse no other place counts."""
        if self.wheelhouse is None:
            return options
        kept = (option for option in options if not re.match(r"--(extra-)?index-url|--find-links", option))
        return ("--no-index", f"--find-links {self.wheelhouse.absolute().as_uri()}", *kept)

    def variables(self, variables: Mapping[str, str] | None = None) -> dict[str, str]:
        """The variables for uv's process, made of *variables* (None: ours)."""
        found = dict(os.environ if variables is None else variables)
        if self.wheelhouse is not None:
            found = {name: value for name, value in found.items() if not _LEADING_OUT.match(name)}
            found["UV_NO_CONFIG"] = "1"
        if self.is_offline:
            found["UV_OFFLINE"] = "1"
        return found

    def explain(self, stderr: str) -> NotInWheelhouse | NotOnThisMachine | None:
        """The error for what uv printed, where these sources are why; None: it is another matter."""
        text = " ".join(stderr.split())
        missing = re.search(
            rf"(?P<name>{_NAME}) was not found in the (?P<place>cache|provided package locations)", text
        )
        unfetched = re.search(rf"/simple/(?P<name>{_NAME})/?`?", text) if "disabled" in text else None
        if self.wheelhouse is not None and missing:
            return NotInWheelhouse(missing["name"], self.wheelhouse, "there is none of that name")
        if self.wheelhouse is not None and (no_version := _version_missing(text)):
            name, reason = no_version
            return NotInWheelhouse(name, self.wheelhouse, reason)
        if self.is_offline and (found := missing or unfetched):
            return NotOnThisMachine(f"package '{found['name']}'")
        return None


ANY = WheelSources()


def _version_missing(text: str) -> tuple[str, str] | None:
    """The package and the reason, where uv found the name and no fitting file."""
    version = re.search(rf"there (?:is|are) no versions? of (?P<spec>(?P<name>{_NAME})[<>=!~]\S*)", text)
    if version is None and "only" in text:
        version = re.search(
            rf"is available and (?:you require|\S+ depends on) (?P<spec>(?P<name>{_NAME})[<>=!~]\S*)", text
        )
    if version:
        return version["name"], f"none is {version['spec'].rstrip(',.')}"
    tags = re.search(rf"(?P<spec>(?P<name>{_NAME})(?:[<>=!~]\S*)?) ha(?:s|ve) no (?:usable )?wheels[^.]*", text)
    return (tags["name"], "none is for this platform and Python") if tags else None
