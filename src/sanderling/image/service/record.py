"""The record of a build: what went in, what came out, how long each step took, and what was to blame.

    {"requestedBy": "owner", "inputs": {"script": {"path": "score.py", "digest": "sha256:..."}, "files": [...],
     "environment": {...}, "requirements": {...}, "schema": {...}, "wheels": [...], "base": REFERENCE,
     "models": [{"name", "version", "files": {PATH: DIGEST}}], "sampleInput": {...}},
     "steps": [{"name": "base", "seconds": 1.2}], "sentBytes": 123, "culprit": {"file", "line", "package"},
     "errorLines": ["..."]}

Keys that do not apply are left out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from sanderling.image.events import Event
from sanderling.image.recipe import Recipe, SourceFile
from sanderling.image.user_files import hash_file

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
    for name, follower in zip(names, [*names[1:], None], strict=True):
        began, ended = spans[name]
        if follower is not None:
            ended = max(ended, spans[follower][0])
        found.append({"name": name, "seconds": round((ended - began).total_seconds(), 3)})
    return found


def last_lines(events: Sequence[Event]) -> list[str]:
    """The last lines of a log that are for reading: no progress."""
    return [event.text for event in events if event.bytes is None][-KEPT_LINES:]


def of_failure(events: Sequence[Event], culprit: Mapping[str, Any] | None) -> dict[str, Any]:
    """What the record of a failed build has of its end."""
    return {"errorLines": last_lines(events), "steps": steps_of(events), "culprit": dict(culprit or {})}
