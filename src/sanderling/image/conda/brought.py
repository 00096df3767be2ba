"""What conda put where pip's packages go, told to the resolver of those.

Packages of the pip section may need what conda has brought: the resolver must take
that very version, and it must not be brought again. So each is given to it as an
empty wheel of that version with the local part "+conda", and as a constraint; of
the choice they are then left out.

    CACHE/conda/brought/KEY/NAME-VERSION+conda-py3-none-any.whl
    CACHE/conda/brought/KEY/whole    written last: all wheels are there

Source: the core metadata and wheel specifications; PEP 440 on local versions.
"""

import hashlib
import io
import json
import re
import zipfile
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from sanderling.durable import write_durably
from sanderling.image.environment.environment import Environment
from sanderling.image.packages.resolve import Wheel

LOCAL = "conda"
_RECORD = re.compile(
    r"^(?P<name>[A-Za-z0-9._]+)-(?P<version>[^/-]+)(?:-py\d[\d.]*)?\.(?:dist-info/METADATA|egg-info(?:/PKG-INFO)?)$"
)


def find_brought(paths: Iterable[str], site: str) -> dict[str, Version]:
    """Name (canonical) and version of each distribution among *paths* that is installed in *site*."""
    found: dict[str, Version] = {}
    for path in paths:
        record = _RECORD.match(path.removeprefix(f"{site}/")) if path.startswith(f"{site}/") else None
        if record is None:
            continue
        try:
            found[canonicalize_name(record["name"])] = Version(record["version"])
        except InvalidVersion:
            continue
    return found


def tell_resolver(environment: Environment, brought: Mapping[str, Version], folder: Path) -> Environment:
    """*environment* for the resolver, which then knows that *brought* is there; empty wheels are kept in *folder*."""
    if not brought:
        return environment
    pins = {name: _marked(version) for name, version in sorted(brought.items())}
    place = folder / hashlib.sha256(json.dumps(pins).encode()).hexdigest()[:32]
    wheels = {name: _empty_wheel(name, version) for name, version in pins.items()}
    if not (place / "whole").exists():
        for file_name, content in wheels.values():
            write_durably(place / file_name, content)
        write_durably(place / "whole", b"")
    hashes = dict(environment.hashes)
    if environment.needs_hashes:
        hashes |= {name: (hashlib.sha256(content).hexdigest(),) for name, (_, content) in wheels.items()}
    return replace(
        environment,
        options=(*environment.options, f"--find-links {place.as_uri()}"),
        constraints=(*environment.constraints, *(f"{name}=={version}" for name, version in pins.items())),
        hashes=tuple(hashes.items()),
    )


def leave_out(wheels: Iterable[Wheel], brought: Mapping[str, Version]) -> list[Wheel]:
    """*wheels* without what conda has brought."""
    return [wheel for wheel in wheels if canonicalize_name(wheel.name) not in brought]


def _marked(version: Version) -> str:
    return str(version) if version.local else f"{version}+{LOCAL}"


def _empty_wheel(name: str, version: str) -> tuple[str, bytes]:
    """A wheel with nothing in it: its file name, and its bytes, which are always the same."""
    stem = f"{name.replace('-', '_')}-{version}"
    files = {
        "METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        "WHEEL": "Wheel-Version: 1.0\nGenerator: sanderling\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "RECORD": "",
    }
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for file, text in files.items():
            archive.writestr(zipfile.ZipInfo(f"{stem}.dist-info/{file}"), text)
    return f"{stem}-py3-none-any.whl", buffer.getvalue()
