"""Look at a scoring script without running it.

A script that can never score is refused before anything is built: one that is
no Python, or that binds no ``init`` or no ``run`` at its top level.
"""

import ast
from collections.abc import Iterator, Sequence

from sanderling.errors import Invalid

MAX_SCRIPT_BYTES = 4 << 20


class ScriptInvalid(Invalid):
    """The scoring script cannot score as it is; *line* counts from 1 (None: the whole file)."""

    def __init__(self, text: str, *, file: str, line: int | None = None) -> None:
        super().__init__(f"{file}, line {line}: {text}" if line else f"{file}: {text}")
        self.file, self.line = file, line


def check_script(source: bytes, file: str = "score.py", python: tuple[int, int] = (3, 11)) -> None:
    """Refuse a script that Python *python* cannot parse or that has no ``init`` or ``run``.

    The source is parsed, never executed. Raises ScriptInvalid with the line.
    """
    if len(source) > MAX_SCRIPT_BYTES:
        raise ScriptInvalid(f"{len(source)} bytes are too many for a script; put data into a model", file=file)
    try:
        tree = ast.parse(source, filename=file, feature_version=python)
    except SyntaxError as e:
        raise ScriptInvalid(f"this is no Python {python[0]}.{python[1]}: {e.msg}", file=file, line=e.lineno) from e
    except (ValueError, RecursionError, MemoryError) as e:
        raise ScriptInvalid(f"this cannot be parsed as Python: {e}", file=file) from e
    names = set(_bound_names(tree.body))
    if "*" in names:
        return
    last = tree.body[-1].end_lineno if tree.body else 1
    for wanted, use in (("init", "called once, to load the model"), ("run", "called with each request's data")):
        if wanted not in names:
            argument = "" if wanted == "init" else "data"
            raise ScriptInvalid(
                f"the script has no function '{wanted}' ({use}); add 'def {wanted}({argument}): ...'",
                file=file,
                line=last,
            )


def _bound_names(body: Sequence[ast.stmt]) -> Iterator[str]:
    """The names that these statements bind in their own scope; '*' for a star import."""
    for node in body:
        match node:
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
                yield node.name
            case ast.Import() | ast.ImportFrom():
                yield from (alias.asname or alias.name for alias in node.names)
            case ast.Assign():
                for target in node.targets:
                    yield from (n.id for n in ast.walk(target) if isinstance(n, ast.Name))
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield name
            case ast.If() | ast.For() | ast.While():
                yield from _bound_names([*node.body, *node.orelse])
            case ast.With():
                yield from _bound_names(node.body)
            case ast.Try():
                handled = [statement for handler in node.handlers for statement in handler.body]
                yield from _bound_names([*node.body, *handled, *node.orelse, *node.finalbody])
            case _:
                continue
