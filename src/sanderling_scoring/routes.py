"""Which path answers what: the HTTP contract, apart from sockets and from the script.

/               Healthy, as soon as init() is done
/ready          200 while the scorer takes work, 503 while it cannot
/score          run(); GET, POST, OPTIONS
/metrics        Prometheus
/swagger.json   the API description
"""

from __future__ import annotations

import os

from sanderling_scoring import __version__, swagger
from sanderling_scoring.http_response import Response, message
from sanderling_scoring.metrics import resident_bytes
from sanderling_scoring.scorer import Job

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Optional

    from sanderling_scoring.answers import Answer
    from sanderling_scoring.http_parser import Request
    from sanderling_scoring.metrics import Metrics
    from sanderling_scoring.scorer import Scorer
    from sanderling_scoring.script import Script
    from sanderling_scoring.settings import Settings

    Deliver = Callable[[Response], None]

MAX_ID_LENGTH = 100
SERVER_VERSION = ("x-ms-server-version", f"sanderling/{__version__}")
_NOT_FAILED = ("x-ms-run-function-failed", "False")
_FAILED = ("x-ms-run-function-failed", "True")
_NOT_FOUND = (
    "The requested URL was not found on the server. "
    "If you entered the URL manually please check your spelling and try again."
)
_NOT_ALLOWED = "The method is not allowed for the requested URL."
_BUSY = "Too many requests are waiting to be scored. Try again later."


class Routes:
    """Answer requests: at once, or through `deliver` when run() is done."""

    def __init__(self, settings: Settings, script: Script, scorer: Scorer, metrics: Metrics) -> None:
        self._settings = settings
        self._script = script
        self._scorer = scorer
        self._metrics = metrics
        self._common = (SERVER_VERSION,) if settings.shows_version else ()
        self.sent = metrics.count_response
        self.gauges: Callable[[], dict[str, float]] = dict  # set by the server: its connections
        prefix = settings.path_prefix
        self._score_path = f"{prefix}/score"
        self._pages = {
            f"{prefix}/": ("/", self._health),
            f"{prefix}/ready": ("/ready", self._ready),
            f"{prefix}/metrics": ("/metrics", self._render_metrics),
            f"{prefix}/swagger.json": ("/swagger.json", self._swagger),
        }
        if prefix:
            self._pages["/"] = ("/", self._health)  # engines probe the root

    def handle(self, request: Request, deliver: Deliver) -> Optional[Response]:
        """Return the response, or None when `deliver` will be called with it, on any thread."""
        path = _path_of(request.target)
        if path == self._score_path:
            return self._score(request, deliver)
        page = self._pages.get(path)
        if page is None:
            return _at("other", message(404, _NOT_FOUND, _NOT_FAILED))
        route, answer = page
        if request.method not in ("GET", "HEAD"):
            return _at(route, message(405, _NOT_ALLOWED, _NOT_FAILED, ("Allow", "GET, HEAD")))
        response = answer(request)
        response.headers = (*response.headers, *self._common, *_ids(request))
        return _at(route, response)

    def _score(self, request: Request, deliver: Deliver) -> Optional[Response]:
        if request.method not in ("GET", "POST", "OPTIONS"):
            allow = ("Allow", "GET, POST, OPTIONS")
            return _at("/score", message(405, _NOT_ALLOWED, _NOT_FAILED, allow))
        too_long = _find_long_id(request)
        headers = (*self._common, *_ids(request), *self._cors(request))
        if too_long:
            text = f"{too_long} must not exceed {MAX_ID_LENGTH} characters"
            return _at("/score", message(431, text, _NOT_FAILED, *headers))
        if request.method == "OPTIONS" and self._script.form != "rawhttp":
            return _at("/score", Response(200, b"", "text/html; charset=utf-8", (_NOT_FAILED, *headers)))

        def answered(answer: Answer) -> None:
            deliver(_at("/score", _from_answer(answer, headers)))

        if self._scorer.submit(Job(request, answered)):
            return None
        return _at("/score", message(503, _BUSY, ("Retry-After", "1"), _NOT_FAILED, *headers))

    def _health(self, request: Request) -> Response:
        return Response(200, b"Healthy", "text/html; charset=utf-8")

    def _ready(self, request: Request) -> Response:
        if self._scorer.is_stuck:
            return message(503, "run() is past its time limit and has not come back", ("Retry-After", "5"))
        if self._scorer.waiting >= self._settings.max_waiting:
            return message(503, _BUSY, ("Retry-After", "1"))
        return Response(200, b"Ready", "text/html; charset=utf-8")

    def _render_metrics(self, request: Request) -> Response:
        gauges = {"waiting": float(self._scorer.waiting), "resident_bytes": float(resident_bytes()), **self.gauges()}
        return Response(200, self._metrics.render(gauges).encode(), "text/plain; version=0.0.4; charset=utf-8")

    def _swagger(self, request: Request) -> Response:
        version = "2"
        for pair in request.target.partition("?")[2].split("&"):
            name, _, value = pair.partition("=")
            if name == "version":
                version = value
        settings = self._settings
        body = swagger.document(
            version,
            folder=settings.app_root,
            name=settings.service_name,
            service_version=settings.service_version,
            prefix=settings.path_prefix,
            run=self._script.run,
        )
        return message(404, swagger.UNKNOWN_VERSION) if body is None else Response(200, body)

    def _cors(self, request: Request) -> tuple[tuple[str, str], ...]:
        origin = request.headers.get("origin")
        allowed = self._settings.cors_origins
        if origin is None or not allowed:
            return ()
        if "*" in allowed:
            headers = [("Access-Control-Allow-Origin", "*")]
        elif origin in allowed:
            headers = [("Access-Control-Allow-Origin", origin), ("Vary", "Origin")]
        else:
            return ()
        if request.method == "OPTIONS":
            headers.append(("Access-Control-Allow-Methods", "GET, POST"))
            wanted = request.headers.get("access-control-request-headers")
            if wanted:
                headers.append(("Access-Control-Allow-Headers", wanted))
        return tuple(headers)


