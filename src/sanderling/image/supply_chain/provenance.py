"""Who built an image, and from what: an in-toto statement with the SLSA provenance 1 predicate.

- Its subjects are the image and each of its platforms' manifests.
- The recipe is told by digests: no path of this machine, no file's content, no secret.
- It has times, and so each build has its own. It is about the image and not in it: the image has no time.

`docs/image-supply-chain.md` says what the build type means. Source: slsa.dev/spec/v1.0/provenance.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from sanderling.image.recipe import APP_ROOT, Recipe
from sanderling.image.supply_chain.contents import Contents, debian_architecture, plain_url
from sanderling.image.supply_chain.sbom import conda_purl, deb_purl, wheel_purl
from sanderling.image.user_files import hash_file
from sanderling.oci import Digest

BUILD_TYPE = "urn:sanderling:build-type:image:1"
BUILDER = "urn:sanderling:image-builder"


def provenance(
    recipe: Recipe,
    contents: Sequence[Contents],
    builder_version: str,
    started_at: datetime,
    finished_at: datetime,
    byproducts: Mapping[str, Digest] | None = None,
) -> dict[str, Any]:
    """The predicate: *recipe* became an image that holds *contents*. *byproducts* are documents by name."""
    predicate: dict[str, Any] = {
        "buildDefinition": {
            "buildType": BUILD_TYPE,
            "externalParameters": {"recipe": recipe_shown(recipe, contents)},
            "internalParameters": {},
            "resolvedDependencies": _dependencies(contents),
        },
        "runDetails": {
            "builder": {"id": BUILDER, "version": {"sanderling": builder_version}},
            "metadata": {
                "invocationId": recipe.image,
                "startedOn": _time(started_at),
                "finishedOn": _time(finished_at),
            },
        },
    }
    if byproducts:
        predicate["runDetails"]["byproducts"] = [
            {"name": name, "digest": {digest.algorithm: digest.hex}} for name, digest in sorted(byproducts.items())
        ]
    return predicate


def recipe_shown(recipe: Recipe, contents: Sequence[Contents] = ()) -> dict[str, Any]:
    """The recipe as JSON with each file told by its digest, wherever in it a file is.

    What *contents* know is not read again: models are large.
    """
    known = {path: sha256 for one in contents for group in one.files for path, sha256 in group.files.items()}
    shown = {key: _shown(value) for key, value in recipe.to_json().items() if key != "models"}
    models = [
        {
            "name": model.name,
            "version": model.version,
            "files": [
                {"path": path, **_digest(source, known.get(f"{APP_ROOT}/{model.folder}/{path}"))}
                for path, source in sorted(model.files.items())
            ],
        }
        for model in recipe.models
    ]
    return shown | {"models": models}


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        if "source" in value:
            file = {key: inner for key, inner in value.items() if key != "source"}
            path = str(file.get("path", ""))
            # What messages call a file may be where it is on this machine.
            file["path"] = PurePosixPath(path).name if path.startswith(("/", "~", "..")) else path
            return file | _digest(Path(str(value["source"])))
        return {key: _shown(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_shown(inner) for inner in value]
    return value


def _digest(path: Path, known: str | None = None) -> dict[str, Any]:
    return {"digest": {"sha256": known or hash_file(path)}}


def _dependencies(contents: Iterable[Contents]) -> list[dict[str, Any]]:
    """Every input by its package URL or name, each once, sorted."""
    found: dict[tuple[str, str], dict[str, Any]] = {}

    def note(uri: str, sha256: str | None, url: str = "") -> None:
        if sha256:
            entry: dict[str, Any] = {"uri": uri, "digest": {"sha256": sha256}}
            shown = plain_url(url)
            found[uri, sha256] = entry | ({"downloadLocation": shown} if shown else {})

    for one in contents:
        if one.base is not None:
            name, _, digest = one.base.partition("@sha256:")
            note(f"oci://{name}", digest)
        for package in one.debian:
            architecture = debian_architecture(package)
            note(deb_purl(package.name, package.version, architecture, one.suite), package.sha256)
        for conda in one.conda:
            note(conda_purl(conda), conda.sha256, conda.url)
        for wheel in one.wheels:
            note(wheel_purl(wheel.name, wheel.version), wheel.sha256, wheel.url)
        for group in one.files:
            for path, sha256 in group.files.items():
                note(f"file:///{path}", sha256)
    return [found[key] for key in sorted(found)]


def _time(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
