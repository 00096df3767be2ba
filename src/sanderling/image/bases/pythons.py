"""Find the Pythons of a root file system by looking at it; nothing of it runs.

The Python that counts is the one its own `python3` means: the first in its PATH.

- A virtual environment (`pyvenv.cfg`) has packages of its own, and the Python it is made of.
- Where Debian and Ubuntu keep their packages' modules, ours go where their pip would put them:
  /usr/local/lib/python3.X/dist-packages, which comes first, so that nothing of theirs is mixed with ours.
- Wheels for Linux ("manylinux") need glibc. Its version is in libc.so.6 itself.

Sources: PEP 405; Debian's Python policy 2.3; PEP 600.
"""

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from sanderling.errors import Invalid
from sanderling.image.bases.root import Root
from sanderling.image.interpreter import Interpreter
from sanderling.oci import Platform

OLDEST = (3, 9)  # what the scoring server runs on
PLACES = ("usr/local/bin", "usr/bin", "opt/conda/bin", "opt/venv/bin", "bin")
DEBIAN_SITE = "usr/lib/python3/dist-packages"

_TRIPLETS = {"amd64": "x86_64-linux-gnu", "arm64": "aarch64-linux-gnu", "arm": "arm-linux-gnueabihf"}
_MACHINES = {62: "amd64", 183: "arm64", 40: "arm"}  # ELF's e_machine
_PYTHON = re.compile(r"python(3\.[0-9]{1,2})")
_BANNER = re.compile(rb"GNU C Library [^\n\x00]{0,200}release version ([0-9]+)\.([0-9]+)")
_KEPT = re.compile(
    r"(?:.*/)?(?:python3(?:\.[0-9]{1,2})?|libc\.so\.6|libc-2\.[0-9]+\.so|pyvenv\.cfg|etc/passwd|etc/group|os-release"
    r"|[^/]+\.dist-info/(?:METADATA|RECORD))"
)


class BaseRefused(Invalid):
    """The image *reference* cannot be a base."""

    def __init__(self, reference: str, reason: str) -> None:
        super().__init__(f"the base {reference} cannot be used: {reason}")
        self.reference, self.reason = reference, reason


def is_wanted(path: str) -> bool:
    """Say whether the content of the file at *path* is needed to find Pythons and their packages."""
    return _KEPT.fullmatch(path) is not None


def find_pythons(root: Root, search: Sequence[str], platform: Platform, reference: str) -> list[Interpreter]:
    """Every Python of *root*, the one that counts first.

    *search* is the PATH of the base. Raises BaseRefused when there is none that the image could use.
    """
    found: dict[str, Interpreter] = {}
    too_old: list[str] = []
    for folder in [*(place.strip("/") for place in search), *PLACES]:
        for program in _programs(root, folder):
            version = _version(root, program)
            if version is None or f"{folder}:{version}" in found:
                continue
            if _number(version) < OLDEST:
                too_old.append(version)
                continue
            found.setdefault(version, _interpreter(root, folder, program, version))
    if not found:
        wanted = ".".join(map(str, OLDEST))
        there = f"its Python is {', '.join(sorted(set(too_old)))}" if too_old else "it has no Python"
        raise BaseRefused(reference, f"{there}; the scoring server needs Python {wanted} or newer in it")
    glibc = _glibc(root, platform, reference)
    first = next(iter(found.values()))
    _check_machine(root, first, platform, reference)
    return [Interpreter(python.version, python.prefix, python.site, glibc, python.program) for python in found.values()]


def find_user(root: Root, user: str) -> str:
    """*user* of an image's config as numbers, when the image knows it and it is not root; nothing for root."""
    name, _, group = user.partition(":")
    if name in ("", "root"):
        return ""
    if not (name.isascii() and name.isdecimal()):
        known = _account(root, "etc/passwd", name)
        if known is None or len(known) < 4:
            return user  # whoever starts the container may know it
        name, group = known[2], group or known[3]
    if group and not (group.isascii() and group.isdecimal()):
        known = _account(root, "etc/group", group)
        group = known[2] if known is not None and len(known) > 2 else group
    if name.lstrip("0") == "":
        return ""
    return f"{name}:{group}" if group else name


