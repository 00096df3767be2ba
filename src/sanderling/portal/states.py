"""What a state looks like: a word, a tone and a shape, so that colour alone never carries it."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Chip:
    """A state as a page shows it.

    *tone* is one of good, bad, warn, busy, calm; *shape* one of disc, ring,
    half, triangle, diamond, square.
    """

    label: str
    tone: str
    shape: str


GOOD, BAD, WARN, BUSY, CALM = "good", "bad", "warn", "busy", "calm"

IMAGE = {
    "queued": Chip("queued", CALM, "ring"),
    "running": Chip("building", BUSY, "half"),
    "succeeded": Chip("ready", GOOD, "disc"),
    "failed": Chip("failed", BAD, "triangle"),
    "cancelled": Chip("cancelled", CALM, "square"),
}
STEP = {
    "running": Chip("running", BUSY, "half"),
    "done": Chip("done", GOOD, "disc"),
    "failed": Chip("failed", BAD, "triangle"),
    "stopped": Chip("stopped", CALM, "square"),
}
DEVICE = {
    "connected": Chip("connected", GOOD, "disc"),
    "disconnected": Chip("not connected", CALM, "ring"),
    "disabled": Chip("disabled", WARN, "square"),
}
# The runtime statuses of IoT Edge, and "expected": asked for, not reported yet.
MODULE = {
    "running": Chip("running", GOOD, "disc"),
    "expected": Chip("expected", CALM, "ring"),
    "unknown": Chip("unknown", CALM, "ring"),
    "stopped": Chip("stopped", CALM, "square"),
    "backoff": Chip("waiting to restart", WARN, "diamond"),
    "unhealthy": Chip("unhealthy", BAD, "triangle"),
    "failed": Chip("failed", BAD, "triangle"),
    "dead": Chip("dead", BAD, "triangle"),
}
TOKEN = {
    "enabled": Chip("on", GOOD, "disc"),
    "disabled": Chip("off", CALM, "square"),
    "expired": Chip("expired", WARN, "diamond"),
}
KINDS = {"image": IMAGE, "step": STEP, "device": DEVICE, "module": MODULE, "token": TOKEN}


def chip(kind: str, state: str) -> Chip:
    """Return the chip of a state; a state that is not known is shown by its own word."""
    return KINDS[kind].get(state, Chip(state or "unknown", CALM, "ring"))
