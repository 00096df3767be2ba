"""Where Debian packages come from: a setting, else the host's own apt sources, else Debian's mirror network.

The host's sources are those of its own version of Debian; a mirror has all of them.
Sources of others that are made for a version of Debian (a vendor's, "bookworm main")
are told from a mirror by their address and suites. Who signed is not looked at
here: what comes from a mirror is checked, whichever it is.

Sources: sources.list(5); Debian's repository format.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from sanderling.errors import Invalid
from sanderling.image.events import without_credentials

DEFAULT_MAIN = "http://deb.debian.org/debian"
DEFAULT_SECURITY = "http://deb.debian.org/debian-security"
APT_FOLDER = Path("/etc/apt")

_NAMES = r"(?:buster|bullseye|bookworm|trixie|forky|sid|oldoldstable|oldstable|stable|testing|unstable)"
_MAIN_SUITE = re.compile(_NAMES)
_SECURITY_SUITE = re.compile(rf"{_NAMES}(?:-security|/updates)")
_UPDATES_SUITE = re.compile(rf"{_NAMES}-(?:updates|proposed-updates|backports)")


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
        if value and not re.match(r"^https?://[^/\s]+", value):
            shown = without_credentials(value)
            raise Invalid(f"the Debian {name} {shown!r} is no URL; it looks like {DEFAULT_MAIN}")
    sources = [(uri.rstrip("/"), suite) for uri, suite in _apt_sources(apt)]
    return Mirrors(
        (main or _best(sources, _MAIN_SUITE, "debian") or DEFAULT_MAIN).rstrip("/"),
        (security or _best(sources, _SECURITY_SUITE, "debian-security") or DEFAULT_SECURITY).rstrip("/"),
    )


def _best(sources: list[tuple[str, str]], suites: re.Pattern[str], folder: str) -> str | None:
    """The address of the source that is most surely a mirror of Debian's; of equal ones the first."""
    with_updates = {uri for uri, suite in sources if _UPDATES_SUITE.fullmatch(suite)}
    ranked = []
    for uri, suite in sources:
        if not suites.fullmatch(suite):
            continue
        host = urlsplit(uri).hostname or ""
        if host == "snapshot.debian.org":
            continue  # what it has of the suites that change has expired
        if host == "debian.org" or host.endswith(".debian.org"):
            ranked.append((0, uri))
        elif uri.rpartition("/")[2] == folder:
            ranked.append((1, uri))
        elif suites is _SECURITY_SUITE or uri in with_updates:
            ranked.append((2, uri))
    return min(ranked, key=lambda item: item[0], default=(0, None))[1]


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
        fields = _fields(stanza)
        if "deb" not in fields.get("types", ()) or "main" not in fields.get("components", ()):
            continue
        if [word.lower() for word in fields.get("enabled", ())] in (["no"], ["false"], ["0"], ["off"], ["without"]):
            continue
        for uri in fields.get("uris", ()):
            if uri.startswith(("http://", "https://")):
                yield from ((uri, suite) for suite in fields.get("suites", ()))


def _fields(stanza: str) -> dict[str, list[str]]:
    """The words of each field of a deb822 stanza, lines that go on included."""
    fields: dict[str, list[str]] = {}
    key = ""
    for line in stanza.splitlines():
        if line.startswith("#"):
            continue
        if line[:1] in (" ", "\t"):
            fields.setdefault(key, []).extend(line.split())
        elif ":" in line:
            name, _, value = line.partition(":")
            key = name.strip().lower()
            fields[key] = value.split()
    return fields


def _one_line(text: str) -> Iterator[tuple[str, str]]:
    for line in text.splitlines():
        match = re.match(r"^\s*deb\s+(?:\[[^\]]*\]\s*)?(https?://\S+)\s+(\S+)\s+(.*)$", line.partition("#")[0])
        if match and "main" in match[3].split():
            yield match[1], match[2]
