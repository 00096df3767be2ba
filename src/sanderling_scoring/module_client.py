"""The module side: inputs from the edge hub are scored, answers go back to it.

At least once: an input is acknowledged only after its answer was acknowledged.
When the connection is lost, nothing of it is kept; the edge hub sends again what
was not acknowledged, and it is scored again.

    connect ─▶ subscribe ─▶ PUBLISH input ─▶ scorer ─▶ PUBLISH answer ─▶ PUBACK ─▶ PUBACK input
       ▲                                                                              │
       └──── back-off, for ever ◀── lost        token near its end: finish, connect anew

The scorer's thread hands answers over through a queue and a pipe; everything
else happens on this client's own thread.
"""

from __future__ import annotations

import contextlib
import os
import random
import select
import threading
import time
import traceback
from collections import deque
from urllib.parse import quote

from sanderling_scoring import __version__, log, mqtt_codec
from sanderling_scoring.http_parser import Request
from sanderling_scoring.module_messages import (
    InputMessage,
    answer_message,
    error_message,
    parse_input,
    topic_of,
)
from sanderling_scoring.mqtt_client import MqttClient, open_tls
from sanderling_scoring.mqtt_codec import MqttError, Puback, Publish, Suback
from sanderling_scoring.scorer import Job
from sanderling_scoring.workload import WorkloadApi, WorkloadError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from sanderling_scoring.answers import Answer
    from sanderling_scoring.metrics import Metrics
    from sanderling_scoring.module_messages import OutputMessage
    from sanderling_scoring.mqtt_codec import Packet
    from sanderling_scoring.scorer import Scorer
    from sanderling_scoring.workload import ModuleIdentity

MAX_IN_FLIGHT = 32
MAX_WAITING_BYTES = 32 << 20
TOKEN_LIFE_S = 3600
RENEW_BEFORE_S = 300
FINISH_S = 10.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.25, 30.0
STEADY_S = 10.0  # a connection that held this long was a good one
SUBSCRIBE_ID = 1


