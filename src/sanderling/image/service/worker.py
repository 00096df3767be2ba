"""One build as a process: ``python -m sanderling.image SPEC.json``; events are JSON lines on standard output.

    {"recipe": {...}, "cache": DIR, "output": {"layout": DIR} or {"push": {...}},
     "debianMirror": URL or null, "debianSecurityMirror": URL or null, "supervised": false,
     "memoryBytes": N or null, "gate": {"timeS": N, "memoryBytes": N or null, "isRequired": false}}

The last line is ``{"result": {...}}`` or ``{"error": {"kind", "message", "culprit"}}``,
the culprit being ``{"file", "line", "package"}`` as far as they are known. Exit code
0: done; 1: it failed; 2: the input cannot be built.

Secrets of a push come as one line of JSON on standard input, never as arguments;
with ``signingKey`` (PEM) among them the image is signed with it.
When *supervised*, standard input stays open as long as the server lives: its end
ends this process.
"""

import errno
import json
import os
import resource
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sanderling.blobs import FileBlobs
from sanderling.durable import write_durably
from sanderling.errors import Conflict, Denied, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.image.assembly import Assembled
from sanderling.image.bases.reference import places_of_bases
from sanderling.image.build import BuildSettings, build
from sanderling.image.events import Event, Log
from sanderling.image.gate.gate import MARK, GateSettings
from sanderling.image.gate.limits import Limits
from sanderling.image.keep import read_json
from sanderling.image.layers.sizes import layers_record
from sanderling.image.layout import DamagedLayer, write_layout
from sanderling.image.push_target import PushTarget
from sanderling.image.recipe import Recipe
from sanderling.image.service.record import inputs_of, outcome_record
from sanderling.oci import Digest
from sanderling.sandbox.processes import kill_marked

if TYPE_CHECKING:
    from sanderling.image.supply_chain.attachments import Attachment

KINDS: tuple[tuple[type[SanderlingError], str], ...] = (
    (NotFound, "not_found"),
    (Conflict, "conflict"),
    (Invalid, "invalid"),
    (Denied, "denied"),
    (Unavailable, "unavailable"),
)
MAX_REMEMBERED_BLOBS = 2000


def run(arguments: list[str]) -> int:
    """Build what the file named in *arguments* describes; return the exit code."""
    if len(arguments) != 1:
        print("usage: python -m sanderling.image SPEC.json", file=sys.stderr)
        return 2
    spec = read_json(Path(arguments[0]))
    if spec is None:
        print(f"{arguments[0]} is no JSON object that can be read", file=sys.stderr)
        return 2
    started = time.monotonic()
    log = Log(_print_event)
    try:
        secrets = _read_secrets(spec)
        _bound_memory(spec.get("memoryBytes"))
        outcome = build_and_publish(spec, secrets, log)
    except SanderlingError as e:
        kind = next((word for kind, word in KINDS if isinstance(e, kind)), "invalid")
        _print({"error": {"kind": kind, "message": e.message, "culprit": culprit_of(e)}})
        return 2 if isinstance(e, Invalid | NotFound) else 1
    except (MemoryError, ImportError, OSError) as e:
        text = _exhausted(e)
        if text is None:
            raise
        _print({"error": {"kind": "unavailable", "message": text, "culprit": {}}})
        return 1
    inputs = inputs_of(Recipe.from_json(spec["recipe"]))
    _print({"result": _result(outcome, time.monotonic() - started) | {"inputs": inputs}})
    return 0


def _exhausted(error: Exception) -> str | None:
    """What this machine has no more of; None when *error* is something else."""
    number = error.errno if isinstance(error, OSError) else None
    if number in (errno.ENOSPC, errno.EDQUOT):
        return "the disk of the build cache is full; make room and build again"
    # A library that finds no room fails as one that is broken does.
    if isinstance(error, MemoryError) or number == errno.ENOMEM or "failed to map segment" in str(error):
        return "the build needs more memory than a build may take on this server"
    return None


@dataclass(frozen=True, slots=True)
class Outcome:
    """The image, the bytes that were sent, and what was told about it beside it."""

    image: Assembled
    sent_bytes: int = 0
    told: Sequence["Attachment"] = ()


def culprit_of(error: SanderlingError) -> dict[str, Any]:
    """The file, line and package that *error* names, as far as it does."""
    found = {name: getattr(error, name, None) for name in ("file", "line", "package")}
    return {name: value for name, value in found.items() if isinstance(value, str | int) and value != ""}


def _bound_memory(memory_bytes: object) -> None:
    """Bound the addresses of this process and of all that it starts."""
    if isinstance(memory_bytes, int) and memory_bytes > 0:
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        bound = memory_bytes if hard == resource.RLIM_INFINITY else min(memory_bytes, hard)
        resource.setrlimit(resource.RLIMIT_AS, (bound, bound))


