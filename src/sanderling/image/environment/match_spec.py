"""Read conda's match specifications: ``numpy=1.26``, ``conda-forge::gdal >=3,<4 py311*``, ``x[version='>=1']``.

Source: conda's package specification ("MatchSpec", CEP 29).
"""

import re
from dataclasses import dataclass

from packaging.specifiers import InvalidSpecifier, SpecifierSet

_URL = re.compile(r"^(?:[a-z]+://|\.{0,2}/)\S*/(?P<name>[^/\s]+?)-[^-/\s]+-[^-/\s]+\.(?:conda|tar\.bz2)(?:#\S*)?$")
_NAME = re.compile(r"^[A-Za-z0-9_][A-Za-z0-9_.-]*")
_PAIR = re.compile(r"""\s*(?P<key>\w+)\s*=\s*(?:"(?P<d>[^"]*)"|'(?P<s>[^']*)'|(?P<p>[^\s,'"\]]+))\s*(?:,|\s|$)""")
_EXACT = re.compile(r"^(?P<version>={0,2}\s*[^=,|<>!~()\s]+)(?:(?:\s*=\s*|\s+)(?P<build>[^=,|<>!~()\s]+))?$")
_RANGE = re.compile(r"^(?P<version>.*[^\s,|<>=!~(])(?:\s+(?P<build>[A-Za-z0-9_*+.]+))$")
_ATOM = re.compile(r"^(?:(?P<sign>==|!=|<=|>=|~=|=|<|>)?(?P<version>\d[A-Za-z0-9_.!+-]*)(?P<star>\*)?|\*|\^.*\$)$")
_KEYS = frozenset(
    {
        *("name", "version", "build", "build_number", "channel", "subdir", "namespace", "fn", "url", "size"),
        *("md5", "sha256", "license", "license_family", "features", "track_features"),
    }
)


class MatchSpecInvalid(ValueError):
    """The text is no match specification; the message says why, and what else to write."""


@dataclass(frozen=True, slots=True)
class MatchSpec:
    """One specification. *version* is conda's constraint without spaces ("" for any).

    *others* are the keys of its brackets that only conda can follow.
    """

    text: str
    name: str
    version: str = ""
    build: str | None = None
    channel: str | None = None
    others: tuple[str, ...] = ()

    def specifiers(self) -> tuple[SpecifierSet, ...] | None:
        """The constraint in PyPI's words, as alternatives; None when it cannot be said in them."""
        if any(sign in self.version for sign in "()^"):
            return None
        try:
            return tuple(_specifier_set(alternative) for alternative in self.version.split("|"))
        except InvalidSpecifier:
            return None


def parse_match_spec(text: str) -> MatchSpec:
    """Read *text*. Raises MatchSpecInvalid."""
    whole = text.strip()
    if match := _URL.match(whole):
        return MatchSpec(whole, match["name"].lower(), others=("url",))
    rest, keys = _brackets(whole)
    channel = keys.pop("channel", None)
    if "::" in rest:
        channel, _, rest = rest.rpartition("::")
        channel = channel.rstrip(":")
    match = _NAME.match(rest)
    if match is None:
        raise MatchSpecInvalid(f"'{whole}' does not begin with the name of a package")
    version, build = _version_and_build(whole, rest[match.end() :].strip())
    version, build = keys.pop("version", version), keys.pop("build", build)
    keys.pop("name", None)
    version = re.sub(r"\s+", "", version)
    for atom in re.split(r"[,|]", re.sub(r"[()]", "", version)):
        if not _ATOM.match(atom) and version:
            raise MatchSpecInvalid(f"'{whole}': '{atom or version}' is no version constraint of conda")
    if channel and "/" in channel and "://" not in channel and channel.rpartition("/")[2].count("-") == 1:
        channel, _, _ = channel.rpartition("/")
        keys["subdir"] = ""
    return MatchSpec(whole, match[0].lower(), version, build or None, channel or None, tuple(sorted(keys)))


def _brackets(text: str) -> tuple[str, dict[str, str]]:
    """What is before the brackets, and what they hold."""
    head, opened, inside = text.partition("[")
    if not opened:
        return text, {}
    if not text.endswith("]"):
        raise MatchSpecInvalid(f"'{text}': '[' is never closed")
    found: dict[str, str] = {}
    at, inside = 0, inside[:-1].replace("][", ",")
    while at < len(inside):
        match = _PAIR.match(inside, at)
        if match is None or match["key"] not in _KEYS:
            name = head.strip()
            hint = f"extras are PyPI's: write {name}[{inside}] in the 'pip:' section" if "=" not in inside else ""
            raise MatchSpecInvalid(f"'{text}': '[{inside}]' is not understood; {hint or 'write name[version=...]'}")
        found[match["key"]] = next(value for value in (match["d"], match["s"], match["p"]) if value is not None)
        at = match.end()
    return head.strip(), found


def _version_and_build(whole: str, text: str) -> tuple[str, str | None]:
    if text.startswith(("@", ";")):
        raise MatchSpecInvalid(f"'{whole}' is a requirement of pip; write it in the 'pip:' section")
    for form in (_EXACT, _RANGE):
        if match := form.match(text):
            return match["version"], match["build"]
    return text, None


def _specifier_set(text: str) -> SpecifierSet:
    return SpecifierSet(",".join(filter(None, (_specifier(atom) for atom in text.split(",")))))


def _specifier(atom: str) -> str:
    """One constraint: conda's =1.2, 1.2* and 1.2.* are PyPI's ==1.2.*."""
    match = _ATOM.match(atom)
    if match is None or match["version"] is None:
        return ""
    sign, version = match["sign"] or "", match["version"].rstrip(".")
    is_prefix = bool(match["star"])
    if sign in ("", "==", "="):
        return f"=={version}.*" if is_prefix or sign == "=" else f"=={version}"
    return f"{sign}{version}.*" if is_prefix and sign == "!=" else f"{sign}{version}"
