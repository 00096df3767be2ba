"""What the steps of the story share: where things are and where to print."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from sanderling.demo.children import Children
from sanderling.demo.ports import Ports
from sanderling.demo.relay import Relay
from sanderling.sdk.image import LogEvent

ShowBuild = Callable[[], AbstractContextManager[Callable[[LogEvent], None]]]


@dataclass(frozen=True, slots=True)
class Folders:
    """Below the demo's folder: the server's and the device's data, the project's files, the logs."""

    root: Path

    @property
    def server(self) -> Path:
        return self.root / "server"

    @property
    def device(self) -> Path:
        return self.root / "device"

    @property
    def project(self) -> Path:
        return self.root / "project"

    @property
    def logs(self) -> Path:
        return self.root / "logs"

    @property
    def ca(self) -> Path:
        return self.server / "tls" / "ca.pem"

    @property
    def token(self) -> Path:
        return self.server / "secrets" / "owner-token"

    def make(self) -> None:
        """Make those that the demo writes to itself, for the owner alone."""
        for folder in (self.root, self.project, self.logs):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)


@dataclass(slots=True)
class Scene:
    """The stage of one run. `run_id` marks its messages, so that those of earlier runs do not count."""

    folders: Folders
    ports: Ports
    console: Console
    children: Children
    relay: Relay
    show_build: ShowBuild
    run_id: str

    def say(self, text: str) -> None:
        """Print one line below the step's heading."""
        self.console.print(f"    {text}", markup=False)
