"""Real images, tried in real sandboxes: what passes, what does not, and that nothing gets out."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from sanderling.errors import Invalid
from sanderling.image import (
    BuildSettings,
    Event,
    GateFailed,
    GateSettings,
    Limits,
    Log,
    ModelFiles,
    NoSandbox,
    Recipe,
    SourceFile,
    build,
)
from sanderling.image.gate.gate import MARK
from sanderling.oci import Platform

pytestmark = [pytest.mark.network, pytest.mark.timeout(600)]

SMALL = Limits(time_s=20, memory_bytes=400 << 20, temporary_bytes=32 << 20)


def recipe(tmp_path: Path, source: str, **changes: Any) -> Recipe:
    path = tmp_path / "score.py"
    path.write_text(source)
    return Recipe("demo/digits:1", SourceFile("score.py", path), **changes)


def sample(tmp_path: Path, content: bytes, name: str = "sample.json") -> SourceFile:
    path = tmp_path / name
    path.write_bytes(content)
    return SourceFile(name, path)


def texts(events: list[Event]) -> str:
    return "\n".join(event.text for event in events if event.step == "gate")


@pytest.fixture
def settings(shared_cache: Path) -> BuildSettings:
    return BuildSettings(shared_cache, gate=GateSettings(SMALL))


@pytest.fixture(autouse=True)
def nothing_is_left(tmp_path: Path, shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No process of a sandbox and no folder outlives its trial."""
    monkeypatch.setenv(MARK, str(tmp_path))
    yield
    assert boxed(tmp_path) == []
    assert not list((shared_cache / "gate").glob("*/uses/*"))


def boxed(folder: Path) -> list[bytes]:
    """The command lines of bubblewraps that this test started."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            with contextlib.suppress(OSError):
                if f"{MARK}={folder}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found.append((entry / "cmdline").read_bytes())
    return found


class TestWhatPasses:
    def test_init_and_run_are_called_inside_the_image(
        self, tmp_path: Path, settings: BuildSettings, log: Log, events: list[Event], model: Path
    ) -> None:
        source = """
import json, os, sys
from azureml.core.model import Model
def init():
    global size
    size = os.path.getsize(Model.get_model_path("digits"))
    os.environ["AZUREML_MODEL_DIR"], os.environ["LANG"]
def run(data):
    found = {"size": size, "uid": os.getuid(), "cwd": os.getcwd(), "python": sys.version_info[:2]}
    return found | {"got": json.loads(data)}
"""
        models = (ModelFiles("digits", 1, {"model.pkl": model}),)
        wanted = recipe(tmp_path, source, models=models, sample_input=sample(tmp_path, b"[1]"))
        build(wanted, settings, log)
        answer = (
            f'"size": {model.stat().st_size}, "uid": 65532, "cwd": "/var/azureml-app", "python": [3, 11], "got": [1]'
        )
        assert answer in texts(events)
        assert "init() 0." in texts(events)

    def test_without_a_sample_init_alone_is_tried_and_the_log_says_so(
        self, tmp_path: Path, settings: BuildSettings, log: Log, events: list[Event]
    ) -> None:
        build(recipe(tmp_path, "def init(): pass\ndef run(data): raise ValueError\n"), settings, log)
        assert "run() was not called: give a sample input" in texts(events)

    def test_the_same_content_is_not_tried_again_and_another_sample_is(
        self, tmp_path: Path, settings: BuildSettings, log: Log, events: list[Event]
    ) -> None:
        source = "import os, time\nA = os.urandom(4).hex()\ndef init(): pass\ndef run(data): return A + data\n"
        wanted = recipe(tmp_path, source, sample_input=sample(tmp_path, b'"a"'))
        build(wanted, settings, log)
        first = texts(events)
        events.clear()
        build(wanted, settings, log)
        assert "the same content passed before" in texts(events)
        assert texts(events).split("answered")[1][:30] == first.split("answered")[1][:30]
        events.clear()
        sample(tmp_path, b'"b"')
        build(wanted, settings, log)
        assert "passed before" not in texts(events)

    def test_a_schema_brings_its_own_sample(
        self, tmp_path: Path, settings: BuildSettings, log: Log, events: list[Event]
    ) -> None:
        # What the script sees of inference_schema is what the scoring server sees: a module of that name.
        source = """
