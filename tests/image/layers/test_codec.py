import gzip
import hashlib
import io
import random
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from zstandard import ZstdDecompressor

from sanderling.errors import Invalid
from sanderling.image.layers.codec import COMPRESSIONS, EXPECTED, Compression, codec, parse_compression
from sanderling.oci import media_types


def unpacked(compression: Compression, packed: bytes) -> bytes:
    if compression == "gzip":
        return gzip.decompress(packed)
    with ZstdDecompressor().stream_reader(io.BytesIO(packed), read_across_frames=True) as reader:
        return reader.read()


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_the_compressors_write_the_bytes_that_digests_rely_on(compression: Compression) -> None:
    found = codec(compression)
    assert found.is_as_expected, f"{found.name}: another version of the library; see docs/decisions/0021"
    assert found.name.endswith(EXPECTED[compression])


@pytest.mark.parametrize("compression", COMPRESSIONS)
@given(blocks=st.lists(st.binary(max_size=5000), min_size=1, max_size=5))
def test_blocks_joined_unpack_to_what_they_were_made_of(compression: Compression, blocks: list[bytes]) -> None:
    packed = b"".join(codec(compression).compress(block) for block in blocks)
    assert unpacked(compression, packed) == b"".join(blocks)


@pytest.mark.parametrize("compression", COMPRESSIONS)
def test_a_large_block_gives_the_same_bytes_every_time(compression: Compression) -> None:
    block = random.Random(1).randbytes(1 << 19) * 2
    compress = codec(compression).compress
    assert len({hashlib.sha256(compress(block)).digest() for _ in range(3)}) == 1


def test_gzip_holds_no_time_and_no_name() -> None:
    header = codec("gzip").compress(b"x")[:10]
    assert header[:4] == b"\x1f\x8b\x08\x00"
    assert header[4:8] == bytes(4)
    assert zlib.decompress(codec("gzip").compress(b"x"), wbits=31) == b"x"


def test_each_compression_has_its_media_type_and_its_name_in_cache_keys() -> None:
    assert codec("gzip").media_type == media_types.OCI_LAYER_GZIP
    assert codec("zstd").media_type == media_types.OCI_LAYER_ZSTD
    assert codec("gzip").name != codec("zstd").name


def test_a_compression_that_is_none_is_refused_with_those_that_are() -> None:
    with pytest.raises(Invalid, match="'brotli'; possible are gzip, zstd"):
        parse_compression("brotli")
