"""A build's log for people: a `-->` line for each step, its lines below, a bar for transfers."""

import re

from sanderling.cli.output import Output, size_text
from sanderling.cli.progress import Meter, Waiting
from sanderling.sdk.image import Image, LogEvent

COLUMNS = ("IMAGE", "#SIZE", "LAYERS", "PUSHED", "#SECONDS")
ENDED = ("failed", "cancelled")
LAYERS = re.compile(r"(\d+) layers, (\d+) known")


class BuildLog:
    """Prints events as they come and remembers what the closing table needs."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._meter = Meter(output)
        self._waiting = Waiting(output)
        self._step = ""
        self._pushed = self.layers_text = ""  # how many layers, and how many of them were known

    def __enter__(self) -> "BuildLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._meter.close()
        self._waiting.close()

    def __call__(self, event: LogEvent) -> None:
        self._waiting.close()
        if event.bytes is not None and event.total_bytes:
            if event.step != self._step:
                self._begin(event.step, f"{event.text}, {size_text(event.total_bytes)}")
            self._meter(event.text, event.bytes, event.total_bytes)
            return
        self._meter.close()
        if event.step in ENDED:
            return  # who asked for the log says how it ended
        if event.step == "push":
            self._pushed = event.text
        if match := LAYERS.search(event.text):
            self.layers_text = f"{match[1]}, {match[2]} reused"
        if event.level in ("warning", "error"):
            self._output.detail(f"{event.level}: {event.text}")
        elif event.step != self._step:
            self._begin(event.step, event.text)
        else:
            self._output.detail(event.text)
        if event.step != "done":
            self._waiting.show(event.step)

    def summary(self, image: Image, seconds: float) -> tuple[str, str, str, str, str]:
        """The closing table's row: image, size, layers, how much had to be sent to the registry, seconds."""
        return (image.id, size_text(image.size_bytes), self.layers_text, self._pushed, f"{seconds:.1f}")

    def _begin(self, step: str, text: str) -> None:
        self._step = step
        self._output.step(f"{step}: {text}")