import sys, types
util = types.ModuleType("inference_schema.schema_util")
util.is_schema_decorated = lambda f: True
util.get_input_schema = lambda f: {"type": "object", "example": {"data": [[1, 2]]}}
sys.modules["inference_schema.schema_util"] = util
def init(): pass
def run(data): return [len(row) for row in data]
"""
        build(recipe(tmp_path, source), settings, log)
        assert "answered the script's own sample with [2]" in texts(events)

    def test_a_thread_that_init_leaves_behind_holds_nothing_up(
        self, tmp_path: Path, settings: BuildSettings, log: Log
    ) -> None:
        source = "import threading, time\ndef init(): threading.Thread(target=time.sleep, args=(500,)).start()\n"
        build(recipe(tmp_path, source + "def run(data): pass\n"), settings, log)

    def test_an_image_for_another_processor_is_not_tried_and_the_log_says_so(
        self, tmp_path: Path, settings: BuildSettings, log: Log, events: list[Event]
    ) -> None:
        other = Platform("linux", "arm64" if os.uname().machine == "x86_64" else "amd64")
        build(recipe(tmp_path, "def init(): 1/0\ndef run(d): pass\n", platforms=(other,)), settings, log)
        assert "not tried: this machine is linux/" in texts(events)

    def test_the_gate_can_be_left_out(
        self, tmp_path: Path, settings: BuildSettings, log: Log, events: list[Event]
    ) -> None:
        build(recipe(tmp_path, "def init(): 1/0\ndef run(d): pass\n", gate=False), settings, log)
        assert "left out on request" in texts(events)


FAILURES = {
    "init raises": (
        "def init():\n    open('/no/such/file')\ndef run(d): pass\n",
        r"score\.py, line 2, in init\(\): FileNotFoundError: .*'/no/such/file'; mend it, or build without the gate",
    ),
    "init exits": (
        "import sys\ndef init():\n    sys.exit(0)\ndef run(d): pass\n",
        r"score\.py, line 3, in init\(\): SystemExit: 0",
    ),
    "init ends the process": (
        "import os\ndef init(): os._exit(0)\ndef run(d): pass\n",
        r"score\.py, in init\(\): the process ended with code 0 before it came back",
    ),
    "a module is missing": (
        "\nimport pandas.io\ndef init(): pass\ndef run(d): pass\n",
        r"score\.py, line 2, in loading it: ModuleNotFoundError: No module named 'pandas'; add the package that "
        r"brings 'pandas' to the environment file",
    ),
    "run raises": (
        "import json\ndef init(): pass\ndef run(d):\n    return json.loads(d)['x']\n",
        r"score\.py, line 4, in run\(\): (KeyError|TypeError)",
    ),
    "run answers what is no JSON": (
        "def init(): pass\ndef run(d): return {1, 2}\n",
        r"in run\(\): BadOutput: what run\(\) returned is no JSON: .*set",
    ),
    "run takes nothing": (
        "def init(): pass\ndef run(): pass\n",
        r"score\.py, in loading it: UserScriptError: run\(\) needs to accept",
    ),
    "a crash": (
        "import os, signal\ndef init(): os.kill(os.getpid(), signal.SIGSEGV)\ndef run(d): pass\n",
        r"in init\(\): the process was ended by signal 11",
    ),
}


@pytest.mark.parametrize(("source", "words"), FAILURES.values(), ids=FAILURES.keys())
def test_a_script_that_does_not_score_is_told_with_file_and_line(
    tmp_path: Path, settings: BuildSettings, log: Log, source: str, words: str
) -> None:
    with pytest.raises(GateFailed, match=words) as caught:
        build(recipe(tmp_path, source, sample_input=sample(tmp_path, b"[]")), settings, log)
    assert caught.value.file == "score.py"


def test_the_traceback_is_in_the_log_and_begins_in_the_script(
    tmp_path: Path, settings: BuildSettings, log: Log, events: list[Event]
) -> None:
    (tmp_path / "helper.py").write_text("\n\ndef load():\n    return {}['model']\n")
    files = (SourceFile("helper.py", tmp_path / "helper.py"),)
    source = "import helper\ndef init():\n    print('looking')\n    helper.load()\ndef run(d): pass\n"
    with pytest.raises(GateFailed) as caught:
        build(recipe(tmp_path, source, files=files), settings, log)
    failed = caught.value
    assert (failed.stage, failed.file, failed.line) == ("init", "helper.py", 4)
    told = [event.text for event in events if event.level == "error"]
    assert told == list(failed.lines)
    assert told[0] == "Traceback (most recent call last):"
    assert told[1] == '  File "/var/azureml-app/score.py", line 4, in init'
    assert told[-1] == "KeyError: 'model'"
    assert len(told) <= 30


HOSTILE = {
    "an endless loop": ("def init():\n    while True: pass\n", "it was not done after 4 s, the gate's limit"),
    "deaf to signals": (
        "import signal, time\ndef init():\n    for n in range(1, 32):\n        try: signal.signal(n, signal.SIG_IGN)\n"
        "        except OSError: pass\n    time.sleep(1000)\n",
        "it was not done after 4 s, the gate's limit",
    ),
    "a fork bomb": (
        "import os\ndef init():\n    while True: os.fork()\n",
        "BlockingIOError|it was not done after 4 s|took more than",
    ),
    "a memory hog": (
        "import time\ndef init():\n    held = []\n    while True: held.append(bytes(range(256)) * 40_000)\n",
        "it took more than 419.4 MB of memory|MemoryError",
    ),
    "memory in many processes": (
        "import os, time\ndef init():\n    for _ in range(20):\n        if os.fork() == 0:\n"
        "            held = bytes(range(256)) * 200_000\n            time.sleep(1000)\n    time.sleep(1000)\n",
        "it took more than 419.4 MB of memory",
    ),
    "a disk filler": (
        "def init():\n    with open('/tmp/x', 'wb') as f:\n        for _ in range(10_000): f.write(bytes(1 << 20))\n",
        "OSError: .*No space left on device",
    ),
    "a writer everywhere": (
        "import os\ndef init():\n"
        "    for top in ('/', '/var/azureml-app', '/usr', '/etc', '/home', '/sys', '/dev', '/proc/sys'):\n"
        "        try: open(os.path.join(top, 'x'), 'w')\n        except OSError: continue\n"
        "        raise ValueError('wrote to ' + top)\n    1/0\n",
        "ZeroDivisionError",
    ),
    "a killer of all": (
        "import os\ndef init():\n    os.kill(-1, 9)\n    1/0\n",
        "ended by signal 9|ZeroDivision|Lookup",
    ),
}


@pytest.mark.parametrize(("source", "words"), HOSTILE.values(), ids=HOSTILE.keys())
def test_a_hostile_script_is_ended_within_its_limits(
    tmp_path: Path, shared_cache: Path, log: Log, source: str, words: str
) -> None:
    limits = Limits(time_s=4, memory_bytes=400 << 20, temporary_bytes=32 << 20, processes=100)
    began = time.monotonic()
    with pytest.raises(GateFailed, match=words):
        build(
            recipe(tmp_path, source + "def run(d): pass\n"), BuildSettings(shared_cache, gate=GateSettings(limits)), log
        )
    assert time.monotonic() - began < 60


def test_a_process_that_goes_its_own_way_does_not_outlive_the_gate(
    tmp_path: Path, settings: BuildSettings, log: Log
) -> None:
    source = """