def build_and_publish(spec: dict[str, Any], secrets: dict[str, str], log: Log) -> Outcome:
    """Build the image of *spec* and write or push it.

    A layer of the cache that turns out to be damaged is made anew, once.
    """
    recipe = Recipe.from_json(spec.get("recipe") or {})
    if not isinstance(spec.get("cache"), str):
        raise Invalid("the build's description names no cache folder")
    target = _push_target(spec, secrets)
    settings = BuildSettings(
        Path(spec["cache"]),
        spec.get("debianMirror"),
        spec.get("debianSecurityMirror"),
        registries=() if target is None else (target,),
        gate=_gate(spec.get("gate") or {}),
    )
    started_at = datetime.now(UTC)
    try:
        image, blobs = build(recipe, settings, log)
        return _publish(image, blobs, recipe, spec, secrets, started_at, log)
    except DamagedLayer as e:
        log.warn("layers", f"the cached layer {e.digest} is damaged and is made anew")
        FileBlobs(settings.cache / "layers").delete(e.digest)
    image, blobs = build(recipe, settings, log)
    return _publish(image, blobs, recipe, spec, secrets, started_at, log)


def _gate(data: Mapping[str, Any]) -> GateSettings:
    try:
        limits = Limits(float(data.get("timeS") or Limits().time_s), data.get("memoryBytes"))
        return GateSettings(limits, data.get("isRequired") is True)
    except (TypeError, ValueError) as e:
        raise Invalid(f"the gate's settings cannot be read: {e}") from e


def _publish(
    image: Assembled,
    blobs: FileBlobs,
    recipe: Recipe,
    spec: dict[str, Any],
    secrets: dict[str, str],
    started_at: datetime,
    log: Log,
) -> Outcome:
    output = spec.get("output") or {}
    if "layout" in output:
        write_layout(image, blobs, Path(output["layout"]), spec["recipe"]["image"])
        log.say("write", f"OCI layout {output['layout']}")
        return Outcome(image)
    if "push" not in output:
        raise Invalid("the build's description names no output: a layout or a push target")
    # The HTTP client is a quarter second of imports that other outputs do not need.
    from sanderling.image.push import push
    from sanderling.image.supply_chain.attachments import told_about
    from sanderling.signatures.keys import SigningKey

    target = PushTarget.from_json(output["push"], secrets)
    key = SigningKey.from_pem(secrets["signingKey"].encode()) if secrets.get("signingKey") else None
    memory = Path(spec["cache"]) / "pushed" / f"{target.registry.replace(':', '_')}.json"
    known = {Digest(digest): str(place) for digest, place in (read_json(memory) or {}).items()}
    known = known | places_of_bases(image.bases, target)
    told = told_about(image, recipe, f"{target.shown}/{target.repository}", key, started_at, log)
    elsewhere = {d: place for d, place in known.items() if place != target.repository}
    sent = push(image, blobs, target, log, elsewhere, attachments=told)
    for manifest in image.manifests:
        known |= {layer.digest: target.repository for layer in manifest.layers}
    kept = dict(list(known.items())[-MAX_REMEMBERED_BLOBS:])
    write_durably(memory, json.dumps(kept).encode())
    return Outcome(image, sent, told)


def _push_target(spec: dict[str, Any], secrets: dict[str, str]) -> PushTarget | None:
    push = (spec.get("output") or {}).get("push")
    return PushTarget.from_json(push, secrets) if push else None


def _result(outcome: Outcome, seconds: float) -> dict[str, Any]:
    image = outcome.image
    return {
        "digest": str(image.descriptor.digest),
        "sizeBytes": image.size_bytes,
        "sentBytes": outcome.sent_bytes,
        "seconds": round(seconds, 3),
        "layers": layers_record(image.with_platforms()),
        **outcome_record(image, outcome.told),
    }


def _read_secrets(spec: dict[str, Any]) -> dict[str, str]:
    """Secrets from standard input, where a push needs them; then watch over its end when supervised."""
    secrets: dict[str, str] = {}
    if "push" in (spec.get("output") or {}):
        line = sys.stdin.readline(1 << 16)
        try:
            data = json.loads(line) if line.strip() else {}
            secrets = {str(key): str(value) for key, value in data.items()}
        except (ValueError, AttributeError) as e:
            raise Invalid("standard input holds no JSON object with the push's secrets") from e
    if spec.get("supervised"):
        os.nice(10)  # whoever waits for an answer of the server goes first
        threading.Thread(target=_end_with_server, daemon=True).start()
    return secrets


def _end_with_server() -> None:
    sys.stdin.read()
    # A sandbox that is just being set up does not end with us by itself.
    while MARK in os.environ and kill_marked(MARK, os.environ[MARK]):
        time.sleep(0.01)
    os._exit(1)  # nobody reads our events any more; what is half written is not visible to others


def _print_event(event: Event) -> None:
    _print(event.to_json())


def _print(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    sys.stdout.flush()
