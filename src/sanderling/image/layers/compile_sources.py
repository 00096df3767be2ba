"""Compile Python sources to bytecode, as a program of its own: ``python -I -S compile_sources.py``.

Standard input and output are packs: for each file a path and content, each with
its length before it (4 bytes, little end first). The answer has the same paths
in the same order; content is empty for a source that does not compile.

It is a process of its own because the bytes that marshal writes depend on what
else is alive in the process (a reference is marked when more than one holder is
there): a small, always equal process gives always equal bytes. For the same
reason it imports next to nothing, and none of ours.
"""

import _imp
import marshal
import sys
from importlib.util import MAGIC_NUMBER

# PEP 552: bit 0 says "checked by hash", bit 1 clear says "do not check": the file's time does not count.
_UNCHECKED_HASH = (1).to_bytes(4, "little")
_MAGIC = int.from_bytes(MAGIC_NUMBER, "little")


def compile_one(path: str, source: bytes) -> bytes:
    """The content of the .pyc of the source that will be at /*path*; empty when it is no Python."""
    try:
        code = compile(source, "/" + path, "exec", dont_inherit=True, optimize=0)
    except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
        return b""
    return MAGIC_NUMBER + _UNCHECKED_HASH + _imp.source_hash(_MAGIC, source) + marshal.dumps(code)


def main() -> None:
    """Read a pack, write a pack."""
    data = sys.stdin.buffer.read()
    write = sys.stdout.buffer.write
    position = 0

    def take() -> bytes:
        nonlocal position
        length = int.from_bytes(data[position : position + 4], "little")
        piece = data[position + 4 : position + 4 + length]
        position += 4 + length
        return piece

    while position < len(data):
        path, source = take(), take()
        compiled = compile_one(path.decode("utf-8"), source)
        for piece in (path, compiled):
            write(len(piece).to_bytes(4, "little"))
            write(piece)
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
