"""When a module that runs also answers."""

import http.server
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
from tests.edge.worlds import make_image

from sanderling.edge.engines import Container, HeldImage, State
from sanderling.edge.plan import Restarts
from sanderling.edge.pull import Progress
from sanderling.edge.readiness import Readiness, ready_address
from sanderling.edge.report import module_report
from sanderling.iot import ModuleSpec

OURS = {"Labels": {"io.sanderling.ready-path": "/ready"}, "ExposedPorts": {"5001/tcp": {}}}


class Scorer(http.server.BaseHTTPRequestHandler):
    status = 503
    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        type(self).asked.append(self.path)
        self.send_response(type(self).status)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def scorer() -> Iterator[type[Scorer]]:
    class Mine(Scorer):
        asked: ClassVar[list[str]] = []

    server = http.server.HTTPServer(("127.0.0.1", 0), Mine)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    Mine.port = server.server_port  # type: ignore[attr-defined]
    yield Mine
    server.shutdown()
    thread.join()
    server.server_close()


def held(tmp_path: Path, config: dict[str, Any] = OURS) -> HeldImage:
    return make_image(config=config).held_in(tmp_path / "blobs")


def spec(port: int | None, image: str = "registry.test/demo/tiny:1", address: str = "") -> ModuleSpec:
    binding = {"HostPort": str(port), "HostIp": address}
    options = {} if port is None else {"HostConfig": {"PortBindings": {"5001/tcp": [binding]}}}
    return ModuleSpec("m", image, version="1.0", create_options=options, env={})


RUNNING = Container("m", State.RUNNING, "f", "registry.test/demo/tiny:1", "sha256:0", started_at=1.0)


def test_the_published_port_and_the_images_label_say_where_to_ask(tmp_path: Path) -> None:
    assert ready_address(spec(32001), held(tmp_path)) == "http://127.0.0.1:32001/ready"
    assert ready_address(spec(32001, address="::1"), held(tmp_path)) == "http://[::1]:32001/ready"


@pytest.mark.parametrize(
    ("port", "config"),
    [
        (None, OURS),
        (1, {**OURS, "Labels": {}}),
        (1, {**OURS, "Labels": {"io.sanderling.ready-path": "@elsewhere.test/"}}),
        (1, {**OURS, "ExposedPorts": {}}),
        (1, {**OURS, "ExposedPorts": {"5001/udp": {}}}),
    ],
)
def test_what_cannot_be_asked_is_not_asked(tmp_path: Path, port: int | None, config: dict[str, Any]) -> None:
    assert ready_address(spec(port), held(tmp_path, config)) is None


@pytest.mark.anyio
async def test_a_module_is_asked_until_it_answers_and_again_after_a_restart(
    tmp_path: Path, scorer: type[Scorer]
) -> None:
    readiness, image = Readiness(), held(tmp_path)
    modules = {"m": spec(scorer.port)}  # type: ignore[attr-defined]
    world = (modules, {"m": RUNNING}, {RUNNING.image: image})
    assert await readiness.look(*world) == {"m": False}
    scorer.status = 200
    assert await readiness.look(*world) == {"m": True}
    scorer.status = 503
    assert await readiness.look(*world) == {"m": True}
    assert scorer.asked == ["/ready", "/ready"]
    started_again = {"m": replace(RUNNING, started_at=2.0)}
    assert await readiness.look(modules, started_again, {RUNNING.image: image}) == {"m": False}


@pytest.mark.anyio
async def test_nobody_listening_is_not_ready(tmp_path: Path) -> None:
    world = ({"m": spec(1)}, {"m": RUNNING}, {RUNNING.image: held(tmp_path)})
    assert await Readiness().look(*world) == {"m": False}


def test_the_report_tells_starting_from_ready() -> None:
    starting = module_report(spec(1), RUNNING, Restarts(), None, is_ready=False)
    assert (starting["runtimeStatus"], starting["ready"]) == ("running", False)
    assert starting["statusDescription"].startswith("started")
    assert module_report(spec(1), RUNNING, Restarts(), None, is_ready=True)["ready"] is True
    assert "ready" not in module_report(spec(None), RUNNING, Restarts(), None)


def test_the_report_says_how_far_a_pull_is() -> None:
    begun = module_report(spec(1), None, Restarts(), None, pull=Progress())
    assert begun["statusDescription"] == "pulling registry.test/demo/tiny:1"
    assert "pull" not in begun
    half = module_report(spec(1), None, Restarts(), None, pull=Progress(1_000_000, 4_000_000))
    assert half["statusDescription"].endswith("1.0 of 4.0 MB")
    assert half["pull"] == {"doneBytes": 1_000_000, "totalBytes": 4_000_000}
    whole = module_report(spec(1), None, Restarts(), None, pull=Progress(4, 4))
    assert whole["statusDescription"].endswith("unpacking")


def test_what_runs_is_told_before_the_pull_of_what_replaces_it() -> None:
    update = module_report(spec(1), RUNNING, Restarts(), None, pull=Progress(1, 4))
    assert (update["runtimeStatus"], update["statusDescription"]) == ("running", "running")
    assert update["pull"] == {"doneBytes": 1, "totalBytes": 4}
