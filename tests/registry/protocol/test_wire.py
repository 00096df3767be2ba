import asyncio
import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request
from starlette.types import Message

from sanderling.blobs import BlobNotFound
from sanderling.errors import Conflict, Denied, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.oci import Digest, WireError
from sanderling.registry.errors import ChunkRangeInvalid, ClientGone, RangeInvalid, wire_of
from sanderling.registry.protocol import wire
from sanderling.registry.protocol.wire import parse_content_range, parse_range, received


@given(st.integers(0, 2000), st.integers(0, 1500), st.integers(0, 1500))
def test_a_range_reads_what_a_slice_reads(size: int, first: int, last: int) -> None:
    content = bytes(n % 251 for n in range(size))
    for header, expected in (
        (f"bytes={first}-{last}", content[first : last + 1]),
        (f"bytes={first}-", content[first:]),
        (f"bytes=-{last}", content[max(size - last, 0) :] if last else b""),
    ):
        try:
            part = parse_range(header, size)
        except RangeInvalid:
            assert expected == b""
        else:
            assert part is not None
            assert content[slice(*part)] == expected


@given(st.text(), st.integers(0, 2**63))
def test_any_range_is_a_part_the_whole_or_refused(text: str, size: int) -> None:
    for header in (text, f"bytes={text}"):
        with contextlib.suppress(RangeInvalid):
            part = parse_range(header, size)
            assert part is None or 0 <= part[0] < part[1] <= size


@given(st.integers(0, 2**40), st.integers(0, 2**40))
def test_the_range_of_a_chunk_has_both_ends_in_it(start: int, more: int) -> None:
    assert parse_content_range(f"{start}-{start + more}") == (start, more + 1)
    assert parse_content_range(f"bytes {start}-{start + more}/*") == (start, more + 1)


@given(st.text(st.sampled_from("0123456789-/* bytes"), max_size=30))
def test_any_range_of_a_chunk_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ChunkRangeInvalid):
        start, length = parse_content_range(text)
        assert start >= 0
        assert length >= 1


@pytest.mark.anyio
async def test_a_client_that_sleeps_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silence() -> Message:
        await asyncio.sleep(60)
        raise AssertionError

    monkeypatch.setattr(wire, "PEER_TIMEOUT_S", 0.05)
    with pytest.raises(ClientGone, match="sent nothing"):
        await anext(received(Request({"type": "http", "method": "PATCH", "headers": []}, silence)))


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BlobNotFound(Digest.of(b"x")), (WireError.BLOB_UNKNOWN, 404)),
        (ClientGone("gone"), (WireError.BLOB_UPLOAD_INVALID, 408)),
        (NotFound("x"), (WireError.BLOB_UNKNOWN, 404)),
        (Conflict("x"), (WireError.BLOB_UPLOAD_INVALID, 409)),
        (Invalid("x"), (WireError.UNSUPPORTED, 400)),
        (Denied("x"), (WireError.DENIED, 403)),
        (Unavailable("x"), (WireError.UNAVAILABLE, 503)),
        (SanderlingError("x"), (WireError.UNAVAILABLE, 503)),
    ],
)
def test_every_error_has_a_code(error: SanderlingError, expected: tuple[WireError, int]) -> None:
    assert wire_of(error) == expected
