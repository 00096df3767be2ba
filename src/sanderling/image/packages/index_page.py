"""Look into an index for what it has of one package, to say in an error which versions would do.

Nothing here decides what goes into an image. Source: the simple repository API (PEP 503, PEP 691).
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import httpx
from packaging.utils import InvalidSdistFilename, InvalidWheelFilename, parse_sdist_filename, parse_wheel_filename
from packaging.version import Version

from sanderling.image.interpreter import Interpreter
from sanderling.image.packages.tags import platform_tags, rank
from sanderling.oci import Platform

MAX_PAGE_BYTES = 64 << 20
_TIMEOUT_S = 15


@dataclass(frozen=True, slots=True)
class Offer:
    """What an index has of one package: versions by what there is of them, the oldest first.

    *fitting* has pre-releases only when nothing else fits. *pythons* are those that
    there are wheels for on the platform.
    """

    fitting: tuple[Version, ...]
    wheels: tuple[Version, ...]
    sources: tuple[Version, ...]
    pythons: tuple[str, ...]


def find_page(said: str, name: str) -> str | None:
    """The URL of the page of package *name* in the protocol that uv wrote (``--verbose``)."""
    match = re.search(rf"\b(?:https?|file)://[^\s`\"]+/{re.escape(name)}/?(?=[\s`\"]|$)", said, re.MULTILINE)
    return match[0] if match else None


def find_offer(
    url: str, logins: Mapping[str, tuple[str, str]], platform: Platform, python: Interpreter
) -> Offer | None:
    """What the page *url* lists, seen from *platform* and *python*; None when it cannot be had."""
    try:
        names = _file_names(url, logins)
    except (OSError, httpx.HTTPError, httpx.InvalidURL, ValueError, KeyError, TypeError, AttributeError):
        return None  # an index may answer with anything, and this is for a message only
    return sort_out(names, platform, python)


def sort_out(names: Iterable[str], platform: Platform, python: Interpreter) -> Offer:
    """Sort the files of one package by what they are good for."""
    fitting, wheels, sources, pythons = set(), set(), set(), set()
    platforms = {*platform_tags(platform, python.glibc), "any"}
    for name in names:
        try:
            _, version, _, tags = parse_wheel_filename(name)
        except InvalidWheelFilename:
            try:
                sources.add(parse_sdist_filename(name)[1])
            except InvalidSdistFilename:
                continue
            continue
        wheels.add(version)
        if rank(name, platform, python) is not None:
            fitting.add(version)
        for tag in tags:
            match = re.fullmatch(r"cp(\d)(\d+)", tag.interpreter)
            if match and tag.platform in platforms:
                pythons.add((int(match[1]), int(match[2])))
    found = [f"{major}.{minor}" for major, minor in sorted(pythons)]
    fitting = {version for version in fitting if not version.is_prerelease} or fitting
    return Offer(tuple(sorted(fitting)), tuple(sorted(wheels)), tuple(sorted(sources)), tuple(found))


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        if tag == "a" and values.get("href") and "data-yanked" not in values:
            self.names.append(unquote(urlsplit(values["href"] or "").path.rpartition("/")[2]))


def _file_names(url: str, logins: Mapping[str, tuple[str, str]]) -> list[str]:
    parts = urlsplit(url)
    if parts.scheme == "file":
        folder = Path(url2pathname(parts.path))
        text = (folder / "index.html").read_text("utf-8")
    else:
        host = parts.netloc.rpartition("@")[2]
        accept = "application/vnd.pypi.simple.v1+json, text/html;q=0.1"
        with httpx.stream(
            "GET",
            parts._replace(netloc=host).geturl(),
            auth=logins.get(host),
            headers={"Accept": accept},
            follow_redirects=True,
            timeout=_TIMEOUT_S,
        ) as response:
            response.raise_for_status()
            body = bytearray()
            for chunk in response.iter_bytes():
                body += chunk
                if len(body) > MAX_PAGE_BYTES:
                    raise ValueError("the page of the index has no end")
        if "json" in response.headers.get("content-type", ""):
            return _names_in_json(bytes(body))
        text = body.decode("utf-8", "replace")
    links = _Links()
    links.feed(text)
    return links.names


def _names_in_json(body: bytes) -> list[str]:
    files = json.loads(body).get("files", [])
    return [str(file["filename"]) for file in files if isinstance(file, dict) and not file.get("yanked")]
