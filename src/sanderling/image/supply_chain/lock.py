"""The lock of an image: every package with version, sha256 and place, per platform; what a rebuild needs.

    {"schemaVersion": 1, "kind": "sanderling-image-lock", "builder": {"name": "sanderling", "version": V},
     "platforms": {"linux/amd64": {
        "python": {"version": "3.11", "prefix": "usr", "site": ..., "glibc": [2, 36]},
        "base": {"kind": "debian", "suite": "bookworm", "packages": [{name, version, architecture, sha256,
                  sizeBytes, archive, path, depends, control}]} or {"kind": "oci", "image": "HOST/NAME@sha256:..."},
        "conda": [{name, version, build, subdir, channel, url, sha256, sizeBytes}],
        "wheels": [{name, version, file, url, sha256, sizeBytes}]}}}

- Nothing is a time, a place of this machine or a credential: the same choice gives the same bytes.
- `path` of a Debian package is below the root of whatever mirror is used.
- `url` is empty for a wheel that was a local file; it is found again by `file` and `sha256`.
- `control` is what the image's record of the package says, so that a rebuild gives the same bytes.

The wheels are also written as ``pylock.toml`` (PEP 751), which pip and uv install from.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sanderling.errors import Invalid
from sanderling.image.debian.packages import Package
from sanderling.image.interpreter import Interpreter
from sanderling.image.packages.resolve import PLATFORMS, Wheel
from sanderling.image.supply_chain.contents import CondaPackage, Contents, debian_architecture, plain_url
from sanderling.oci import Digest, Platform, canonical_json, parse_document

SCHEMA_VERSION = 1
KIND = "sanderling-image-lock"
MAX_BYTES = 64 << 20


class LockInvalid(Invalid):
    """The lock cannot be used."""


@dataclass(frozen=True, slots=True)
class Lock:
    """What was chosen, by platform (as text). `Contents` without files and licences."""

    platforms: Mapping[str, Contents]

    @classmethod
    def of(cls, contents: Iterable[Contents]) -> "Lock":
        """The lock of what a build used."""
        return cls({str(one.platform): one for one in contents})

    def to_bytes(self, builder_version: str) -> bytes:
        """The document at the top of this module, in canonical JSON."""
        document = {
            "schemaVersion": SCHEMA_VERSION,
            "kind": KIND,
            "builder": {"name": "sanderling", "version": builder_version},
            "platforms": {name: _platform(contents) for name, contents in self.platforms.items()},
        }
        return canonical_json(document)

    @classmethod
    def parse(cls, raw: bytes) -> "Lock":
        """Read the document at the top of this module. Raises LockInvalid, which says what is wrong with it."""
        try:
            document = parse_document(raw, "lock", MAX_BYTES)
        except Invalid as e:
            raise LockInvalid(f"{e.message}; it is what 'sanderling image lock' writes") from e
        if document.get("kind") != KIND:
            raise LockInvalid("this is no lock of an image; get one with 'sanderling image lock'")
        version = document.get("schemaVersion")
        if version != SCHEMA_VERSION:
            raise LockInvalid(
                f"the lock is of version {version!r}, and version {SCHEMA_VERSION} is known here; "
                "use the sanderling that wrote it, or a later one"
            )
        try:
            return cls({name: _contents(name, data) for name, data in document["platforms"].items()})
        except Invalid as e:
            raise LockInvalid(f"the lock cannot be read: {e.message}") from e
        except (KeyError, TypeError, ValueError, AttributeError) as e:
            raise LockInvalid(f"the lock cannot be read: {type(e).__name__}: {e}") from e

    def merged(self, other: "Lock") -> "Lock":
        """Both in one; of a platform that both have, the other's."""
        return Lock({**self.platforms, **other.platforms})


def _platform(contents: Contents) -> dict[str, Any]:
    python = contents.python
    return {
        "python": {
            "version": python.version,
            "prefix": python.prefix,
            "site": python.site,
            "glibc": list(python.glibc),
        },
        "base": _base(contents),
        "conda": [
            {
                "name": one.name,
                "version": one.version,
                "build": one.build,
                "subdir": one.subdir,
                "channel": plain_url(one.channel) if "//" in one.channel else one.channel,
                "url": plain_url(one.url),
                "sha256": one.sha256,
                "sizeBytes": one.size_bytes,
            }
            for one in contents.conda
        ],
        "wheels": [
            {
                "name": wheel.name,
                "version": wheel.version,
                "file": wheel.file_name,
                "url": plain_url(wheel.url),
                "sha256": wheel.sha256,
                "sizeBytes": wheel.size_bytes,
            }
            for wheel in contents.wheels
        ],
    }


