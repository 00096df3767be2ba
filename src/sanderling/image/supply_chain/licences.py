"""Which licence a package says it has. Nothing is guessed: what is not said is left out.

A wheel says it in its METADATA (``License-Expression``, else ``License``, else its
classifiers), a Debian package in its copyright file, whose machine-readable form names
licences in short. What was found is kept below the cache by the sha256 of the package's
file: to read it again, all of a Debian package would have to be unpacked.

Sources: core metadata 2.4 and PEP 639; Debian's copyright-format 1.0; SPDX 2.3 annex D.
"""

import json
import re
import zipfile
from email.parser import HeaderParser
from pathlib import Path

from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression

from sanderling.durable import write_durably
from sanderling.errors import Invalid
from sanderling.image.debian.deb import open_data
from sanderling.image.keep import read_json

MAX_METADATA_BYTES = 4 << 20
MAX_NAME = 200
MAX_LICENCES = 50
_CLASSIFIER = "License :: "

# Debian's short names, where SPDX calls the same licence otherwise.
_DEBIAN_TO_SPDX = {
    "expat": "MIT",
    "bsd-2-clause": "BSD-2-Clause",
    "bsd-3-clause": "BSD-3-Clause",
    "bsd-4-clause": "BSD-4-Clause",
    "gpl-1": "GPL-1.0-only",
    "gpl-1+": "GPL-1.0-or-later",
    "gpl-2": "GPL-2.0-only",
    "gpl-2+": "GPL-2.0-or-later",
    "gpl-3": "GPL-3.0-only",
    "gpl-3+": "GPL-3.0-or-later",
    "lgpl-2": "LGPL-2.0-only",
    "lgpl-2+": "LGPL-2.0-or-later",
    "lgpl-2.1": "LGPL-2.1-only",
    "lgpl-2.1+": "LGPL-2.1-or-later",
    "lgpl-3": "LGPL-3.0-only",
    "lgpl-3+": "LGPL-3.0-or-later",
    "gfdl-1.3": "GFDL-1.3-only",
    "gfdl-1.3+": "GFDL-1.3-or-later",
    "mpl-1.1": "MPL-1.1",
    "mpl-2.0": "MPL-2.0",
    "apache-2.0": "Apache-2.0",
    "isc": "ISC",
    "zlib": "Zlib",
    "cc0-1.0": "CC0-1.0",
}


def canonical(text: str) -> str:
    """Return *text* as an SPDX expression when it is one, else as it is, in one short line; empty for long texts."""
    text = " ".join(text.split())
    if not text or len(text) > MAX_NAME or text.upper() in ("UNKNOWN", "NONE", "N/A"):
        return ""
    try:
        return str(canonicalize_license_expression(text))
    except InvalidLicenseExpression:
        return text


def is_expression(licence: str) -> bool:
    """Say whether *licence* is an SPDX expression."""
    try:
        canonicalize_license_expression(licence)
    except InvalidLicenseExpression:
        return False
    return True


def of_wheel(path: Path) -> tuple[str, ...]:
    """Return what the wheel at *path* says, or nothing."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = [n for n in archive.namelist() if n.endswith(".dist-info/METADATA") and n.count("/") == 1]
            if not names or archive.getinfo(names[0]).file_size > MAX_METADATA_BYTES:
                return ()
            text = archive.read(names[0]).decode("utf-8", "replace")
    except (OSError, zipfile.BadZipFile, NotImplementedError):
        return ()
    return of_metadata(text)


def of_metadata(text: str) -> tuple[str, ...]:
    """Return what a wheel's METADATA says, or nothing."""
    headers = HeaderParser().parsestr(text)
    for name in ("License-Expression", "License"):
        value = str(headers.get(name) or "").strip()
        # Some put the whole text of the licence there.
        if "\n" not in value and (found := canonical(value)):
            return (found,)
    named = [str(value) for value in headers.get_all("Classifier") or [] if str(value).startswith(_CLASSIFIER)]
    return tuple(sorted({value.rpartition(" :: ")[2] for value in named} - {"OSI Approved"})[:MAX_LICENCES])


def of_copyright(text: str) -> tuple[str, ...]:
    """Return every licence that a machine-readable copyright file names for some file of the package."""
    if "copyright-format" not in text[:2000]:
        return ()
    named: set[str] = set()
    for match in re.finditer(r"(?mi)^License:[ \t]*(\S[^\n]*)$", text):
        for part in re.split(r"\s*(?:,|\band/or\b|\band\b|\bor\b)\s*", match[1].strip()):
            if part and len(part) <= MAX_NAME:
                named.add(_DEBIAN_TO_SPDX.get(part.lower(), part))
    return tuple(sorted(named)[:MAX_LICENCES])


class Licences:
    """What packages say, kept below *cache*."""

    def __init__(self, cache: Path) -> None:
        self._folder = cache / "licences"

    def of(self, kind: str, name: str, sha256: str, path: Path | None) -> tuple[str, ...]:
        """Return what the package *name* says, whose file is *path*: *kind* is deb or wheel.

        Nothing when it says nothing, cannot be read, or is not here any more and was never read.
        """
        kept = (read_json(self._folder / f"{sha256}.json") or {}).get("licences")
        if isinstance(kept, list):
            return tuple(str(one) for one in kept)
        if path is None:
            return ()
        try:
            found = of_wheel(path) if kind == "wheel" else of_copyright(_copyright(name, path))
        except Invalid:
            return ()  # a package that cannot be read fails the build where its files are taken
        write_durably(self._folder / f"{sha256}.json", json.dumps({"licences": found}).encode())
        return found


def _copyright(name: str, path: Path) -> str:
    """Return the copyright file in the package; nothing when another package has it for this one."""
    place = f"usr/share/doc/{name}/copyright"
    with open_data(path) as tar:
        for member in tar:
            if member.name.removeprefix("./") == place and member.isfile() and member.size <= MAX_METADATA_BYTES:
                file = tar.extractfile(member)
                return file.read().decode("utf-8", "replace") if file is not None else ""
    return ""