def _at(route: str, response: Response) -> Response:
    response.route = route
    return response


def _path_of(target: str) -> str:
    path = target.partition("?")[0]
    if path.startswith("/"):
        return path
    if path.lower().startswith(("http://", "https://")):  # the absolute form, RFC 9112, section 3.2.2
        return "/" + path.partition("://")[2].partition("/")[2]
    return path


def _find_long_id(request: Request) -> str:
    headers = request.headers
    if len(headers.get("x-request-id", "")) > MAX_ID_LENGTH:
        return "x-request-id"
    if max(len(headers.get("x-ms-request-id", "")), len(headers.get("x-ms-client-request-id", ""))) > MAX_ID_LENGTH:
        return "x-ms-request-id and x-ms-client-request-id"
    return ""


def _ids(request: Request) -> tuple[tuple[str, str], ...]:
    """Return the identity fields: what the client sent comes back, what it did not is made."""
    headers = request.headers
    request_id = headers.get("x-request-id") or _new_id()
    ms_id = headers.get("x-ms-request-id")
    client_id = headers.get("x-ms-client-request-id")
    trace = headers.get("traceid")
    if len(request_id) > MAX_ID_LENGTH:
        request_id = _new_id()
    if ms_id is None and client_id is None and trace is None:
        return (("x-request-id", request_id), ("x-ms-request-id", request_id))
    ids = [("x-request-id", request_id), ("x-ms-request-id", ms_id or client_id or request_id)]
    if client_id or ms_id:
        ids.append(("x-ms-client-request-id", client_id or ms_id or ""))
    if trace is not None:
        ids.append(("TraceId", trace))
    return tuple((name, value[:MAX_ID_LENGTH]) for name, value in ids)


def _new_id() -> str:
    bits = os.urandom(16).hex()
    return f"{bits[:8]}-{bits[8:12]}-4{bits[13:16]}-{'89ab'[int(bits[16], 16) & 3]}{bits[17:20]}-{bits[20:]}"


def _from_answer(answer: Answer, headers: tuple[tuple[str, str], ...]) -> Response:
    failed = _FAILED if answer.has_failed else _NOT_FAILED
    if answer.run_ms >= 0:
        headers = (failed, ("x-ms-run-fn-exec-ms", f"{answer.run_ms:.3f}"), *headers)
    else:
        headers = (failed, *headers)
    return Response(answer.status, answer.body, answer.content_type, (*answer.headers, *headers))
