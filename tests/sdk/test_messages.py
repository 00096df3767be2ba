from itertools import islice
from typing import Any

import httpx

from sanderling import Messages, Workspace
from sanderling.sdk.client import Client


def entry(sequence: int) -> dict[str, Any]:
    return {
        "sequence": sequence,
        "deviceId": "d",
        "moduleId": "m",
        "output": "amlOutput",
        "enqueuedAt": "2026-05-01T10:00:00.250Z",
        "properties": {"digit": "3"},
        "systemProperties": {"contentType": "application/json"},
        "body": [3],
        "sizeBytes": 3,
    }


def test_following_goes_on_where_the_last_page_ended() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        after = request.url.params["after"]
        asked.append(after)
        first = 10 if after == "latest" else int(after)
        page = [] if after == "latest" else [entry(first + 1), entry(first + 2)]
        return httpx.Response(200, json={"messages": page, "next": first + len(page)})

    with Client("https://localhost:1", transport=httpx.MockTransport(answer)) as client:
        found = list(islice(Messages(Workspace("w", client)).follow(device="d"), 4))
    assert [message.sequence for message in found] == [11, 12, 13, 14]
    assert asked == ["latest", "10", "12"]
    assert found[0].enqueued_time is not None
    assert found[0].enqueued_time.microsecond == 250_000
    assert (found[0].body, found[0].properties["digit"], found[0].output) == ([3], "3", "amlOutput")


def test_a_stream_without_messages_says_where_to_go_on(workspace: Workspace) -> None:
    found, after = Messages(workspace).read("latest", limit=1)
    assert (list(found), after >= 0) == ([], True)
