"""HTTP as the registry protocol uses it: ranges, bodies, pages, errors, streams."""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO
from urllib.parse import quote, urlencode

from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from sanderling.blobs import UploadWriter, WrongOffset
from sanderling.errors import Invalid, SanderlingError
from sanderling.oci import Digest, error_document, is_tag
from sanderling.registry.access.rights import Principal
from sanderling.registry.access.throttle import Slowed
from sanderling.registry.errors import (
    ChunkRangeInvalid,
    ClientGone,
    DigestInvalid,
    ManifestTooLarge,
    PageInvalid,
    RangeInvalid,
    SizeInvalid,
    TagInvalid,
    UpstreamUnavailable,
    wire_of,
)

PEER_TIMEOUT_S = 120.0
MAX_PAGE = 10_000
_MAX_SIZE = 2**63 - 1
_NOT_AT_ALL = re.compile(r"(?:^|;)\s*q=0(?:\.0*)?\s*(?:;|$)")
_LARGE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may be served: who asks, which repository, and what in it."""

    request: Request
    principal: Principal
    name: str
    item: str


def parse_digest(text: str) -> Digest:
    """Return the digest, or raise `DigestInvalid`."""
    try:
        return Digest.parse(text)
    except Invalid as e:
        raise DigestInvalid(e.message) from None


def check_tag(text: str) -> str:
    """Return the tag, or raise `TagInvalid`."""
    if not is_tag(text):
        raise TagInvalid(text)
    return text


def parse_content_range(text: str) -> tuple[int, int]:
    """Read `0-99` of a chunk; both ends are part of it. Return (start, length); raise `ChunkRangeInvalid`.

    distribution-spec 1.1, "Pushing a blob in chunks": `^[0-9]+-[0-9]+$`; the
    form of RFC 9110 is understood too.
    """
    found = re.fullmatch(r"(?:bytes )?([0-9]{1,19})-([0-9]{1,19})(?:/(?:[0-9]{1,19}|\*))?", text)
    if not found or not int(found[1]) <= int(found[2]) <= _MAX_SIZE:
        raise ChunkRangeInvalid(f"{text[:100]!r} is not a range of bytes such as 0-99")
    return int(found[1]), int(found[2]) - int(found[1]) + 1


def parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Read a `Range` header (RFC 9110, section 14) of content of *size* bytes.

    Returns (start, end), end excluded. None means: answer with the whole, as for
    several ranges at once. Raises `RangeInvalid` when nothing of it is there.
    """
    found = re.fullmatch(r"bytes=\s*([0-9]*)-([0-9]*)\s*", text)
    if not found or not (found[1] or found[2]):
        return None
    first, last = _number(found[1]), _number(found[2])
    if not found[1]:
        start, end = size - min(last, size), size
    else:
        start, end = first, min(last + 1, size) if found[2] else size
    if start >= end:
        raise RangeInvalid(f"the content has {size} bytes")
    return start, end


def _number(digits: str) -> int:
    """Return the number, or a very large one; none at all is 0."""
    return _MAX_SIZE if len(digits.lstrip("0")) > 18 else int(digits or 0)


def parse_page(request: Request, invalid: type[PageInvalid] = PageInvalid) -> tuple[int, str]:
    """Return (n, last) of a listing; raise *invalid*."""
    text = request.query_params.get("n", "")
    if not re.fullmatch(r"[0-9]*", text):
        raise invalid(f"n={text[:50]!r} is no number of results")
    last = request.query_params.get("last", "")
    return min(_number(text), MAX_PAGE) if text else MAX_PAGE, last.replace("\x00", "")[:255]


def next_page(path: str, parameters: Mapping[str, str]) -> dict[str, str]:
    """Return the `Link` header to the rest of a listing (RFC 8288)."""
    return {"Link": f'<{quote(path, safe="/:")}?{urlencode(parameters)}>; rel="next"'}


async def received(request: Request) -> AsyncGenerator[bytes, None]:
    """Yield the body as it comes; raise `ClientGone` when it stops coming."""
    stream = aiter(request.stream())
    while True:
        try:
            async with asyncio.timeout(PEER_TIMEOUT_S):
                piece = await anext(stream)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise ClientGone(f"the client sent nothing for {PEER_TIMEOUT_S:.0f} seconds") from None
        except ClientDisconnect:
            raise ClientGone("the client went away in the middle of its request") from None
        if piece:
            yield piece


def is_large(request: Request) -> bool:
    """Say whether the body may be worth a thread of its own: it is large, or nobody knows."""
    length = content_length(request)
    return length is None or length >= _LARGE_BYTES


