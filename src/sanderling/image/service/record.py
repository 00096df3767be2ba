"""The record of a build: what went in, what came out, how long each step took, and what was to blame.

    {"requestedBy": "owner", "inputs": {"script": {"path": "score.py", "digest": "sha256:..."}, "files": [...],
     "environment": {...}, "requirements": {...}, "schema": {...}, "wheels": [...], "base": REFERENCE,
     "models": [{"name", "version", "files": {PATH: DIGEST}}], "sampleInput": {...}},
     "steps": [{"name": "base", "seconds": 1.2}], "sentBytes": 123,
     "builder": VERSION, "manifests": [{"platform", "digest", "sizeBytes"}],
     "bases": [{"kind": "debian", "platform", "release", "architecture", "madeAt", "packages": COUNT}
               or {"kind": "oci", "platform", "name", "digest", "manifest", "python", "layers": COUNT}],
     "documents": [{"kind": "lock" or "sbom", "platform", "digest", "contentDigest", "sizeBytes"}], "keyId": KEY,
     "culprit": {"file", "line", "package"}, "errorLines": ["..."]}

Keys that do not apply are left out. The packages themselves are in the lock: *digest* is that of its manifest beside
the image, *contentDigest* that of the file. Provenance and signatures are not here: they may be those of an earlier
build of the same image.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sanderling.image.assembly import Assembled
from sanderling.image.events import Event
from sanderling.image.recipe import Recipe, SourceFile
from sanderling.image.user_files import hash_file
from sanderling.image.version import product_version

if TYPE_CHECKING:
    from sanderling.image.supply_chain.attachments import Attachment

KEY = "io.sanderling.key"  # of the attachments, whose module is slow to import
OUTCOME = ("inputs", "sentBytes", "builder", "manifests", "bases", "documents", "keyId")
KEPT_LINES = 30
_HEX = re.compile(r"[0-9a-f]{64}")
_NO_STEPS = frozenset(("queue", "done", "failed", "cancelled", "worker"))


def digest_of(source: Path) -> str:
    """The digest of the file *source*; its name, where it is in a store that names files so. Raises Invalid."""
    return f"sha256:{source.name if _HEX.fullmatch(source.name) else hash_file(source)}"


def inputs_of(recipe: Recipe) -> dict[str, Any]:
    """What an image is made from, by digest; no path of this machine."""

    def named(file: SourceFile) -> dict[str, str]:
        return {"path": file.path, "digest": digest_of(file.source)}

    found: dict[str, Any] = {"script": named(recipe.script), "files": [named(file) for file in recipe.files]}
    for key, file in (
        ("environment", recipe.environment),
        ("requirements", recipe.requirements),
        ("schema", recipe.schema),
        ("sampleInput", recipe.sample_input),
    ):
        if file is not None:
            found[key] = named(file)
    if recipe.wheels:
        found["wheels"] = [named(file) for file in recipe.wheels]
    if recipe.base is not None:
        found["base"] = recipe.base
    found["models"] = [
        {"name": m.name, "version": m.version, "files": {path: digest_of(source) for path, source in m.files.items()}}
        for m in recipe.models
    ]
    return found


def outcome_record(image: Assembled, told: Sequence["Attachment"]) -> dict[str, Any]:
    """What came of a build, but for sizes and layers, which a build's own row has."""
    platforms = {manifest.digest: platform for platform, manifest in image.with_platforms()}
    documents = [
        {
            "kind": one.what,
            "platform": platforms[one.manifest.subject.digest],
            "digest": str(one.manifest.digest),
            "contentDigest": str(one.manifest.layers[0].digest),
            "sizeBytes": one.manifest.layers[0].size,
        }
        for one in told
        if one.what in ("lock", "sbom") and one.manifest.subject is not None
    ]
    found: dict[str, Any] = {
        "builder": product_version(),
        "manifests": [
            {"platform": platform, "digest": str(manifest.digest), "sizeBytes": manifest.total_size_bytes}
            for platform, manifest in image.with_platforms()
        ],
        "bases": [_base(base) for base in image.bases],
        "documents": documents,
    }
    keys = {one.manifest.annotations[KEY] for one in told if KEY in one.manifest.annotations}
    return found | ({"keyId": keys.pop()} if keys else {})


def _base(base: Mapping[str, Any]) -> dict[str, Any]:
    """A base in short."""
    return {key: len(value) if key in ("packages", "layers") else value for key, value in base.items()}


def steps_of(events: Iterable[Event]) -> list[dict[str, Any]]:
    """How long each step took: from its first line to its last, or to the next step's first, what is later."""
    spans: dict[str, list[datetime]] = {}
    for event in events:
        if event.step in _NO_STEPS or not event.at:
            continue
        at = datetime.fromisoformat(event.at)
        spans.setdefault(event.step, [at, at])[1] = at
    names = list(spans)
    found = []
    for number, name in enumerate(names, 1):
        began, ended = spans[name]
        if number < len(names):
            ended = max(ended, spans[names[number]][0])
        found.append({"name": name, "seconds": round((ended - began).total_seconds(), 3)})
    return found


def last_lines(events: Sequence[Event]) -> list[str]:
    """The last lines of a log that are for reading: no progress."""
    return [event.text for event in events if event.bytes is None][-KEPT_LINES:]


def of_failure(events: Sequence[Event], culprit: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the record of a failed build has of its end."""
    return {"errorLines": last_lines(events), "steps": steps_of(events), "culprit": dict(culprit or {})}
