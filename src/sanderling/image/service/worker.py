"""One build as a process: ``python -m sanderling.image SPEC.json``; events are JSON lines on standard output.

    {"recipe": {...}, "cache": DIR, "output": {"layout": DIR} or {"push": {...}},
     "debianMirror": URL or null, "debianSecurityMirror": URL or null, "supervised": false}

The last line is ``{"result": {...}}`` or ``{"error": {"kind", "message"}}``. Exit
code 0: done; 1: it failed; 2: the input cannot be built.

Secrets of a push come as one line of JSON on standard input, never as arguments;
with ``signingKey`` (PEM) among them the image is signed with it.
When *supervised*, standard input stays open as long as the server lives: its end
ends this process.
"""

import json
import os
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sanderling.blobs import FileBlobs
from sanderling.durable import write_durably
from sanderling.errors import Conflict, Denied, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.image.assembly import Assembled
from sanderling.image.build import BuildSettings, build
from sanderling.image.events import Event, Log
from sanderling.image.keep import read_json
from sanderling.image.layout import DamagedLayer, write_layout
from sanderling.image.recipe import Recipe
from sanderling.oci import Digest

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
        image, sent = build_and_publish(spec, secrets, log)
    except SanderlingError as e:
        kind = next((word for kind, word in KINDS if isinstance(e, kind)), "invalid")
        _print({"error": {"kind": kind, "message": e.message}})
        return 2 if isinstance(e, Invalid | NotFound) else 1
    _print({"result": _result(image, sent, time.monotonic() - started)})
    return 0


def build_and_publish(spec: dict[str, Any], secrets: dict[str, str], log: Log) -> tuple[Assembled, int]:
    """Build the image of *spec* and write or push it; return it and the bytes that were sent.

    A layer of the cache that turns out to be damaged is made anew, once.
    """
    recipe = Recipe.from_json(spec.get("recipe") or {})
    if not isinstance(spec.get("cache"), str):
        raise Invalid("the build's description names no cache folder")
    settings = BuildSettings(Path(spec["cache"]), spec.get("debianMirror"), spec.get("debianSecurityMirror"))
    started_at = datetime.now(UTC)
    image, blobs = build(recipe, settings, log)
    try:
        return image, _publish(image, blobs, recipe, spec, secrets, started_at, log)
    except DamagedLayer as e:
        log.warn("layers", f"the cached layer {e.digest} is damaged and is made anew")
        blobs.delete(e.digest)
    image, blobs = build(recipe, settings, log)
    return image, _publish(image, blobs, recipe, spec, secrets, started_at, log)


def _publish(
    image: Assembled,
    blobs: FileBlobs,
    recipe: Recipe,
    spec: dict[str, Any],
    secrets: dict[str, str],
    started_at: datetime,
    log: Log,
) -> int:
    output = spec.get("output") or {}
    if "layout" in output:
        write_layout(image, blobs, Path(output["layout"]), spec["recipe"]["image"])
        log.say("write", f"OCI layout {output['layout']}")
        return 0
    if "push" not in output:
        raise Invalid("the build's description names no output: a layout or a push target")
    # The HTTP client is a quarter second of imports that other outputs do not need.
    from sanderling.image.push import push
    from sanderling.image.push_target import PushTarget
    from sanderling.image.supply_chain.attachments import told_about

    target = PushTarget.from_json(output["push"], secrets)
    memory = Path(spec["cache"]) / "pushed" / f"{target.registry.replace(':', '_')}.json"
    known = {Digest(digest): str(place) for digest, place in (read_json(memory) or {}).items()}
    told = told_about(image, recipe, target, secrets.get("signingKey"), started_at, log)
    elsewhere = {d: place for d, place in known.items() if place != target.repository}
    sent = push(image, blobs, target, log, elsewhere, attachments=told)
    for manifest in image.manifests:
        known |= {layer.digest: target.repository for layer in manifest.layers}
    kept = dict(list(known.items())[-MAX_REMEMBERED_BLOBS:])
    write_durably(memory, json.dumps(kept).encode())
    return sent


def _result(image: Assembled, sent: int, seconds: float) -> dict[str, Any]:
    layers = {layer.digest: layer for manifest in image.manifests for layer in manifest.layers}
    return {
        "digest": str(image.descriptor.digest),
        "sizeBytes": image.size_bytes,
        "sentBytes": sent,
        "seconds": round(seconds, 3),
        "layers": [
            {
                "digest": str(layer.digest),
                "sizeBytes": layer.size,
                "title": layer.annotations.get("io.sanderling.layer"),
            }
            for layer in layers.values()
        ],
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
    os._exit(1)  # nobody reads our events any more; what is half written is not visible to others


def _print_event(event: Event) -> None:
    _print(event.to_json())


def _print(data: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(data, ensure_ascii=False) + "\n")
    sys.stdout.flush()
