"""Write the final prefix into files that were made for another one.

A package is built in a folder with a long made-up name; files that hold it are
listed with how: as text it is simply replaced, in a binary the text that holds it
must keep its length, so what is left over becomes zeros.

Source: conda's package specification, "prefix replacement".
"""

import re

from sanderling.errors import Invalid


class PrefixTooLong(Invalid):
    """A binary has less room than the final prefix needs."""

    def __init__(self, path: str, placeholder: str) -> None:
        super().__init__(f"{path} was built for the prefix {placeholder!r}, which is too short to become /opt/conda")
        self.path, self.placeholder = path, placeholder


def replace_prefix(content: bytes, placeholder: str, prefix: str, *, is_text: bool, path: str = "a file") -> bytes:
    """*content* with *prefix* ("/opt/conda") in place of *placeholder*. Raises PrefixTooLong for a binary."""
    old, new = placeholder.encode(), prefix.encode()
    if is_text or not old:
        return content.replace(old, new) if old else content
    if old not in content:
        return content
    if len(new) > len(old):
        raise PrefixTooLong(path, placeholder)

    def shorter(found: re.Match[bytes]) -> bytes:
        return found[0].replace(old, new).ljust(len(found[0]), b"\0")

    # Up to the zero that ends the text: several paths may be in it, joined by colons.
    return re.sub(re.escape(old) + rb"[^\0]*(?=\0)", shorter, content)
