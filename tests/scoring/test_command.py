"""The real process: how it starts, what it says of bad scripts, and how it stops."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sanderling_scoring import __version__
from tests.scoring.conftest import Serve
from tests.scoring.serving import SRC, ScoringProcess, read_responses

ECHO = """
    def init():
        print("init was here")

    def run(data):
        return {"got": data}
"""

BAD_SCRIPTS = {
    "no init": ("def run(x): return x", "UserScriptError: User script at {path} does not have a init() function"),
    "no run": ("def init(): pass", "UserScriptError: User script at {path} does not have a run() function defined."),
    "run is no function": ("def init(): pass\nrun = 3", "does not have a run() function defined."),
    "init raises": ("def init(): raise ValueError('no such file')\ndef run(x): pass", "ValueError: no such file"),
    "init exits": ("import sys\ndef init(): sys.exit(0)\ndef run(x): pass", "failed in init(): SystemExit: 0"),
    "syntax error": ("def init(:", "SyntaxError"),
    "import error": ("import not_there\ndef init(): pass\ndef run(x): pass", "No module named 'not_there'"),
    "star args": (
        "def init(): pass\ndef run(*args): pass",
        "run() cannot accept positional-only arguments, *args, or **kwargs.",
    ),
    "keyword args": (
        "def init(): pass\ndef run(x, **more): pass",
        "run() cannot accept positional-only arguments, *args, or **kwargs.",
    ),
    "positional only": (
        "def init(): pass\ndef run(x, /): pass",
        "run() cannot accept positional-only arguments, *args, or **kwargs.",
    ),
    "no argument": ("def init(): pass\ndef run(): pass", "run() needs to accept an argument for input data."),
    "headers only": (
        "def init(): pass\ndef run(request_headers): pass",
        "run() needs to accept an argument for input data.",
    ),
    "two arguments": ("def init(): pass\ndef run(a, b): pass", "'b' needs a default"),
    "a missing model": (
        "from azureml.core.model import Model\ndef init(): Model.get_model_path('m')\ndef run(x): pass",
        "ModelNotFoundException: Model not found in cache or in root at ./m",
    ),
}


@pytest.mark.parametrize(("source", "text"), BAD_SCRIPTS.values(), ids=BAD_SCRIPTS.keys())
def test_a_script_that_cannot_start_ends_with_code_3_and_says_why(serve: Serve, source: str, text: str) -> None:
    process = serve(source)
    assert process.exit_code() == 3
    assert text.format(path=process.folder / "score.py") in process.log


def test_a_script_that_is_not_there_is_named(serve: Serve) -> None:
    process = serve(None)
    assert process.exit_code() == 3
    assert f"there is no scoring script at {process.folder / 'score.py'}" in process.log


def test_the_traceback_of_a_failed_init_names_the_line(serve: Serve) -> None:
    process = serve("def init():\n    open('weights.bin')\ndef run(x): pass")
    assert process.exit_code() == 3
    assert 'score.py", line 2, in init' in process.log
    assert "FileNotFoundError" in process.log


def test_a_failed_init_lists_the_first_200_files_of_the_model_folder(serve: Serve, tmp_path: Path) -> None:
    models = tmp_path / "models"
    models.mkdir()
    for number in range(250):
        (models / f"part-{number:03d}").touch()
    process = serve("def init(): raise OSError\ndef run(x): pass", env={"AZUREML_MODEL_DIR": str(models)})
    assert process.exit_code() == 3
    assert f"    {models}/part-000\n" in process.log
    assert f"    {models}/part-199\n" in process.log
    assert "part-200" not in process.log


def test_what_the_script_prints_is_on_standard_output_at_once(serve: Serve) -> None:
    process = serve(ECHO)
    assert process.port
    assert process.stdout == "init was here\n"


def test_a_curl_line_is_printed_on_request_and_works(serve: Serve) -> None:
    process = serve(ECHO, args=["--hello"])
    port = process.port
    deadline = time.monotonic() + 5
    while "curl" not in process.stdout and time.monotonic() < deadline:
        time.sleep(0.01)
    assert f"http://127.0.0.1:{port}/score" in process.stdout


def test_flags_win_over_the_environment(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text(
        "import os\ndef init(): pass\ndef run(x): return os.environ['AZUREML_MODEL_DIR']\n"
    )
    process = serve(None, args=["--entry-script", str(tmp_path / "other.py"), "--model-dir", str(tmp_path / "m")])
    with process.client() as client:
        assert client.post("/score", content="x").json() == str(tmp_path / "m")


def test_a_port_in_use_is_named_before_init_runs(serve: Serve) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        process = serve(ECHO, env={"SERVER_PORT": str(port)})
        assert process.exit_code() == 1
    assert f"cannot listen on 127.0.0.1 port {port}" in process.log
    assert process.stdout == ""


@pytest.mark.parametrize(
    ("env", "args"),
    [({"SERVER_PORT": "http"}, []), ({}, ["--port", "70000"]), ({}, ["--nonsense"]), ({"SCORING_TIMEOUT_MS": "0"}, [])],
)
def test_wrong_usage_ends_with_code_2(serve: Serve, env: dict[str, str], args: list[str]) -> None:
    process = serve(ECHO, env=env, args=args)
    assert process.exit_code() == 2
    assert process.log


def test_the_main_py_of_2018_runs_the_script_that_it_wraps(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text("def init(): print('driver')\ndef run(raw): return 'driver ' + raw\n")
    (tmp_path / "main.py").write_text(
        "import driver as driver_module\ndef init(): driver_module.init()\ndef run(http_body, request_headers): 1 / 0\n"
    )
    process = serve(None, env={"AZUREML_ENTRY_SCRIPT": ""})
    with process.client() as client:
        assert client.post("/score", content="x").json() == "driver x"


def test_a_stop_while_init_runs_ends_with_code_0(serve: Serve) -> None:
    process = serve("import time\ndef init():\n    print('in init')\n    time.sleep(60)\ndef run(x): pass")
    while "in init" not in process.stdout:
        time.sleep(0.01)
    process.terminate()
    assert process.exit_code(5) == 0


def test_an_idle_server_stops_at_once_with_code_0(serve: Serve) -> None:
    process = serve(ECHO)
    assert process.port
    started = time.monotonic()
    process.terminate()
    assert process.exit_code() == 0
    assert time.monotonic() - started < 2


def test_a_stop_answers_what_has_begun_and_takes_nothing_new(serve: Serve) -> None:
    process = serve("import time\ndef init(): pass\ndef run(x):\n    time.sleep(0.5)\n    return x")
    port = process.port
    request = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\n\r\n"
    with process.connect() as running, process.connect() as queued, process.connect() as receiving:
        running.sendall(request + b'"a')
        queued.sendall(request + b'"b')
        receiving.sendall(request + b'"')
        time.sleep(0.2)
        process.terminate()
        process.wait_for_log("SIGTERM")
        time.sleep(0.1)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=1)
        receiving.sendall(b"c")
        assert read_responses(running, 1) == [(200, b'"\\"a"')]
        assert read_responses(queued, 1) == [(200, b'"\\"b"')]
        assert read_responses(receiving, 1) == [(200, b'"\\"c"')]
    assert process.exit_code(5) == 0


def test_a_run_that_never_ends_does_not_hold_up_the_stop(serve: Serve) -> None:
    process = serve("import time\ndef init(): pass\ndef run(x):\n    print('running')\n    while True: time.sleep(1)")
    with process.connect() as sock:
        sock.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n")
        while "running" not in process.stdout:
            time.sleep(0.01)
        started = time.monotonic()
        process.terminate()
        assert process.exit_code() == 0
        assert time.monotonic() - started < 5


def test_a_script_may_fork_workers_and_end_them(serve: Serve) -> None:
    source = """
        import os, signal, time
        def init(): pass
        def run(data):
            child = os.fork()
            if not child:
                time.sleep(60)
                os._exit(9)
            os.kill(child, signal.SIGTERM)
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    """
    process = serve(source)
    with process.client() as client:
        assert client.post("/score").json() == -15
        assert client.post("/score").json() == -15
    assert "SIGTERM" not in process.log


def test_a_script_with_the_name_of_a_module_does_not_hide_it(serve: Serve, tmp_path: Path) -> None:
    (tmp_path / "json.py").write_text("def init(): pass\ndef run(x):\n    return __name__")
    process = serve(None, env={"AZUREML_ENTRY_SCRIPT": "json.py"})
    with process.client() as client:
        assert client.post("/score").json() == "entry_module"


def test_the_version_flag_free_help_names_the_variables() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "sanderling_scoring", "--help"],
        env={**os.environ, "PYTHONPATH": str(SRC)},
        capture_output=True,
        text=True,
        check=True,
        timeout=20,
    )
    assert "AZUREML_ENTRY_SCRIPT" in done.stdout
    assert __version__


OTHERS = sorted(Path.home().joinpath(".pyenv", "versions").glob("3.*/bin/python"))
OTHERS = [path for path in OTHERS if tuple(int(n) for n in path.parts[-3].split(".")[:2]) >= (3, 9)]


@pytest.mark.parametrize("python", OTHERS or [None], ids=lambda p: p.parts[-3] if p else "none")
def test_it_runs_on_every_python_here_from_3_9(serve: Serve, python: Path | None) -> None:
    if python is None:
        pytest.skip("no other Python is installed here")
    process: ScoringProcess = serve(ECHO, python=str(python))
    with process.client() as client:
        assert client.post("/score", content="hé").json() == {"got": "hé"}
        assert client.get("/metrics").status_code == 200
        assert client.get("/swagger.json").status_code == 200
    modules = ["command", "module_client", "workload", "mqtt_client", "swagger", "aml_http", "azureml_names"]
    line = "import " + ", ".join(f"sanderling_scoring.{name}" for name in modules)
    subprocess.run([str(python), "-W", "error", "-c", line], env={"PYTHONPATH": str(SRC)}, check=True, timeout=30)
    process.terminate()
    assert process.exit_code() == 0


def test_the_package_is_small() -> None:
    files = list((SRC / "sanderling_scoring").rglob("*.py"))
    assert sum(file.stat().st_size for file in files) < 150_000
