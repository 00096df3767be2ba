"""uvicorn's HTTP protocol with bounds on the head of a request, which it has not.

A head that is longer than MAX_HEAD_BYTES, or not whole within HEAD_TIMEOUT_S, ends the
connection: nobody can fill our memory, or hold a connection, before we know who it is.
"""

import asyncio
from typing import Any, cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEAD_BYTES = 64 * 1024
HEAD_TIMEOUT_S = 20.0


class BoundedHttp(HttpToolsProtocol):
    """One connection. A head begins with the connection, or with the first bytes after a request's end."""

    head_bytes = 0
    is_in_head = True
    head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        if self.is_in_head:
            self._expect_head()
            self.head_bytes += len(data)
            # What comes with the end of the head counts too; a read is bounded, so the limit is never far passed.
            if self.head_bytes > MAX_HEAD_BYTES + len(data):
                self._cut_off()
                return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._cancel_timer()
        self.is_in_head, self.head_bytes = False, 0
        super().on_headers_complete()

    def on_message_complete(self) -> None:
        self.is_in_head = True
        super().on_message_complete()

    def _expect_head(self) -> None:
        if self.head_timer is None:
            self.head_timer = asyncio.get_running_loop().call_later(HEAD_TIMEOUT_S, self._cut_off)

    def _cut_off(self) -> None:
        self._cancel_timer()
        transport = cast("Any", self.transport)
        # No answer: a polite close would go on reading from someone who goes on sending.
        if not transport.is_closing():
            transport.abort()

    def _cancel_timer(self) -> None:
        if self.head_timer is not None:
            self.head_timer.cancel()
            self.head_timer = None
