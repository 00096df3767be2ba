"""Steps 8 and 9: scoring on the device, over HTTP and by messages, with the link and without it."""

from collections.abc import Sequence
from time import monotonic, sleep

from sanderling.demo.answers import DIGIT, PHASE, RUN, Answers, Arrivals, arrivals
from sanderling.demo.children import wait_until
from sanderling.demo.device_steps import OnDevice, is_connected
from sanderling.demo.module_http import request_body, score
from sanderling.demo.scene import Scene
from sanderling.demo.sensor import Reading, Sensor
from sanderling.demo.training import Training
from sanderling.errors import Unavailable
from sanderling.sdk.messages import Message, Messages

ONLINE, OFFLINE = "online", "offline"
# Without one new message for so long, what is missing is lost.
STALL_S = 45.0
# After the last one is there, how long a double may take.
SETTLE_S = 1.5
GATEWAY_CA = "gateway-ca.pem"
OFFLINE_DIGITS = 100


def score_online(scene: Scene, on_device: OnDevice, training: Training) -> list[Answers]:
    """Score all held-out digits over HTTP, then again as messages; return both."""
    by_http = score(scene.ports.module, training.digits, "HTTP /score")
    scene.say(f"{len(by_http.predictions)} digits over HTTP, {by_http.median_ms:.1f} ms each")
    stream = _Stream(scene, on_device)
    handed_over = send(scene, on_device, training.digits, ONLINE)
    arrived = stream.wait_for(ONLINE, len(training.digits))
    by_message = arrived.answers("messages", handed_over)
    scene.say(f"{len(arrived.by_digit)} digits as messages, {by_message.median_ms:.1f} ms from sensor to server")
    return [by_http, by_message]


def score_offline(scene: Scene, on_device: OnDevice, training: Training) -> list[Answers]:
    """Cut the link, score and send, restore the link, and see every message arrive once."""
    digits = training.digits[:OFFLINE_DIGITS]
    stream = _Stream(scene, on_device)
    scene.relay.cut()
    scene.say("the link is cut: the device's connections are reset, new ones are refused")
    wait_until(
        "the hub's notice that the device is gone", lambda: not is_connected(on_device.device), scene.children, 30
    )
    scene.say("the hub sees the device disconnected")
    by_http = score(scene.ports.module, digits, "HTTP, link cut")
    scene.say(f"{len(by_http.predictions)} digits over HTTP on the device, {by_http.median_ms:.1f} ms each")
    handed_over = send(scene, on_device, digits, OFFLINE)
    early = len(stream.seen(OFFLINE).by_digit)
    scene.say(f"{len(digits)} messages handed to the edge hub; {early} of their answers are at the server")
    if early:
        raise Unavailable("messages reached the server although the link is cut: the relay is not the only way")
    scene.relay.restore()
    restored = monotonic()
    arrived = stream.wait_for(OFFLINE, len(digits))
    scene.say(f"the link is back; all {len(arrived.by_digit)} arrived within {monotonic() - restored:.1f} s, each once")
    return [by_http, arrived.answers("messages, link cut", handed_over)]


def send(scene: Scene, on_device: OnDevice, digits: Sequence[Sequence[float]], phase: str) -> list[float]:
    """Send *digits* as the sensor, each with its index; return when each was handed over."""
    readings = [
        Reading(request_body(digit), {RUN: scene.run_id, PHASE: phase, DIGIT: str(index)})
        for index, digit in enumerate(digits)
    ]
    with Sensor(on_device.sensor, scene.ports.gateway, scene.folders.device / GATEWAY_CA) as sensor:
        return sensor.send(readings)


class _Stream:
    """The server's message stream from now on, as far as it concerns this run."""

    def __init__(self, scene: Scene, on_device: OnDevice) -> None:
        self._scene = scene
        self._messages = Messages(on_device.device.workspace)
        self._device_id = on_device.device.device_id
        _, self._after = self._messages.read("latest", limit=1)
        self._found: list[Message] = []

    def seen(self, phase: str, wait_s: float = 0) -> Arrivals:
        """Read what is there, and sort it."""
        page, self._after = self._messages.read(self._after, device=self._device_id, wait_s=wait_s)
        self._found += page
        return arrivals(self._found, self._scene.run_id, phase)

    def wait_for(self, phase: str, count: int) -> Arrivals:
        """Wait for all *count* answers; raise Unavailable when some are lost, come twice, or are errors."""
        found, last_news = self.seen(phase), monotonic()
        while found.missing(count) and not found.faults:
            self._scene.children.check()
            before = len(self._found)
            found = self.seen(phase, wait_s=2)
            if len(self._found) > before:
                last_news = monotonic()
            elif monotonic() - last_news > STALL_S:
                raise Unavailable(f"{found.missing(count)} of {count} messages have not arrived; they are lost")
        sleep(SETTLE_S)
        found = self.seen(phase)
        if found.faults:
            fault = found.faults[0]
            raise Unavailable(f"the module answered on {fault.output!r}: {str(fault.body)[:300]}")
        if found.doubled:
            raise Unavailable(f"{found.doubled} of {count} messages arrived more than once")
        return found
