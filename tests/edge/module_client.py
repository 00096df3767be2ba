"""A module outside the engine, made of the project's own client session: what a sensor process would be."""

import asyncio
import ssl
import time
from pathlib import Path
from typing import Self

from sanderling.iot import ConnectionString, sas, topics
from sanderling.mqtt import (
    Acknowledged,
    ClientSession,
    Closed,
    Connect,
    Connected,
    Publish,
    Published,
    Refused,
    Subscribed,
)


class ModuleClient:
    """Connects to a gateway; keeps what is not acknowledged over reconnects, as clients do."""

    def __init__(self, connection_string: str, host: str, port: int, ca: Path) -> None:
        self.connection = ConnectionString.parse(connection_string)
        self.device, self.module = self.connection.device_id or "", self.connection.module_id or ""
        self._host, self._port, self._ca = host, port, ca
        self.session = ClientSession()
        self.inbox: asyncio.Queue[Publish] = asyncio.Queue()
        self.refused: int | None = None
        self.acknowledge_inputs = True
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.connect()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def connect(self, *, expires_in_s: float = 3600, subscribe: bool = True) -> None:
        tls = ssl.create_default_context(cafile=str(self._ca))
        self._reader, self._writer = await asyncio.open_connection(self._host, self._port, ssl=tls)
        name = f"{self.device}/{self.module}"
        resource = f"{self.connection.host_name}/devices/{self.device}/modules/{self.module}"
        token = sas.build(resource, self.connection.shared_access_key or "", int(time.time() + expires_in_s))
        user = f"{self.connection.host_name}/{name}/?api-version=2019-10-01"
        self.refused = None
        self.session.connect(Connect(name, False, 60, user, token.encode()), time.monotonic())
        await self._flush()
        self._task = asyncio.create_task(self._read())
        await self.until(lambda: self.session.is_connected or self.refused is not None)
        if subscribe and self.session.is_connected:
            filters = (topics.inputs_filter(self.device, self.module), topics.TWIN_RESPONSES, topics.DESIRED_PATCHES)
            self.session.subscribe(tuple((name, 1) for name in filters), time.monotonic())
            await self._flush()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
            self._writer.close()
            self.session.connection_lost()

    async def send(self, body: bytes, output: str = "out", **properties: str) -> None:
        await self.publish(body, {"$.on": output, "$.ct": "application/json", "$.ce": "utf-8", **properties})

    async def publish(self, body: bytes, bag: dict[str, str | None], module: str | None = None) -> None:
        from sanderling.iot import property_bag

        topic = topics.events_topic(self.device, module or self.module, property_bag.encode(bag))
        self.session.publish(topic, body, time.monotonic())
        await self._flush()

    async def request(self, topic: str, body: bytes) -> None:
        self.session.publish(topic, body, time.monotonic(), qos=0)
        await self._flush()

    async def until_acknowledged(self, timeout_s: float = 20) -> None:
        await self.until(lambda: not self.session.unacked, timeout_s)

    async def receive(self, timeout_s: float = 20) -> Publish:
        async with asyncio.timeout(timeout_s):
            return await self.inbox.get()

    async def until(self, check: object, timeout_s: float = 20) -> None:
        async with asyncio.timeout(timeout_s):
            while not check():  # type: ignore[operator]
                self._changed.clear()
                await self._changed.wait()

    async def _flush(self) -> None:
        self._writer.write(self.session.take_outgoing())
        await self._writer.drain()

    async def _read(self) -> None:
        while data := await self._reader.read(65536):
            for event in self.session.receive(data, time.monotonic()):
                match event:
                    case Published(publish=publish):
                        if publish.packet_id is not None and self.acknowledge_inputs:
                            self.session.acknowledge(publish.packet_id, time.monotonic())
                        self.inbox.put_nowait(publish)
                    case Refused(return_code=code):
                        self.refused = code
                    case Acknowledged() | Connected() | Subscribed() | Closed():
                        pass
            await self._flush()
            self._changed.set()
        self.session.connection_lost()
        self._changed.set()
