"""The module's HTTP interface, as a program on the device uses it."""

import http.client
import json
from collections.abc import Sequence
from time import perf_counter

from sanderling.demo.answers import Answers
from sanderling.errors import Unavailable

HOST = "127.0.0.1"


def score(port: int, digits: Sequence[Sequence[float]], way: str) -> Answers:
    """Score *digits* one by one over one connection.

    Raises Unavailable when the module does not answer as it should.
    """
    predictions, seconds = {}, {}
    connection = http.client.HTTPConnection(HOST, port, timeout=30)
    try:
        for index, digit in enumerate(digits):
            began = perf_counter()
            connection.request("POST", "/score", request_body(digit), {"Content-Type": "application/json"})
            response = connection.getresponse()
            body = response.read()
            seconds[index] = perf_counter() - began
            if response.status != 200:
                raise Unavailable(f"/score answered {response.status}: {body[:200].decode(errors='replace')}")
            predictions[index] = int(json.loads(body)[0])
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        raise Unavailable(f"/score on port {port}: {type(error).__name__}: {error}") from error
    finally:
        connection.close()
    return Answers(way, predictions, seconds)


def request_body(digit: Sequence[float]) -> bytes:
    """What score.py takes: one digit."""
    return json.dumps({"data": [digit]}).encode()
