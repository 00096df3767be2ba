"""Bytecode that packages bring, made valid for files whose times are all zero.

A .pyc in a package names the time and size of its source; in a layer the time is
0, so that Python would throw it away at each start. It is rewritten to say
"do not check" (PEP 552), when time and size tell that it is of that very source.
What cannot be kept is left out and compiled anew, when this machine can.
"""

import _imp
import os
import re

_NAME = re.compile(r"^(?P<folder>(?:.*/)?)__pycache__/(?P<module>[^/]+?)\.[a-z]+-\d+(?:\.opt-\d)?\.pyc$")
_HEADER_BYTES = 16
_HASHED, _UNCHECKED_HASH = 0b01, 0b01


def source_of(path: str) -> str | None:
    """The path of the source whose bytecode would be at *path*; None when that is no bytecode beside a source."""
    found = _NAME.match(path)
    return f"{found['folder']}{found['module']}.py" if found else None


def unchecked(bytecode: bytes, source: bytes, was: os.stat_result) -> bytes | None:
    """*bytecode* of *source*, to be used without a check; None when it is not of this source.

    *was* is the source's file as it is in the package: Python compares its time and size.
    """
    if len(bytecode) <= _HEADER_BYTES or was.st_size != len(source):
        return None
    flags, check = int.from_bytes(bytecode[4:8], "little"), bytecode[8:16]
    digest = _imp.source_hash(int.from_bytes(bytecode[:4], "little"), source)
    if flags & _HASHED:
        is_of_source = check == digest
    else:
        said = int.from_bytes(check[:4], "little"), int.from_bytes(check[4:], "little")
        is_of_source = flags == 0 and said == (int(was.st_mtime) & 0xFFFFFFFF, len(source) & 0xFFFFFFFF)
    if not is_of_source:
        return None
    return bytecode[:4] + _UNCHECKED_HASH.to_bytes(4, "little") + digest + bytecode[_HEADER_BYTES:]
