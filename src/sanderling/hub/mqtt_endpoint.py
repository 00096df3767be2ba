"""MQTT over TLS for devices and modules: the socket, and who is let in.

Return codes matter: clients retry 3 and give up for good on 4 and 5. So 5 is for who is unknown, disabled or cannot
prove who it is; whatever is our own trouble is 3.
"""

import asyncio
import logging
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from sqlalchemy.exc import SQLAlchemyError

from sanderling.errors import Denied, Unavailable
from sanderling.hub.client_connection import ClientConnection
from sanderling.hub.errors import Unauthenticated
from sanderling.hub.identities import Identity
from sanderling.hub.parts import Parts
from sanderling.iot.identity import client_id
from sanderling.mqtt import Closed, Connect, ConnectRequested, Event, ReturnCode, ServerSession, SessionState

log = logging.getLogger(__name__)

_USERNAME = re.compile(r"[^/]*/(?P<device>[^/?]+)(?:/(?P<module>[^/?]+))?/\??(?P<query>.*)", re.DOTALL)
_READ_BYTES = 64 * 1024
_HANDSHAKE_TIMEOUT_S = 20.0
_CLOSE_TIMEOUT_S = 2.0
_FREE_TAKEOVERS = 3
_MAX_DELAY_S = 5.0


@dataclass(frozen=True, slots=True)
class MqttServer:
    """A running endpoint; *port* is the one that was bound."""

    host: str
    port: int


class MqttEndpoint:
    """Accepts connections, asks who it is, and hands the client over to `ClientConnection`."""

    def __init__(self, parts: Parts, *, max_connections: int = 10_000) -> None:
        self._parts = parts
        self._max_connections = max_connections
        self._open: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def serve(self, host: str, port: int, ssl_context: ssl.SSLContext | None) -> AsyncIterator[MqttServer]:
        """Listen until the context ends; then every connection is closed."""
        loop = asyncio.get_running_loop()

        def welcome(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            if len(self._open) >= self._max_connections:
                log.warning("a connection was refused: %d are open", len(self._open))
                writer.transport.abort()
                return
            # No TaskGroup: around a yield it would wrap what the caller raises in a group.
            task = loop.create_task(self._serve_one(reader, writer))
            self._open.add(task)
            task.add_done_callback(self._open.discard)

        handshake_s = None if ssl_context is None else _HANDSHAKE_TIMEOUT_S
        server = await asyncio.start_server(welcome, host, port, ssl=ssl_context, ssl_handshake_timeout=handshake_s)
        try:
            yield MqttServer(host, server.sockets[0].getsockname()[1])
        finally:
            server.close()
            ending = list(self._open)
            for task in ending:
                task.cancel()
            await asyncio.gather(*ending, return_exceptions=True)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._welcome(reader, writer)
        except (OSError, TimeoutError) as error:
            log.info("a connection broke: %s", error)
        except Exception:  # one client's trouble must not end the others
            log.exception("a connection failed")
        finally:
            await _close(writer)

    async def _welcome(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        loop = asyncio.get_running_loop()
        session = ServerSession(now=loop.time())
        asked = await _ask(session, reader)
        if asked is None:
            writer.write(session.take_outgoing())
            return
        try:
            identity, expires_at = await asyncio.to_thread(self._admit, asked)
            held = await self._held_session(identity, asked)
        except Denied as error:
            log.warning("client %r refused: %s", asked.client_id[:260], error.message)
            session.refuse(ReturnCode.NOT_AUTHORIZED)
            writer.write(session.take_outgoing())
            return
        except (SQLAlchemyError, Unavailable):
            log.exception("client %r asked to come again", asked.client_id[:260])
            session.refuse(ReturnCode.SERVER_UNAVAILABLE)
            writer.write(session.take_outgoing())
            return
        connection = ClientConnection(self._parts, identity, asked, session, (reader, writer), expires_at)
        await self._run(connection, identity, asked, session, held)

    async def _run(
        self,
        connection: ClientConnection,
        identity: Identity,
        asked: Connect,
        session: ServerSession,
        held: dict[str, int] | None,
    ) -> None:
        takeovers = self._parts.connections.add(connection)
        try:
            if takeovers > _FREE_TAKEOVERS:
                log.warning(
                    "%r was taken over %d times in a minute: do two clients share it?", identity.path, takeovers
                )
                await asyncio.sleep(min(0.5 * (takeovers - _FREE_TAKEOVERS), _MAX_DELAY_S))
            try:
                # Who was deleted, disabled or given other keys just now was not dropped: it was not there yet.
                await asyncio.to_thread(self._admit, asked)
            except Denied as error:
                connection.drop(error.message)
                return
            session.accept(asked, SessionState(subscriptions=held or {}), session_present=held is not None)
            await self._note(identity)
            await connection.run()
        finally:
            if self._parts.connections.remove(connection):
                await asyncio.shield(self._note(identity))

    async def _note(self, identity: Identity) -> None:
        try:
            await asyncio.to_thread(self._parts.identities.note_connection, identity.device_id, identity.module_id)
        except SQLAlchemyError:
            log.exception("%r: its connection was not noted", identity.path)

    async def _held_session(self, identity: Identity, asked: Connect) -> dict[str, int] | None:
        sessions, key = self._parts.sessions, (identity.device_id, identity.module_id)
        if asked.clean_session:
            await asyncio.to_thread(sessions.forget, *key)
            return None
        held = await asyncio.to_thread(sessions.find, *key)
        if held is None:
            await asyncio.to_thread(sessions.save, *key, {})
        return held

    def _admit(self, asked: Connect) -> tuple[Identity, float]:
        device_id, module_id = _read_username(asked)
        identity = self._parts.identities.find(device_id, module_id)
        if identity is None:
            raise Unauthenticated("the identity is not registered in this hub")
        device = identity if module_id is None else self._parts.identities.find(device_id)
        if device is None or not device.is_enabled or not identity.is_enabled:
            raise Unauthenticated("the identity is disabled")
        if asked.password is None:
            raise Unauthenticated("the client sent no token")
        return identity, self._parts.access.verify_client(identity, asked.password.decode(errors="replace"))


async def _ask(session: ServerSession, reader: asyncio.StreamReader) -> Connect | None:
    """Return the client's CONNECT; None when it sent something else, or nothing in time."""
    loop = asyncio.get_running_loop()
    while not session.is_closed:
        events: list[Event] = []
        try:
            async with asyncio.timeout_at(session.deadline):
                data = await reader.read(_READ_BYTES)
            events = session.receive(data, loop.time()) if data else [Closed("it left before CONNECT")]
        except TimeoutError:
            events = session.tick(loop.time())
        for event in events:
            if isinstance(event, ConnectRequested):
                return event.connect
            if isinstance(event, Closed):
                log.info("a connection was closed: %s", event.reason)
                return None
    return None


def _read_username(asked: Connect) -> tuple[str, str | None]:
    found = _USERNAME.fullmatch(asked.username or "")
    if found is None or "api-version=" not in found["query"]:
        raise Unauthenticated("the user name is not 'HOST/DEVICE[/MODULE]/?api-version=...'")
    if asked.client_id != client_id(found["device"], found["module"]):
        raise Unauthenticated("the client id and the user name name different identities")
    return found["device"], found["module"]


async def _close(writer: asyncio.StreamWriter) -> None:
    try:
        async with asyncio.timeout(_CLOSE_TIMEOUT_S):
            writer.close()
            await writer.wait_closed()
    except (OSError, TimeoutError):
        writer.transport.abort()