def _account(root: Root, file: str, name: str) -> list[str] | None:
    """The fields of the line for *name* in etc/passwd or etc/group."""
    node = root.find(file)
    lines = (node.content or b"").decode("utf-8", "replace").splitlines() if node is not None else []
    return next((line.split(":") for line in lines if line.split(":")[0] == name), None)


def _programs(root: Root, folder: str) -> Iterable[str]:
    """The names of Pythons in *folder*: python3 first, then the others, newest first."""
    names = root.list(folder)
    if "python3" in names:
        yield f"{folder}/python3"
    others = [name for name in names if _PYTHON.fullmatch(name)]
    yield from (f"{folder}/{name}" for name in sorted(others, key=lambda n: _number(n.removeprefix("python")))[::-1])


def _version(root: Root, program: str) -> str | None:
    """The minor version of *program*, by what its links lead to; None when it leads nowhere or does not say."""
    place = root.resolve(program)
    node = root.find(program)
    if place is None or node is None or node.kind != "file":
        return None
    match = _PYTHON.fullmatch(PurePosixPath(place).name) or _PYTHON.fullmatch(PurePosixPath(program).name)
    if match:
        return match[1]
    versions = [name for name in root.list(f"{_above(place)}/lib") if _PYTHON.fullmatch(name)]
    return versions[0].removeprefix("python") if len(versions) == 1 else None


def _interpreter(root: Root, folder: str, program: str, version: str) -> Interpreter:
    """What *program*, found in *folder*, is; its glibc is not known yet."""
    folder = folder if folder != "bin" else root.resolve("bin") or "bin"
    prefix = _above(folder)
    name = PurePosixPath(program).name
    named = f"{folder}/{name}" if name != "python3" else ""
    if root.find(f"{prefix}/pyvenv.cfg") is not None:
        return Interpreter(version, prefix, f"{prefix}/lib/python{version}/site-packages", (0, 0), named)
    if prefix == "usr" and root.find(DEBIAN_SITE) is not None:
        site = f"usr/local/lib/python{version}/dist-packages"
        return Interpreter(version, "usr/local", site, (0, 0), f"{folder}/{name}")
    # A link in one place to a Python that lives in another: its packages are where it lives.
    home = root.resolve(program) or program
    if root.find(f"{prefix}/lib/python{version}") is None:
        prefix = _above(PurePosixPath(home).parent.as_posix())
        named = f"{folder}/{name}"
    return Interpreter(version, prefix, f"{prefix}/lib/python{version}/site-packages", (0, 0), named)


def _glibc(root: Root, platform: Platform, reference: str) -> tuple[int, int]:
    triplet = _TRIPLETS.get(platform.architecture, "none")
    folders = [f"{top}lib/{triplet}" for top in ("", "usr/")] + ["lib64", "usr/lib64", "lib", "usr/lib"]
    for folder in folders:
        node = root.find(f"{folder}/libc.so.6")
        match = _BANNER.search(node.content or b"") if node is not None else None
        if match:
            return int(match[1]), int(match[2])
    if any(name.startswith("ld-musl-") for name in root.list("lib")):
        raise BaseRefused(
            reference,
            "its C library is musl (Alpine), and the wheels of Python packages for Linux need glibc; "
            "take a base of Debian, Ubuntu or Red Hat, such as python:3.12-slim",
        )
    raise BaseRefused(reference, f"it has no glibc for {platform}, which the wheels of Python packages need")


def _check_machine(root: Root, python: Interpreter, platform: Platform, reference: str) -> None:
    """Refuse a base whose Python is for another processor than the image says it is for."""
    node = root.find(python.executable.lstrip("/"))
    head = (node.content or b"")[:20] if node is not None else b""
    machine = _MACHINES.get(int.from_bytes(head[18:20], "little")) if head.startswith(b"\x7fELF") else None
    if machine is not None and machine != platform.architecture:
        raise BaseRefused(reference, f"it says it is for {platform}, and its Python is for {machine}")


def _above(folder: str) -> str:
    return PurePosixPath(folder).parent.as_posix() if "/" in folder else ""


def _number(version: str) -> tuple[int, int]:
    major, _, minor = version.partition(".")
    return int(major), int(minor or 0)
