"""Try a script once, as a build does before its image is published: load it, init(), run() with a sample.

The report is lines of JSON. One is written before each stage (`{"stage": "init"}`),
so that whoever reads knows where a process was that did not come back. The last
line says how it ended:

    {"stage": "done", "seconds": {"load": 0.8, "init": 0.1, "run": 0.004}, "sample": "given",
     "answer": {"status": 200, "contentType": "application/json", "bytes": 3, "text": "[5]"}}
    {"stage": "failed", "in": "init", "error": "ValueError: no such file", "missing": null,
     "file": "score.py", "line": 7, "function": "init", "traceback": ["Traceback ..."]}

"sample" is "given", "schema" (the script's own, from @input_schema) or null, when
run() was not called. Exit codes: 0 it scores; 3 it does not.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback

from sanderling_scoring import script
from sanderling_scoring.http_parser import Request

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType
    from typing import Any, Optional

    from sanderling_scoring.answers import Answer
    from sanderling_scoring.script import Script
    from sanderling_scoring.settings import Settings

DONE, BAD_SCRIPT = 0, 3
MAX_LINES = 200
MAX_TEXT = 2000


class _Report:
    """Writes lines to a file descriptor that the script's children do not get."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.stage = ""
        self.seconds: dict[str, float] = {}
        if fd > 2:
            os.set_inheritable(fd, False)

    def begin(self, stage: str) -> float:
        self.stage = stage
        self.write({"stage": stage})
        return time.monotonic()

    def end(self, began: float) -> None:
        self.seconds[self.stage] = round(time.monotonic() - began, 4)

    def write(self, line: dict[str, Any]) -> None:
        left = memoryview(json.dumps(line).encode() + b"\n")
        while left:
            left = left[os.write(self._fd, left) :]


def run(settings: Settings) -> int:
    """Try the script of *settings*; the process ends here, for the script's threads may not."""
    report = _Report(settings.report_fd)
    code = _run(settings, report)
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)


def _run(settings: Settings, report: _Report) -> int:
    try:
        began = report.begin("load")
        loaded = script.load_in_app(settings)
        report.end(began)
        began = report.begin("init")
        loaded.init()
        report.end(began)
        request, origin = _request(settings, loaded)
        answer = None
        if request is not None:
            began = report.begin("run")
            answer = loaded.attempt(request)
            report.end(began)
    except BaseException as e:  # noqa: BLE001 - whatever the script raises is its author's to see
        report.write(_failure(e, report.stage, settings.app_root))
        return BAD_SCRIPT
    if answer is not None and (answer.has_failed or answer.status >= 400):
        error = f"run() answered {answer.status} to the sample: {_text(answer)}"
        report.write({"stage": "failed", "in": "run", "error": error, "traceback": []})
        return BAD_SCRIPT
    line: dict[str, Any] = {"stage": "done", "seconds": report.seconds, "sample": origin}
    if answer is not None:
        line["answer"] = {
            "status": answer.status,
            "contentType": answer.content_type,
            "bytes": len(answer.body),
            "text": _text(answer),
        }
    report.write(line)
    return DONE


def _request(settings: Settings, loaded: Script) -> tuple[Optional[Request], Optional[str]]:
    """Return the request that run() gets, and where its body is from."""
    if settings.sample:
        with open(settings.sample, "rb") as file:
            body = file.read()
        return _post(body, _content_type(settings.sample)), "given"
    if loaded.form == script.SCHEMA:
        util = sys.modules["inference_schema.schema_util"]
        example = util.get_input_schema(loaded.run).get("example")
        if isinstance(example, dict) and example:
            return _post(json.dumps(example).encode(), "application/json"), "schema"
    return None, None


def _post(body: bytes, content_type: str) -> Request:
    headers = {"host": "localhost", "content-type": content_type, "content-length": str(len(body))}
    return Request("POST", "/score", "1.1", headers, False, body)


def _content_type(path: str) -> str:
    import mimetypes

    return mimetypes.guess_type(path)[0] or "application/json"


def _text(answer: Answer) -> str:
    return answer.body[:MAX_TEXT].decode("utf-8", "replace")


def _failure(raised: BaseException, stage: str, app_root: str) -> dict[str, Any]:
    lines = "".join(traceback.format_exception(type(raised), raised, _beyond_us(raised))).splitlines()
    file, line, function = _place(raised, app_root)
    said = str(raised)
    return {
        "stage": "failed",
        "in": stage,
        "error": (f"{type(raised).__name__}: {said}" if said else type(raised).__name__)[:MAX_TEXT],
        "missing": raised.name if isinstance(raised, ModuleNotFoundError) else None,
        "file": file,
        "line": line,
        "function": function,
        "traceback": lines[-MAX_LINES:],
    }


def _beyond_us(raised: BaseException) -> Optional[TracebackType]:
    """Return the traceback without the steps of ours that led to the script."""
    found = raised.__traceback__
    ours = os.path.dirname(__file__)
    while found is not None and found.tb_frame.f_code.co_filename.startswith((ours, "<frozen importlib")):
        found = found.tb_next
    return found


def _place(raised: BaseException, app_root: str) -> tuple[Optional[str], Optional[int], Optional[str]]:
    """Return the last place in the user's own files that the error came through."""
    root = os.path.join(os.path.realpath(app_root), "")
    found = None
    for frame, line in traceback.walk_tb(raised.__traceback__):
        path = os.path.realpath(frame.f_code.co_filename)
        if path.startswith(root):
            found = (path[len(root) :], line, frame.f_code.co_name)
    if isinstance(raised, SyntaxError) and raised.filename:
        path = os.path.realpath(raised.filename)
        if path.startswith(root):
            return path[len(root) :], raised.lineno, None
    return found or (None, None, None)