import os, signal, time
def init():
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            while True: time.sleep(0.01)
        os._exit(0)
def run(d): pass
"""
    build(recipe(tmp_path, source), settings, log)


def test_a_script_that_prints_much_is_read_to_its_end(tmp_path: Path, settings: BuildSettings, log: Log) -> None:
    source = "import sys\ndef init():\n    for _ in range(100): sys.stdout.write('x' * (1 << 20) + '\\n')\n"
    build(recipe(tmp_path, source + "def run(d): pass\n"), settings, log)


def test_there_is_no_network(tmp_path: Path, settings: BuildSettings, log: Log) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        seen: list[object] = []
        listener.settimeout(0.1)
        thread = threading.Thread(target=lambda: _accept(listener, seen))
        thread.start()
        source = f"""
import os, socket
def init():
    names = [n for n in os.listdir('/sys/class/net') if n != 'lo'] if os.path.isdir('/sys/class/net') else []
    try: socket.create_connection(('127.0.0.1', {port}), 2)
    except ConnectionRefusedError: raise ValueError('none: %s' % names)
def run(d): pass
"""
        with pytest.raises(GateFailed, match=r"ValueError: none: \[\]"):
            build(recipe(tmp_path, source), settings, log)
    thread.join()
    assert not seen


def _accept(listener: socket.socket, seen: list[object]) -> None:
    while True:
        try:
            seen.append(listener.accept())
        except TimeoutError:
            continue
        except OSError:
            return


def test_nothing_of_the_host_is_seen(
    tmp_path: Path, settings: BuildSettings, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hush")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hush")
    source = f"""
