"""A digest names content by what it is: `algorithm:hex`.

sha256 and sha512 are the algorithms registered by image-spec 1.1 that are in
use; every other is refused, because content that cannot be verified must not be
named.
"""

import hashlib
import re
from typing import Self

from sanderling.errors import Invalid

_HEX_LENGTH = {"sha256": 64, "sha512": 128}
_FORM = re.compile(r"(sha256):([a-f0-9]{64})|(sha512):([a-f0-9]{128})")


class DigestMismatch(Invalid):
    """The content is not what its digest promised."""

    def __init__(self, *, expected: str, actual: str) -> None:
        super().__init__(f"content has digest {actual}, but {expected} was promised")
        self.expected, self.actual = expected, actual


class Digest(str):
    """A well-formed digest; a string everywhere else.

    Every instance is valid: making one from anything else raises `Invalid`, so
    a digest is always safe as a file name or in an URL.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not isinstance(text, str) or not _FORM.fullmatch(text):
            shown = text[:100] if isinstance(text, str) else type(text).__name__
            raise Invalid(f"{shown!r} is not a digest: sha256:<64 hex digits> or sha512:<128 hex digits> is expected")
        return super().__new__(cls, text)

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return *text* as a digest, or raise `Invalid`."""
        return cls(text)

    @classmethod
    def of(cls, content: bytes, algorithm: str = "sha256") -> Self:
        """Return the digest of *content*."""
        hasher = Hasher(algorithm)
        hasher.update(content)
        return cls(hasher.digest())

    @property
    def algorithm(self) -> str:
        """`sha256` or `sha512`."""
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        """The lower-case hexadecimal half."""
        return self.partition(":")[2]

    def verify(self, content: bytes) -> None:
        """Raise `DigestMismatch` unless *content* has this digest."""
        actual = Digest.of(content, self.algorithm)
        if actual != self:
            raise DigestMismatch(expected=self, actual=actual)


class Hasher:
    """Computes the digest of content that comes in pieces."""

    __slots__ = ("_hash", "algorithm", "size")

    def __init__(self, algorithm: str = "sha256") -> None:
        if algorithm not in _HEX_LENGTH:
            raise Invalid(f"{algorithm!r} is not a digest algorithm: sha256 or sha512 is expected")
        self.algorithm = algorithm
        self.size = 0
        self._hash = hashlib.new(algorithm, usedforsecurity=True)

    def update(self, piece: bytes | memoryview) -> None:
        """Take the next piece."""
        self._hash.update(piece)
        self.size += len(piece)

    def digest(self) -> Digest:
        """Return the digest of all pieces so far."""
        return Digest(f"{self.algorithm}:{self._hash.hexdigest()}")
