"""A build's log for people: a `-->` line for each step, its lines below, a bar for transfers."""

from sanderling.cli.output import Output, size_text
from sanderling.cli.progress import Meter
from sanderling.sdk.image import Image, LogEvent


class BuildLog:
    """Prints events as they come and remembers what the closing table needs."""

    def __init__(self, output: Output) -> None:
        self._output = output
        self._meter = Meter(output)
        self._step = ""
        self._last_text = ""
        self.sent_bytes = 0
        self.layers = ""

    def __enter__(self) -> "BuildLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._meter.close()

    def __call__(self, event: LogEvent) -> None:
        if event.bytes is not None and event.total_bytes:
            self._meter(event.text or event.step, event.bytes, event.total_bytes)
            if event.step == "push":
                self.sent_bytes = max(self.sent_bytes, event.bytes)
            return
        self._meter.close()
        if not event.text:
            return
        if event.level in ("warning", "error"):
            self._output.line(f"    {event.level}: {event.text}")
        elif event.step != self._step:
            self._step = event.step
            self._output.step(f"{event.step}: {event.text}")
        else:
            self._output.line(f"    {event.text}")

    def summary(self, image: Image, seconds: float) -> tuple[str, str, str, str, str]:
        """The closing table's row: image, size, bytes sent, layers, seconds."""
        return (image.id, size_text(image.size_bytes), size_text(self.sent_bytes), self.layers, f"{seconds:.1f}")
