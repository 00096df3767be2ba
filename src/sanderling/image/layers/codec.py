"""How layers are compressed: in blocks, each on its own, into bytes that no host changes.

- A layer is the blocks one after the other. Members of gzip and frames of zstd may be joined so (RFC 1952, 2.2;
  RFC 8878, 3), so blocks are made by several threads, and the number of threads changes nothing.
- libdeflate and zstd write the same bytes on every processor, but not in every version: both come inside of a wheel
  of a pinned version. A build of another version is noticed by what it writes, and its name says so.
  See docs/decisions/0021.
"""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Literal

from sanderling.errors import Invalid
from sanderling.oci import media_types

Compression = Literal["gzip", "zstd"]
COMPRESSIONS: tuple[Compression, ...] = ("gzip", "zstd")

_GZIP_LEVEL = 7
_GZIP_BLOCK_BYTES = 4 << 20
_ZSTD_LEVEL = 12
_ZSTD_BLOCK_BYTES = 16 << 20
_SAMPLE_BYTES = 1 << 17

# What the pinned versions make of the sample. Others work as well, but their layers have other digests.
EXPECTED = {"gzip": "691f551ef9089fed", "zstd": "7914426accbb6198"}


@dataclass(frozen=True, slots=True)
class Codec:
    """Compresses blocks. *name* is part of every cache key: another name may mean other bytes."""

    name: str
    media_type: str
    block_bytes: int
    compress: Callable[[bytes], bytes]
    is_as_expected: bool


def parse_compression(text: str) -> Compression:
    """Return *text* when it names a compression of layers; raise Invalid."""
    if text not in COMPRESSIONS:
        raise Invalid(f"layers cannot be compressed with {text!r}; possible are {', '.join(COMPRESSIONS)}")
    return text


@cache
def codec(compression: Compression) -> Codec:
    """The codec of *compression*. The library is loaded when it is asked for."""
    match compression:
        case "gzip":
            return _named("gzip", f"libdeflate-{_GZIP_LEVEL}", media_types.OCI_LAYER_GZIP, _GZIP_BLOCK_BYTES, _gzip())
        case "zstd":
            return _named("zstd", f"zstd-{_ZSTD_LEVEL}", media_types.OCI_LAYER_ZSTD, _ZSTD_BLOCK_BYTES, _zstd())


def _gzip() -> Callable[[bytes], bytes]:
    from deflate import gzip_compress

    return lambda block: bytes(gzip_compress(block, _GZIP_LEVEL))


def _zstd() -> Callable[[bytes], bytes]:
    from zstandard import ZstdCompressor

    # A compressor is for one thread at a time.
    return lambda block: ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compress(block)


def _named(
    compression: Compression, name: str, media_type: str, block_bytes: int, compress: Callable[[bytes], bytes]
) -> Codec:
    told = hashlib.sha256(compress(_sample())).hexdigest()[:16]
    return Codec(f"{name}-{block_bytes}-{told}", media_type, block_bytes, compress, told == EXPECTED[compression])


def _sample() -> bytes:
    """Bytes that look like text, tables and code, and are the same everywhere."""
    state, pieces, size = 1, [], 0
    words = [hashlib.sha256(bytes([n])).digest()[: 2 + n % 23] for n in range(256)]
    while size < _SAMPLE_BYTES:
        state = (state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        # The product of two choices makes some words frequent, as in true data.
        piece = words[(state >> 33) % 16 * ((state >> 40) % 16)] + bytes([state >> 56]) * ((state >> 50) % 3)
        pieces.append(piece)
        size += len(piece)
    return b"".join(pieces)
