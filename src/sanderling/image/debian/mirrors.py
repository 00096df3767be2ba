"""Where Debian packages come from: a setting, else the host's own apt sources, else Debian's mirror network."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sanderling.errors import Invalid

SUITE = "bookworm"
DEFAULT_MAIN = "http://deb.debian.org/debian"
DEFAULT_SECURITY = "http://deb.debian.org/debian-security"
APT_FOLDER = Path("/etc/apt")


@dataclass(frozen=True, slots=True)
class Mirrors:
    """The roots of the main archive and of the security archive, without a slash at the end."""

    main: str = DEFAULT_MAIN
    security: str = DEFAULT_SECURITY

    def root(self, archive: str) -> str:
        """The address of *archive* ("main" or "security")."""
        return self.security if archive == "security" else self.main


def choose_mirrors(main: str | None, security: str | None, apt: Path = APT_FOLDER) -> Mirrors:
    """The mirrors to use; *main* and *security* are settings and win over the files in *apt*."""
    for name, value in (("mirror", main), ("security mirror", security)):
        if value and not re.match(r"^https?://", value):
            raise Invalid(f"the Debian {name} {value!r} is no URL; it looks like {DEFAULT_MAIN}")
    found: dict[str, str] = {}
    for uri, suite in _apt_sources(apt):
        found.setdefault(suite, uri)
    return Mirrors(
        (main or found.get(SUITE, DEFAULT_MAIN)).rstrip("/"),
        (security or found.get(f"{SUITE}-security", DEFAULT_SECURITY)).rstrip("/"),
    )


def _apt_sources(folder: Path) -> Iterator[tuple[str, str]]:
    """Yield (URI, suite) of every http source with the component main."""
    files = [folder / "sources.list", *sorted((folder / "sources.list.d").glob("*"))]
    for path in files:
        try:
            text = path.read_text("utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # unreadable sources are apt's matter; the default mirror serves
        if path.suffix == ".sources":
            yield from _deb822(text)
        elif path.suffix == ".list":
            yield from _one_line(text)


def _deb822(text: str) -> Iterator[tuple[str, str]]:
    for stanza in re.split(r"\n\s*\n", text):
        lines = [line for line in stanza.splitlines() if not line.startswith("#")]
        fields = {
            key.strip().lower(): value.split() for key, colon, value in (line.partition(":") for line in lines) if colon
        }
        if "deb" not in fields.get("types", ()) or "main" not in fields.get("components", ()):
            continue
        if fields.get("enabled") == ["no"]:
            continue
        for uri in fields.get("uris", ()):
            if uri.startswith(("http://", "https://")):
                yield from ((uri, suite) for suite in fields.get("suites", ()))


def _one_line(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        match = re.match(r"^\s*deb\s+(?:\[[^\]]*\]\s+)?(https?://\S+)\s+(\S+)\s+(.*)$", line)
        if match and "main" in match[3].split("#")[0].split():
            yield match[1], match[2]