import json, os
def target(n):
    try: return os.readlink(f'/proc/self/fd/{{n}}')
    except OSError: return ''
def init():
    environ = set()
    for pid in filter(str.isdigit, os.listdir('/proc')):
        try: environ.add(open(f'/proc/{{pid}}/environ').read())
        except OSError: pass
    found = {{
        'file': os.path.exists({str(secret)!r}),
        'home': os.path.exists('/root/.bashrc'),
        'environ': [t for t in [str(dict(os.environ)), *environ] if 'hush' in t],
        'processes': sorted(int(p) for p in os.listdir('/proc') if p.isdigit())[2:],
        'fds': [t for t in map(target, os.listdir('/proc/self/fd')) if t and not t.startswith(('pipe:', '/dev/null'))],
    }}
    raise ValueError(json.dumps(found))
def run(d): pass
"""
    with pytest.raises(GateFailed) as caught:
        build(recipe(tmp_path, source), settings, log)
    found = json.loads(str(caught.value).split("ValueError: ")[1].split("; mend")[0])
    assert found == {"file": False, "home": False, "environ": [], "processes": [], "fds": []}


class TestWithoutSandbox:
    @pytest.fixture
    def no_bwrap(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A bubblewrap that this machine does not let do its work."""
        program = tmp_path / "bwrap"
        program.write_text("#!/bin/sh\necho 'bwrap: setting up uid map: Permission denied' >&2\nexit 1\n")
        program.chmod(0o755)
        tmp_path.chmod(0o755)
        monkeypatch.setattr("sanderling.image.gate.gate.find_bwrap", lambda: program)

    @pytest.mark.usefixtures("no_bwrap")
    def test_the_log_says_that_nothing_was_tried_and_why(
        self, tmp_path: Path, settings: BuildSettings, log: Log, events: list[Event]
    ) -> None:
        build(recipe(tmp_path, "def init(): 1/0\ndef run(d): pass\n"), settings, log)
        (told,) = [event for event in events if event.step == "gate"]
        assert told.level == "warning"
        assert "setting up uid map: Permission denied); allow unprivileged user namespaces" in told.text

    @pytest.mark.usefixtures("no_bwrap")
    def test_where_it_is_required_nothing_is_built(self, tmp_path: Path, shared_cache: Path, log: Log) -> None:
        required = BuildSettings(shared_cache, gate=GateSettings(SMALL, is_required=True))
        with pytest.raises(NoSandbox, match="no sandbox can be made here"):
            build(recipe(tmp_path, "def init(): 1/0\ndef run(d): pass\n"), required, log)


def test_limits_that_cannot_be_are_refused() -> None:
    for wrong in ({"time_s": 0}, {"time_s": 1e9}, {"memory_bytes": 1000}):
        with pytest.raises(Invalid):
            Limits(**wrong)  # type: ignore[arg-type]