class ModuleClient:
    """Serve the module's inputs on a thread of its own until `stop`."""

    def __init__(self, identity: ModuleIdentity, inputs: tuple[str, ...], scorer: Scorer, metrics: Metrics) -> None:
        self._identity = identity
        self._inputs = frozenset(name.lower() for name in inputs)
        self._scorer = scorer
        self._metrics = metrics
        self._wake_r, self._wake_w = os.pipe()
        for end in (self._wake_r, self._wake_w):
            os.set_blocking(end, False)
        self._is_stopping = False
        self._is_connected = False
        self._thread = threading.Thread(target=self._run, name="module", daemon=True)

    def start(self) -> None:
        """Begin to connect."""
        self._thread.start()

    def stop(self) -> None:
        """Finish what is being scored, and end; from any thread."""
        self._is_stopping = True
        self.wake()

    def join(self, timeout_s: float) -> None:
        """Wait for the end."""
        self._thread.join(timeout_s)

    def wake(self) -> None:
        """Let the thread look at what is new."""
        with contextlib.suppress(BlockingIOError):  # a full pipe wakes as well
            os.write(self._wake_w, b"\0")

    def _run(self) -> None:
        pause_s = FIRST_PAUSE_S
        while not self._is_stopping:
            started = time.monotonic()
            try:
                self._connect_and_serve()
                pause_s = FIRST_PAUSE_S
                continue
            except (OSError, MqttError, WorkloadError, ValueError) as e:
                reason = f"{e or type(e).__name__}"
            except Exception as e:  # noqa: BLE001 - this loop must outlive whatever one turn brings
                reason = f"{type(e).__name__}: {e}\n{traceback.format_exc()}"
            if time.monotonic() - started > STEADY_S:
                pause_s = FIRST_PAUSE_S
            wait_s = pause_s * random.uniform(0.5, 1.0)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
            what = "disconnected from" if self._is_connected else "cannot connect to"
            self._is_connected = False
            log.warning(f"module: {what} {self._where()}: {reason}; again in {wait_s:.1f} s")
            self._pause(wait_s)

    def _where(self) -> str:
        return f"{self._identity.gateway}:{self._identity.gateway_port}"

    def _pause(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._is_stopping and time.monotonic() < until:
            readable, _, _ = select.select([self._wake_r], [], [], max(0.0, until - time.monotonic()))
            if readable:
                os.read(self._wake_r, 4096)

    def _connect_and_serve(self) -> None:
        """Serve one connection; returns when it was ended on purpose, raises when it was lost."""
        identity = self._identity
        expires_at = int(time.time()) + TOKEN_LIFE_S
        renew_at = time.monotonic() + TOKEN_LIFE_S - RENEW_BEFORE_S
        token = identity.token(expires_at)
        client = MqttClient(open_tls(identity.gateway, identity.gateway_port, WorkloadApi(identity).trust_bundle()))
        is_finished = False
        try:
            agent = quote(f"sanderling-scoring/{__version__}", safe="")
            username = f"{identity.hub}/{identity.client_id}/?api-version=2019-10-01&DeviceClientType={agent}"
            packets = client.connect(identity.client_id, username, token)
            topic_filter = f"devices/{identity.device_id}/modules/{identity.module_id}/inputs/#"
            client.send(mqtt_codec.subscribe(SUBSCRIBE_ID, topic_filter))
            self._is_connected = True
            log.info(f"module: connected to {self._where()} as {identity.client_id}")
            session = _Session(self, client)
            session.receive(packets)
            self._serve(session, renew_at)
            is_finished = True
        finally:
            client.close(politely=is_finished)
        self._is_connected = False
        log.info(f"module: disconnected from {self._where()}: " + ("stopping" if self._is_stopping else "new token"))

    def _serve(self, session: _Session, renew_at: float) -> None:
        finish_by = 0.0
        while True:
            now = time.monotonic()
            if self._is_stopping or now >= renew_at:
                finish_by = finish_by or now + FINISH_S
                if session.is_at_rest or now >= finish_by:
                    return
            else:
                session.submit_waiting()
            timeout_s = max(0.0, min(renew_at - now, 0.05 if session.has_waiting or finish_by else 15.0))
            session.receive(session.client.wait(timeout_s if not finish_by else 0.05, self._wake_r))
            session.send_answers()

    # What a session needs of its owner.

    def is_input(self, name: str) -> bool:
        """Whether messages to that input are scored."""
        return name.lower() in self._inputs

    @property
    def identity(self) -> ModuleIdentity:
        """Who the module is."""
        return self._identity

    @property
    def scorer(self) -> Scorer:
        """What scores."""
        return self._scorer

    @property
    def metrics(self) -> Metrics:
        """What counts."""
        return self._metrics


class _Session:
    """What is under way on one connection; it ends with it."""

    def __init__(self, owner: ModuleClient, client: MqttClient) -> None:
        self.client = client
        self._owner = owner
        self._waiting: deque[InputMessage] = deque()
        self._waiting_bytes = 0
        self._scoring: set[int] = set()  # packet ids of inputs that wait, run or await their answer's PUBACK
        self._running = 0
        self._answers: deque[tuple[InputMessage, Answer]] = deque()
        self._unconfirmed: dict[int, tuple[InputMessage, OutputMessage]] = {}
        self._last_id = SUBSCRIBE_ID

    @property
    def has_waiting(self) -> bool:
        """Whether inputs wait that the scorer did not take, and nothing else would wake us."""
        return bool(self._waiting) and not self._running

    @property
    def is_at_rest(self) -> bool:
        """Whether nothing runs and every answer is confirmed; what waits is sent again later."""
        return not (self._running or self._answers or self._unconfirmed)

    def receive(self, packets: list[Packet]) -> None:
        """Take what the edge hub sent."""
        for packet in packets:
            if isinstance(packet, Publish):
                self._take(packet)
            elif isinstance(packet, Puback):
                self._confirm(packet.packet_id)
            elif isinstance(packet, Suback):
                if packet.codes != b"\x01":
                    raise MqttError("the subscription to the inputs was refused")
            else:
                raise MqttError("a second CONNACK came")

    def submit_waiting(self) -> None:
        """Give the scorer what waits, as far as it takes it."""
        while self._waiting and self._running + len(self._unconfirmed) < MAX_IN_FLIGHT:
            message = self._waiting[0]
            if not self._owner.scorer.submit(self._job(message)):
                return
            self._running += 1
            self._waiting.popleft()
            self._waiting_bytes -= len(message.body)

    def send_answers(self) -> None:
        """Publish the answers that are done."""
        while self._answers:
            message, answer = self._answers.popleft()
            self._running -= 1
            self._publish(message, answer_message(message, answer))

    def _take(self, packet: Publish) -> None:
        message = parse_input(self._owner.identity, packet.topic, packet.payload, packet.packet_id)
        if message is None:
            if packet.packet_id:
                self.client.send(mqtt_codec.puback(packet.packet_id))
            return
        if packet.packet_id in self._scoring:
            return  # sent again while it is under way
        if packet.packet_id:
            self._scoring.add(packet.packet_id)
        if not self._owner.is_input(message.name):
            self._publish(message, error_message(message, f"input {message.name!r} is not served here"))
            return
        self._waiting.append(message)
        self._waiting_bytes += len(message.body)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise MqttError(f"the edge hub sent more than {MAX_WAITING_BYTES} bytes ahead")

    def _job(self, message: InputMessage) -> Job:
        def deliver(answer: Answer) -> None:
            self._answers.append((message, answer))
            self._owner.wake()

        headers = {"content-type": message.content_type or "application/json"}
        return Job(Request("POST", "/score", "1.1", headers, True, message.body), deliver)

    def _publish(self, message: InputMessage, output: OutputMessage) -> None:
        self._last_id = self._last_id % 65535 + 1
        while self._last_id in self._unconfirmed:
            self._last_id = self._last_id % 65535 + 1
        self._unconfirmed[self._last_id] = (message, output)
        self.client.send(mqtt_codec.publish(self._last_id, topic_of(self._owner.identity, output), output.body))

    def _confirm(self, packet_id: int) -> None:
        confirmed = self._unconfirmed.pop(packet_id, None)
        if confirmed is None:
            raise MqttError(f"PUBACK for packet {packet_id}, which is not ours")
        message, output = confirmed
        self._owner.metrics.count_message(output.output)
        if message.packet_id:
            self._scoring.discard(message.packet_id)
            self.client.send(mqtt_codec.puback(message.packet_id))
