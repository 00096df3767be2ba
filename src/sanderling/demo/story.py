"""The story in nine steps, told from beginning to end or until something fails.

    1 server  2 training  3 model  4 image  5 credentials  6 device  7 module  8 scoring  9 scoring without the link

Whatever happens, the processes are ended, the device's before the server's, and
the relay after them. What was made stays in the folder, and the next run goes on
from there.
"""

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from time import monotonic, sleep
from typing import TypeVar

from rich.console import Console

from sanderling.demo.answers import Answers
from sanderling.demo.children import ChildEnded, Children, tail_of
from sanderling.demo.device_steps import deploy_module, start_device
from sanderling.demo.interruption import Interruption
from sanderling.demo.module_http import request_body
from sanderling.demo.ports import choose
from sanderling.demo.relay import Relay
from sanderling.demo.scene import Folders, Scene, ShowBuild
from sanderling.demo.scoring_steps import score_offline, score_online
from sanderling.demo.server_steps import build_image, register_model, show_credentials, start_server
from sanderling.demo.tables import print_digits, print_steps, print_ways
from sanderling.demo.training import Training, train
from sanderling.errors import Conflict, Invalid, SanderlingError
from sanderling.sdk.hints import hinted
from sanderling.sdk.image import Image

STEPS = 9
T = TypeVar("T")


class Disagreement(SanderlingError):
    """The device predicted something else than the model."""

    def __init__(self, count: int, of: int) -> None:
        super().__init__(f"{count} of {of} predictions on the device are not the model's own")
        self.count, self.of = count, of


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """data: the folder for all that the demo makes. keep: stay up at the end until Ctrl-C."""

    data: Path
    unattended: bool = False
    keep: bool = False


def run(options: DemoOptions, console: Console, show_build: ShowBuild) -> None:
    """Tell the story; return when every prediction agreed and no message was lost.

    Raises a SanderlingError for whatever went wrong, KeyboardInterrupt when it was interrupted.
    """
    folders = Folders(options.data.absolute())
    try:
        folders.make()
    except OSError as error:
        reason = f"{folders.root} cannot be made: {error.strerror}"
        raise hinted(Invalid(reason), "another folder: --data DIR") from error
    with _alone(folders.root), Interruption() as interruption:
        ports = choose(folders.root / "ports.json")
        with Relay([(ports.relay_https, ports.https), (ports.relay_mqtt, ports.mqtt)]) as relay:
            with Children(interruption, folders.logs) as children:
                scene = Scene(folders, ports, console, children, relay, show_build, token_hex(4))
                with _explained(scene):
                    told = _tell(scene)
                    _sum_up(scene, told)
                if options.keep:
                    _stay(scene)
                console.print(f"    Ending the device and the server; {folders.root} stays", markup=False)
    console.print(told.verdict(), markup=False)


@dataclass(frozen=True, slots=True)
class _Told:
    """What the story came to."""

    training: Training
    image: Image
    online: list[Answers]
    offline: list[Answers]
    steps: list[tuple[str, float]]

    def verdict(self) -> str:
        """The last line."""
        count = sum(len(one.predictions) for one in (*self.online, *self.offline))
        messages = len(self.online[1].predictions) + len(self.offline[1].predictions)
        return (
            f"ok: {count} predictions on the device, all as the model's own; {messages} messages, "
            f"none lost, none twice; {sum(seconds for _, seconds in self.steps):.1f} s"
        )


class _Steps:
    """Prints the heading of each step and measures it."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self.done: list[tuple[str, float]] = []

    def take(self, name: str, work: Callable[[], T]) -> T:
        self._console.print(f"--> {len(self.done) + 1}/{STEPS} {name}", style="bold", markup=False)
        began = monotonic()
        result = work()
        seconds = monotonic() - began
        self.done.append((name, seconds))
        self._console.print(f"    {seconds:.1f} s", style="dim", markup=False)
        return result


def _tell(scene: Scene) -> _Told:
    steps = _Steps(scene.console)
    client = steps.take("Start the server", lambda: start_server(scene))
    training = steps.take("Train on handwritten digits", lambda: _train(scene))
    model = steps.take("Register the model", lambda: register_model(scene, client, training))
    image = steps.take("Build the image and push it", lambda: build_image(scene, training, model))
    steps.take("Show the registry's credentials", lambda: show_credentials(scene, model))
    on_device = steps.take("Start a device", lambda: start_device(scene, model.workspace))
    device = on_device.device
    steps.take("Deploy the module", lambda: deploy_module(scene, device, image))
    online = steps.take("Score on the device", lambda: score_online(scene, on_device, training))
    offline = steps.take("Cut the link and restore it", lambda: score_offline(scene, on_device, training))
    return _Told(training, image, online, offline, steps.done)


def _train(scene: Scene) -> Training:
    training = train(scene.folders.project)
    scene.say(f"trained on {training.trained_on} digits, {len(training.digits)} kept aside")
    scene.say(f"accuracy on those {100 * training.accuracy:.1f} %")
    scene.say(f"wrote {training.model.name}, {training.script.name}, {training.environment.name}")
    (scene.folders.project / "digit.json").write_bytes(request_body(training.digits[0]))
    return training


def _sum_up(scene: Scene, told: _Told) -> None:
    """Print the tables; raise Disagreement when a prediction is not the model's own."""
    console, training = scene.console, told.training
    ways = [*told.online, *told.offline]
    print_digits(console, training, told.online)
    print_ways(console, training, ways)
    print_steps(
        console,
        told.steps,
        [("model.pkl", training.model.stat().st_size), ("image, as pulled", told.image.size_bytes or 0)],
    )
    wrong = sum(len(one.disagreements(training.expected)) for one in ways)
    if wrong:
        raise Disagreement(wrong, sum(len(one.predictions) for one in ways))


def _stay(scene: Scene) -> None:
    """Stay until Ctrl-C, or until a process ends by itself."""
    folders, console = scene.folders, scene.console
    console.print("--> Everything stays up until Ctrl-C; in another terminal:", style="bold", markup=False)
    for line in (
        f"cd {folders.project} && sanderling init --name demo --url https://localhost:{scene.ports.relay_https}",
        "sanderling open",
        "sanderling device modules demo-device",
        "sanderling messages --follow",
        f"curl -d @{folders.project}/digit.json http://localhost:{scene.ports.module}/score",
        f"less {folders.logs}/device.log",
    ):
        console.print(f"    {line}", markup=False)
    try:
        while True:
            scene.children.check()
            sleep(0.5)
    except KeyboardInterrupt:
        return


@contextmanager
def _explained(scene: Scene) -> Iterator[None]:
    """When something fails, show the end of the logs and where they are."""
    try:
        yield
    except ChildEnded as error:
        _print_tail(scene.console, error.log, error.tail)
        raise
    except SanderlingError as error:
        for name in ("server", "device"):
            log = scene.folders.logs / f"{name}.log"
            if log.exists():
                _print_tail(scene.console, log, tail_of(log))
        hinted(error, f"less {scene.folders.logs}/device.log {scene.folders.logs}/server.log")
        raise


def _print_tail(console: Console, log: Path, tail: list[str]) -> None:
    console.print(f"    the end of {log}:", markup=False)
    for line in tail:
        console.print(f"    | {line}", style="dim", markup=False)


@contextmanager
def _alone(root: Path) -> Iterator[None]:
    """Hold the folder; the lock is on the folder itself, and ends with the process."""
    handle = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise hinted(Conflict(f"another demo runs in {root}"), "another folder: --data DIR") from None
    finally:
        os.close(handle)
