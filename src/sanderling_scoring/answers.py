"""What `run()` gave back, as the HTTP and the message side send it.

The texts and rules are those of azureml's inference server, so that clients that
parse them go on working (the contract's section on return values).
"""

from __future__ import annotations

import json

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

INTERNAL_ERROR = "An unexpected internal error occurred. Check the logs for more info."
SCRIPT_ERROR = "An unexpected error occurred in scoring script. Check the logs for more info."

JSON_TYPE = "application/json"
TEXT_TYPE = "text/html; charset=utf-8"  # what azureml's responses say of text

# What the server says itself; a script that says it too is not listened to.
_OWN_FIELDS = frozenset(("x-request-id", "content-length", "connection", "date", "transfer-encoding"))


class Answer:
    """The outcome of one call: what to send, whether the script failed, and how long it took.

    `cause` is one line for the message side's error output; HTTP clients do not see it.
    """

    __slots__ = ("body", "cause", "content_type", "has_failed", "headers", "run_ms", "status")

    def __init__(
        self,
        status: int,
        body: bytes,
        content_type: str = JSON_TYPE,
        headers: tuple[tuple[str, str], ...] = (),
        has_failed: bool = False,
        cause: str = "",
    ) -> None:
        self.status = status
        self.body = body
        self.content_type = content_type
        self.headers = headers
        self.has_failed = has_failed
        self.cause = cause
        self.run_ms = -1.0


def error(status: int, text: str, *, has_failed: bool = False, cause: str = "") -> Answer:
    """Return the answer `{"message": text}`."""
    return Answer(status, json.dumps({"message": text}).encode(), has_failed=has_failed, cause=cause or text)


def timed_out(after_s: float) -> Answer:
    """Return the answer to a call that was given up."""
    return error(500, f"Scoring timeout after {int(after_s * 1000)} ms", has_failed=True)


def from_return_value(value: Any) -> Answer:
    """Turn what run() returned into an answer; raises TypeError or ValueError when it cannot be JSON.

    A string is quoted, as azureml does: a script that returns `json.dumps(...)`
    answers JSON in JSON, and its clients parse twice. None is `{}`.
    """
    if value is None:
        return Answer(200, b"{}")
    kind = type(value)
    if kind is not dict and kind is not list and kind is not str and is_response(value):
        return _from_response(value)
    return Answer(200, json.dumps(value).encode())


def is_response(value: Any) -> bool:
    """Whether the value is an AMLResponse, or a response of Flask's, if the script brought Flask."""
    return hasattr(value, "status_code") and hasattr(value, "get_data") and hasattr(value, "headers")


def _from_response(value: Any) -> Answer:
    content_type = ""
    headers = []
    has_failed = value.status_code >= 500
    for name, text in value.headers.items():
        lower = name.lower()
        if lower == "content-type":
            content_type = str(text)
        elif lower == "x-ms-run-function-failed":
            has_failed = has_failed or str(text).lower() == "true"
        elif lower not in _OWN_FIELDS:
            headers.append((str(name), str(text)))
    return Answer(
        int(value.status_code), bytes(value.get_data()), content_type, tuple(headers), has_failed,
        f"the script answered {value.status_code}" if has_failed else "",
    )  # fmt: skip
