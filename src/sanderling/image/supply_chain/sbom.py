"""The bill of materials of an image for one platform, as CycloneDX 1.6 in JSON.

- The same image gives the same bytes: the serial number is made of the image's digest, there is no time in it.
- Every package has a package URL, as scanners look it up by, and the sha256 of the file it came from.
- Written here, not by a library: it is a tenth of a second of imports that every build would pay.
  The tests check it against the official schema, and with that library.

Sources: CycloneDX 1.6; the package URL types deb, pypi, conda, oci.
"""

import uuid
from typing import Any
from urllib.parse import quote

from packaging.utils import canonicalize_name

from sanderling.image.recipe import APP_ROOT, Recipe
from sanderling.image.supply_chain.contents import (
    CondaPackage,
    Contents,
    FileGroup,
    control_field,
    debian_architecture,
    plain_url,
)
from sanderling.image.supply_chain.licences import is_expression
from sanderling.oci import Digest, canonical_json

MEDIA_TYPE = "application/vnd.cyclonedx+json"
# Debian's releases by name: a package URL names them by number.
DEBIAN_RELEASES = {"bullseye": "11", "bookworm": "12", "trixie": "13", "forky": "14"}
_SPACE = uuid.UUID("6f1f5b1e-6d1c-5c0b-9a52-0f6f1c2c8a41")  # only keeps our names apart from others'


def bill_of_materials(recipe: Recipe, contents: Contents, manifest: Digest, builder_version: str) -> dict[str, Any]:
    """The document for the image whose manifest is *manifest*, which holds *contents*."""
    parts = [*_system(contents), *_packages(contents), *(_group(group) for group in contents.files)]
    parts.sort(key=lambda part: str(part["bom-ref"]))
    image = _image(recipe, contents, manifest)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_SPACE, str(manifest))}",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "sanderling", "version": builder_version}]},
            "component": image,
            "properties": [{"name": "sanderling:platform", "value": str(contents.platform)}],
        },
        "components": parts,
        "dependencies": [{"ref": image["bom-ref"], "dependsOn": [part["bom-ref"] for part in parts]}],
    }


def to_bytes(document: dict[str, Any]) -> bytes:
    """The document as it is stored."""
    return canonical_json(document)


def deb_purl(name: str, version: str, architecture: str, suite: str) -> str:
    """The package URL of a Debian package."""
    release = DEBIAN_RELEASES.get(suite, suite)
    distro = f"&distro=debian-{release}" if release else ""
    return f"pkg:deb/debian/{_quoted(name)}@{_quoted(version)}?arch={_quoted(architecture)}{distro}"


def wheel_purl(name: str, version: str) -> str:
    """The package URL of a package of PyPI or of an index like it."""
    return f"pkg:pypi/{canonicalize_name(name)}@{_quoted(version)}"


def conda_purl(package: CondaPackage) -> str:
    """The package URL of a conda package."""
    channel = package.channel.rstrip("/").rpartition("/")[2]
    pairs = {"build": package.build, "channel": channel, "subdir": package.subdir}
    query = "&".join(f"{key}={_quoted(value)}" for key, value in pairs.items() if value)
    return f"pkg:conda/{_quoted(package.name)}@{_quoted(package.version)}?{query}"


def oci_purl(name: str, manifest: Digest, architecture: str) -> str:
    """The package URL of an image; not where it is: a copy elsewhere is the same image."""
    return f"pkg:oci/{_quoted(name.rpartition('/')[2].lower())}@{_quoted(str(manifest))}?arch={_quoted(architecture)}"


def _quoted(text: str) -> str:
    """As the package URL specification wants it: all but letters, digits and .-_~: is percent-encoded."""
    return quote(text, safe=".-_~:")


def _image(recipe: Recipe, contents: Contents, manifest: Digest) -> dict[str, Any]:
    name, _, version = recipe.image.rpartition(":")
    purl = oci_purl(name, manifest, contents.platform.architecture)
    found: dict[str, Any] = {
        "type": "container",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": _hashes(manifest.hex),
    }
    return found | ({"description": recipe.description} if recipe.description else {})


def _system(contents: Contents) -> list[dict[str, Any]]:
    """The operating system, which scanners need to know to judge its packages; or the image that this one is on."""
    if contents.base is not None:
        name, _, digest = contents.base.partition("@")
        part: dict[str, Any] = {"type": "container", "bom-ref": f"base:{contents.base}", "name": name}
        if digest.startswith("sha256:"):
            part |= {"version": digest, "hashes": _hashes(digest.removeprefix("sha256:"))}
        return [part]
    if not contents.debian:
        return []
    release = DEBIAN_RELEASES.get(contents.suite, contents.suite)
    return [
        {
            "type": "operating-system",
            "bom-ref": f"os:debian-{release}",
            "name": "debian",
            "version": release,
            "description": f"Debian {release} ({contents.suite})",
        }
    ]


def _packages(contents: Contents) -> list[dict[str, Any]]:
    parts: list[dict[str, Any]] = []
    for package in contents.debian:
        purl = deb_purl(package.name, package.version, debian_architecture(package), contents.suite)
        part = _library(contents, package.name, package.version, purl, package.sha256)
        source = control_field(package, "Source")
        if source:
            part["properties"] = [{"name": "sanderling:debian:source", "value": source}]
        parts.append(part)
    for conda in contents.conda:
        part = _library(contents, conda.name, conda.version, conda_purl(conda), conda.sha256)
        parts.append(part | _distribution(conda.url))
    for wheel in contents.wheels:
        purl = wheel_purl(wheel.name, wheel.version)
        part = _library(contents, wheel.name, wheel.version, purl, wheel.sha256)
        part["properties"] = [{"name": "sanderling:wheel", "value": wheel.file_name}]
        parts.append(part | _distribution(wheel.url))
    return parts


def _library(contents: Contents, name: str, version: str, purl: str, sha256: str | None) -> dict[str, Any]:
    part: dict[str, Any] = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if sha256:
        part["hashes"] = _hashes(sha256)
        licences = contents.licences.get(sha256, ())
        if len(licences) == 1 and is_expression(licences[0]):
            part["licenses"] = [{"expression": licences[0]}]
        elif licences:
            part["licenses"] = [{"license": {"name": name}} for name in licences]
    return part


def _distribution(url: str) -> dict[str, Any]:
    shown = plain_url(url)
    return {"externalReferences": [{"type": "distribution", "url": shown}]} if shown else {}


def _group(group: FileGroup) -> dict[str, Any]:
    """A model, the application or the scoring server, with its files inside."""
    kinds = {"model": "machine-learning-model"}
    ref = f"{group.kind}:{group.name}" + (f":{group.version}" if group.version else "")
    part: dict[str, Any] = {"type": kinds.get(group.kind, "application"), "bom-ref": ref, "name": group.name}
    if group.version:
        part["version"] = group.version
    part["components"] = [
        {
            "type": "file",
            "bom-ref": f"file:/{path}",
            "name": path.removeprefix(f"{APP_ROOT}/"),
            "hashes": _hashes(sha256),
        }
        for path, sha256 in sorted(group.files.items())
    ]
    return part


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]
