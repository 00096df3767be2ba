"""azureml's schema file: what ``generate_schema`` wrote, put beside the script, where its wrapper looked for it.

    {"input": {NAME: {...}}, "output": {NAME: {...}}}

What it describes is not looked into: it holds pickled objects, which are the script's own matter.
"""

import json

from sanderling.errors import Invalid

MAX_SCHEMA_BYTES = 16 << 20


class SchemaInvalid(Invalid):
    """The schema file is none."""

    def __init__(self, file: str, reason: str) -> None:
        super().__init__(f"{file}: {reason}; a schema file is what generate_schema(...) wrote")
        self.file = file


def check_schema(content: bytes, file: str) -> None:
    """Refuse a schema file that is no JSON object. Raises SchemaInvalid."""
    if len(content) > MAX_SCHEMA_BYTES:
        raise SchemaInvalid(file, f"{len(content)} bytes are too many for a schema")
    try:
        document = json.loads(content)
    except (ValueError, RecursionError) as e:
        line = f", line {e.lineno}" if isinstance(e, json.JSONDecodeError) else ""
        raise SchemaInvalid(f"{file}{line}", "this is no JSON") from e
    if not isinstance(document, dict):
        raise SchemaInvalid(file, "this is JSON, and no object")
