"""Finds the hub's MQTT port and registry: `GET /.well-known/sanderling`, remembered for when it does not answer."""

import asyncio
import logging
import ssl

import httpx

from sanderling.edge.disk import find_json, write_json
from sanderling.edge.layout import Layout
from sanderling.iot import ConnectionString
from sanderling.transfer import close_cancelled

_log = logging.getLogger(__name__)
_DEFAULT_PORT = 8883  # what IoT Hub has; it does not answer the question


class Discovery:
    """What the hub says of itself."""

    def __init__(self, layout: Layout, connection: ConnectionString, tls: ssl.SSLContext) -> None:
        self._path = layout.discovery
        self._host = connection.host_name
        self._tls = tls

    async def fetch_mqtt_port(self) -> int:
        """Return the port of MQTT over TLS: as the hub says, else as it last said, else 8883."""
        return _port_in(await self._describe()) or _DEFAULT_PORT

    async def fetch_login_server(self) -> str | None:
        """Return the hub's own registry, or None.

        What the hub last said will do: each connection to it asks anew, and a pull from
        elsewhere must not wait for a hub that does not answer.
        """
        return _login_server_in(await asyncio.to_thread(self._recall)) or _login_server_in(await self._describe())

    async def _describe(self) -> object:
        """Return the hub's description of itself, at least with a port, or what is remembered of it, or None."""
        try:
            async with close_cancelled(httpx.AsyncClient(verify=self._tls, timeout=10.0)) as http:
                response = await http.get(f"https://{self._host}/.well-known/sanderling")
            if response.status_code == 200 and len(response.content) < 65536:
                document = response.json()
                if _port_in(document) is not None:
                    await asyncio.to_thread(self._remember, document)
                    return document
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as e:
            _log.debug("the hub %s does not describe itself: %s", self._host, e)
        return await asyncio.to_thread(self._recall)

    def _recall(self) -> object:
        remembered = find_json(self._path)
        return remembered if isinstance(remembered, dict) and remembered.get("host") == self._host else None

    def _remember(self, document: object) -> None:
        kept = {"host": self._host, "mqttPort": _port_in(document), "loginServer": _login_server_in(document)}
        if find_json(self._path) != kept:
            write_json(self._path, kept)


def _port_in(document: object) -> int | None:
    port = document.get("mqttPort") if isinstance(document, dict) else None
    return port if isinstance(port, int) and 0 < port < 65536 else None


def _login_server_in(document: object) -> str | None:
    name = document.get("loginServer") if isinstance(document, dict) else None
    return name if isinstance(name, str) and 0 < len(name) < 300 else None