def _base(contents: Contents) -> dict[str, Any]:
    if contents.base is not None:
        return {"kind": "oci", "image": contents.base}
    packages = [
        {
            "name": package.name,
            "version": package.version,
            "architecture": debian_architecture(package),
            "sha256": package.sha256,
            "sizeBytes": package.size_bytes,
            "archive": package.archive,
            "path": package.filename,
            "depends": package.depends,
            "control": package.control,
        }
        for package in contents.debian
    ]
    return {"kind": "debian", "suite": contents.suite, "packages": packages}


def _contents(name: str, data: Mapping[str, Any]) -> Contents:
    python, base = data["python"], data["base"]
    glibc = python["glibc"]
    return Contents(
        platform=Platform.parse(name),
        python=Interpreter(
            str(python["version"]), str(python["prefix"]), str(python["site"]), (int(glibc[0]), int(glibc[1]))
        ),
        debian=tuple(_package(one) for one in base.get("packages") or ()),
        suite=str(base.get("suite") or ""),
        base=str(base["image"]) if base["kind"] == "oci" else None,
        conda=tuple(
            CondaPackage(
                name=str(one["name"]),
                version=str(one["version"]),
                build=str(one["build"]),
                subdir=str(one["subdir"]),
                channel=str(one["channel"]),
                url=str(one["url"]),
                sha256=_hex(one["sha256"]),
                size_bytes=_size(one.get("sizeBytes")),
            )
            for one in data.get("conda") or ()
        ),
        wheels=tuple(_wheel(one) for one in data.get("wheels") or ()),
    )


def _package(one: Mapping[str, Any]) -> Package:
    return Package(
        name=str(one["name"]),
        version=str(one["version"]),
        filename=str(one["path"]),
        sha256=_hex(one["sha256"]),
        size_bytes=int(one["sizeBytes"]),
        depends=str(one["depends"]),
        control=str(one["control"]),
        archive=str(one["archive"]),
    )


def _wheel(one: Mapping[str, Any]) -> Wheel:
    file = str(one["file"])
    if "/" in file or not file.endswith(".whl"):
        raise ValueError(f"{file!r} is no name of a wheel")
    url = str(one["url"])
    if url and not url.startswith(("https://", "http://")):
        raise ValueError(f"{url!r} is no address of a wheel")
    return Wheel(str(one["name"]), str(one["version"]), url or file, _hex(one["sha256"]), _size(one.get("sizeBytes")))


def _hex(value: object) -> str:
    return Digest.parse(f"sha256:{value}").hex


def _size(value: object) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"{value!r} is no size")
    return value


def pylock(contents: Contents, builder_version: str) -> bytes:
    """The wheels as ``pylock.toml`` (PEP 751): ``pip install -r`` and ``uv pip sync`` take it on this platform."""
    version = contents.python.version
    machine = PLATFORMS.get(str(contents.platform), contents.platform.architecture)
    marker = f"sys_platform == 'linux' and platform_machine == '{machine}' and python_version == '{version}'"
    lines = [
        'lock-version = "1.0"',
        'created-by = "sanderling"',
        f"requires-python = {_toml(f'=={version}.*')}",
        f"environments = [{_toml(marker)}]",
    ]
    for wheel in contents.wheels:
        url = plain_url(wheel.url)
        place = f"url = {_toml(url)}" if url else f"path = {_toml('./' + wheel.file_name)}"
        size = f"size = {wheel.size_bytes}, " if wheel.size_bytes is not None else ""
        hashes = f"hashes = {{ sha256 = {_toml(wheel.sha256 or '')} }}"
        file = f"{{ name = {_toml(wheel.file_name)}, {place}, {size}{hashes} }}"
        lines += [
            "",
            "[[packages]]",
            f"name = {_toml(wheel.name)}",
            f"version = {_toml(wheel.version)}",
            f"wheels = [{file}]",
        ]
    lines += ["", "[tool.sanderling]", f"version = {_toml(builder_version)}"]
    lines += [f"platform = {_toml(str(contents.platform))}"]
    return ("\n".join(lines) + "\n").encode()


def _toml(text: str) -> str:
    """A TOML basic string: JSON's escapes are among TOML's, but for the one of DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
