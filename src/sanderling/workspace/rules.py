"""What names, tags and paths of a model may be. Pure: each check returns nothing or raises Invalid.

- Workspace: 3 to 32 lower-case letters, digits and dashes; it is the first part of its repositories' names.
- Model: as in Azure ML, letters, digits, `-`, `.`, `_`, up to 255 (azureml-core 1.0.2, Model.register).
- Tags and properties: text to text.
- A file's path is relative, with `/`, and stays below the model's folder on every system.
"""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise

from sanderling.errors import Invalid

WORKSPACE_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{1,30}[a-z0-9])")
MODEL_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9\-._]{0,254}")

MAX_FILES = 10_000
MAX_LABELS = 100
MAX_KEY_CHARS = 255
MAX_VALUE_CHARS = 4096
MAX_DESCRIPTION_CHARS = 10_000
MAX_PATH_BYTES = 1024
MAX_SEGMENT_BYTES = 255


def check_workspace_name(name: str) -> None:
    if not WORKSPACE_NAME.fullmatch(name):
        raise Invalid(
            f"workspace name {name!r}: use 3 to 32 lower-case letters, digits and dashes, not a dash first or last"
        )


def check_model_name(name: str) -> None:
    if not MODEL_NAME.fullmatch(name):
        raise Invalid(
            f"model name {name!r}: begin with a letter or digit, then letters, digits, '-', '.' and '_', at most 255"
        )


def check_description(description: object) -> None:
    if not isinstance(description, str) or len(description) > MAX_DESCRIPTION_CHARS:
        raise Invalid(f"the description must be text of at most {MAX_DESCRIPTION_CHARS} characters")


def check_labels(kind: str, labels: Mapping[str, str]) -> None:
    """Check tags or properties; *kind* names them in the message."""
    if not isinstance(labels, Mapping):
        raise Invalid(f"{kind} must be a mapping of names to text, like {{'accuracy': '0.97'}}")
    if len(labels) > MAX_LABELS:
        raise Invalid(f"{len(labels)} {kind}: at most {MAX_LABELS} are allowed")
    for key, value in labels.items():
        if not isinstance(key, str) or not 0 < len(key) <= MAX_KEY_CHARS or not key.isprintable():
            raise Invalid(f"{kind}: the name {key!r} must be printable text of 1 to {MAX_KEY_CHARS} characters")
        if not isinstance(value, str):
            raise Invalid(f"{kind}: the value of {key!r} must be text, and is {type(value).__name__}")
        if len(value) > MAX_VALUE_CHARS or "\0" in value:
            raise Invalid(f"{kind}: the value of {key!r} must be text of at most {MAX_VALUE_CHARS} characters")


def check_paths(paths: Iterable[str]) -> None:
    """Check that *paths* are safe below any folder, that none comes twice and none is a folder of another."""
    seen = sorted(paths, key=lambda path: path.split("/"))
    if not seen:
        raise Invalid("a model needs at least one file")
    if len(seen) > MAX_FILES:
        raise Invalid(f"{len(seen)} files: a model has at most {MAX_FILES}; pack them into an archive")
    for path in seen:
        _check_path(path)
    for path, following in pairwise(seen):
        if path == following:
            raise Invalid(f"the path {path!r} is given twice")
        # Sorted by segments, a folder's first content follows it directly.
        if following.startswith(path + "/"):
            raise Invalid(f"the path {path!r} is a file and also the folder of {following!r}")


def _check_path(path: str) -> None:
    if not path.isprintable() or "\\" in path or len(path.encode(errors="replace")) > MAX_PATH_BYTES:
        raise Invalid(f"the path {path!r}: use printable characters and '/', at most {MAX_PATH_BYTES} bytes")
    if path.startswith("/") or re.match(r"[A-Za-z]:", path):
        raise Invalid(f"the path {path!r} is absolute: give it relative to the model's folder")
    for segment in path.split("/"):
        if segment in ("", ".", "..") or len(segment.encode()) > MAX_SEGMENT_BYTES:
            raise Invalid(f"the path {path!r} has an empty, dotted or too long part: give it plainly, like 'a/b.pkl'")
