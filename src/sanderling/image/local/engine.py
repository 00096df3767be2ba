"""Docker or Podman on this machine, through their own programs: these know where their engine is and who may ask it."""

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from sanderling.errors import Unavailable
from sanderling.oci import Platform

ASK_S = 30
LOAD_S = 3600
# How each is asked for the platform that it runs; the answer also says that it runs.
_ASK = {
    "docker": ("version", "--format", "{{.Server.Os}}/{{.Server.Arch}}"),
    "podman": ("info", "--format", "{{.Host.OS}}/{{.Host.Arch}}"),
}


class NoEngine(Unavailable):
    """Neither Docker nor Podman can be asked."""

    def __init__(self, reasons: list[str]) -> None:
        super().__init__(f"no container engine runs here: {'; '.join(reasons)}")
        self.add_note("start one, or --output docker-archive:FILE, for docker load where one runs")
        self.reasons = reasons


@dataclass(frozen=True, slots=True)
class Engine:
    """An engine that answers: its *program*, and the platform that it runs."""

    program: str
    platform: Platform

    def load(self, archive: Path) -> None:
        """Give it the images of a docker-archive. Raises Unavailable with the engine's own words."""
        try:
            done = subprocess.run(
                [self.program, "load", "--input", str(archive)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=LOAD_S,
            )
        except (subprocess.TimeoutExpired, OSError) as e:
            raise Unavailable(f"{Path(self.program).name} did not take the image: {e}") from e
        if done.returncode != 0:
            raise Unavailable(f"{Path(self.program).name} did not take the image: {_last_line(done.stderr)}")


def find_engine() -> Engine:
    """The first of Docker and Podman that answers. Raises NoEngine."""
    reasons = []
    for name, question in _ASK.items():
        program = shutil.which(name)
        if program is None:
            reasons.append(f"{name} is not installed")
            continue
        try:
            done = subprocess.run([program, *question], stdin=subprocess.DEVNULL, capture_output=True, timeout=ASK_S)
        except (subprocess.TimeoutExpired, OSError):
            reasons.append(f"{name} does not answer")
            continue
        answer = done.stdout.decode("utf-8", "replace").strip()
        if done.returncode == 0 and answer.startswith("linux/"):
            return Engine(program, Platform.parse(answer))
        reasons.append(f"{name}: {_last_line(done.stderr) or answer or 'no answer'}")
    raise NoEngine(reasons)


def _last_line(raw: bytes) -> str:
    lines = [line.strip() for line in raw.decode("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