async def received_into(request: Request, sink: UploadWriter) -> bool:
    """Hand the body to *sink*, in a thread, where the server can do that; else return False and touch nothing.

    Raises `ClientGone`, and what *sink* raises.
    """
    receive_into = request.scope.get("extensions", {}).get("sanderling.receive_into")
    if receive_into is None:
        return False
    try:
        return bool(await receive_into(sink))
    except ConnectionError as e:
        raise ClientGone(str(e)) from None


async def read_body(request: Request, limit: int) -> bytes:
    """Return a small body; raise `ManifestTooLarge` past *limit* bytes."""
    if (content_length(request) or 0) > limit:
        raise ManifestTooLarge(limit)
    body = bytearray()
    async with aclosing(received(request)) as pieces:
        async for piece in pieces:
            body += piece
            if len(body) > limit:
                raise ManifestTooLarge(limit)
    return bytes(body)


def content_length(request: Request) -> int | None:
    """Return the promised length of the body, or None when it is sent in chunks; raise `SizeInvalid`."""
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,19}", text):
        raise SizeInvalid(f"{text[:50]!r} is no length of a body")
    return int(text)


def accepts(request: Request, media_type: str) -> bool:
    """Say whether the client takes *media_type*; one that says nothing takes all."""
    takes: dict[str, bool] = {}
    for word in ",".join(request.headers.getlist("accept")).split(","):
        name, _, parameters = word.partition(";")
        if name.strip():
            takes[name.strip().lower()] = not _NOT_AT_ALL.search(parameters)
    # RFC 9110, section 12.5.1: the most specific range counts.
    return next((takes[name] for name in (media_type.lower(), "application/*", "*/*") if name in takes), not takes)


def is_unchanged(request: Request, digest: Digest) -> bool:
    """Say whether the client has the content already (`If-None-Match`)."""
    tags = request.headers.get("if-none-match", "")
    return any(tag.strip().removeprefix("W/").strip('"') == digest for tag in tags.split(","))


def quoted(text: str) -> str:
    """Return *text* as a quoted string of a header (RFC 9110, section 5.6.4), at most 500 letters of it."""
    plain = "".join(c if " " <= c <= "~" else "?" for c in text[:500])
    return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'


class BlobResponse(StreamingResponse):
    """Streams a blob; closes it also when the client goes, and does not wait for one that sleeps."""

    async def stream_response(self, send: Send) -> None:
        async def send_in_time(message: Message) -> None:
            async with asyncio.timeout(PEER_TIMEOUT_S):
                await send(message)

        body: AsyncIterator[bytes] = self.body_iterator  # type: ignore[assignment]
        async with aclosing(body):  # type: ignore[type-var]
            await super().stream_response(send_in_time)


class PassingResponse(BlobResponse):
    """Streams a blob that is on its way in. When that fails the connection is cut, and nobody takes it for whole."""

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except SanderlingError:
            # Its reason is in the log once, for all who read it. The HTTP server closes what is not complete.
            return


class FileResponse(Response):
    """Sends *count* bytes of a file from *start* by the kernel, and closes it. `is_possible` says where."""

    def __init__(self, file: BinaryIO, start: int, count: int, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(status_code=status, headers=headers)
        self._file, self._start, self._count = file, start, count

    @staticmethod
    def is_possible(request: Request) -> bool:
        """Say whether the server takes files (ASGI specification, "Zero Copy Send")."""
        return "http.response.zerocopysend" in request.scope.get("extensions", {})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._file:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            part = {"file": self._file, "offset": self._start, "count": self._count}
            await send({"type": "http.response.zerocopysend", **part})


def error_response(error: SanderlingError, headers: Mapping[str, str] | None = None) -> Response:
    """Return the answer of the specification for *error*."""
    code, status = wire_of(error)
    extra = dict(headers or {})
    if isinstance(error, Slowed):
        extra["Retry-After"] = str(int(error.retry_after_s + 0.999))
    if isinstance(error, UpstreamUnavailable) and error.retry_after_s:
        extra["Retry-After"] = str(int(error.retry_after_s + 0.999))
    if isinstance(error, WrongOffset):
        extra["Range"] = uploaded_range(error.expected)
    if status == HTTPStatus.REQUEST_TIMEOUT:
        extra["Connection"] = "close"
    return JSONResponse(error_document(code, error.message), status, headers=extra)


def uploaded_range(offset: int) -> str:
    """Return the `Range` header of an upload: inclusive, and `0-0` when nothing is there yet."""
    return f"0-{max(offset - 1, 0)}"
