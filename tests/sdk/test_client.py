import hashlib
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from sanderling.errors import Conflict, Denied, Invalid, NotFound, SanderlingError, Unavailable
from sanderling.sdk.client import Client, check_url
from sanderling.sdk.hints import hints_of
from sanderling.sdk.wire import endpoint


def answering(answer: Callable[[httpx.Request], httpx.Response]) -> Client:
    """A client whose server is a function, as the portal's is the application itself."""
    return Client("https://localhost:1", token="t", transport=httpx.MockTransport(answer))


def test_path_segments_are_encoded_whole() -> None:
    assert endpoint("twins", "a/b c", "modules", "$edgeAgent") == "/twins/a%2Fb%20c/modules/$edgeAgent"


@pytest.mark.parametrize("url", ["https://localhost:8443", "https://localhost:8443/", "http://127.0.0.1:80"])
def test_addresses_of_servers_are_taken(url: str) -> None:
    assert check_url(url) == url.rstrip("/")


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8443", "ftp://localhost", "https://", "https://u:p@h", "https://h/path", "https://h:notaport"],
)
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(Invalid):
        check_url(url)


def test_a_token_is_not_sent_unencrypted_to_another_machine() -> None:
    with pytest.raises(Invalid, match="unencrypted"):
        check_url("http://example.com")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Denied),
        (403, Denied),
        (404, NotFound),
        (409, Conflict),
        (412, Conflict),
        (413, Invalid),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
def test_each_status_is_one_kind_of_error_with_the_servers_sentence(status: int, kind: type[SanderlingError]) -> None:
    body = {"error": {"code": "c", "message": "the server's sentence"}}
    with answering(lambda _: httpx.Response(status, json=body)) as client, pytest.raises(kind) as caught:
        client.call("POST", "/x")
    assert caught.value.message == "the server's sentence"


def test_an_error_of_the_hubs_rest_is_read_too() -> None:
    body = {"Message": "ErrorCode:DeviceNotFound;device 'd' is not registered"}
    with answering(lambda _: httpx.Response(404, json=body)) as client, pytest.raises(NotFound) as caught:
        client.call("GET", "/devices/d")
    assert caught.value.message == "device 'd' is not registered"


def test_an_error_without_a_sentence_names_what_was_asked() -> None:
    with answering(lambda _: httpx.Response(404, text="<html>")) as client, pytest.raises(NotFound, match="GET /x"):
        client.call("GET", "/x")


def test_an_answer_that_is_not_json_is_no_sanderling_server() -> None:
    with (
        answering(lambda _: httpx.Response(200, text="<html>")) as client,
        pytest.raises(Unavailable, match="is that a Sanderling server"),
    ):
        client.call("GET", "/x")


def test_a_redirect_is_not_followed_with_the_token() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(307, headers={"Location": "https://elsewhere.example/"})

    with answering(answer) as client, pytest.raises(Invalid):
        client.call("GET", "/x")
    assert len(asked) == 1


def test_a_broken_connection_is_tried_again_for_a_call_that_may_be_repeated() -> None:
    answers: list[Any] = [httpx.ReadError("reset"), httpx.Response(200, json={"ok": True})]

    def answer(request: httpx.Request) -> httpx.Response:
        value = answers.pop(0)
        if isinstance(value, Exception):
            raise value
        assert isinstance(value, httpx.Response)
        return value

    with answering(answer) as client:
        assert client.call("GET", "/x") == {"ok": True}


def test_a_broken_connection_is_not_tried_again_for_one_that_may_have_been_done() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.method)
        raise httpx.ReadError("reset")

    with answering(answer) as client, pytest.raises(Unavailable):
        client.call("POST", "/x")
    assert asked == ["POST"]


def test_a_server_that_is_not_there_is_unavailable_and_the_error_says_how_to_start_one(up: Any) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    url = f"https://127.0.0.1:{port}"
    with Client(url, ca_file=up.ca_file) as client, pytest.raises(Unavailable, match="no server answers") as caught:
        client.call("GET", "/healthz")
    assert "sanderling up" in hints_of(caught.value)[0]


def test_a_certificate_of_another_ca_is_refused(up: Any) -> None:
    with Client(up.url) as client, pytest.raises(Denied, match="not signed by the CA"):
        client.call("GET", "/healthz")


def test_a_wrong_token_is_denied(up: Any) -> None:
    with Client(up.url, token="wrong", ca_file=up.ca_file) as client, pytest.raises(Denied):
        client.call("GET", "/api/v1/workspaces")


def test_a_ca_file_that_holds_no_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nothing")
    with pytest.raises(Invalid, match=r"ca\.pem"):
        Client("https://localhost:1", ca_file=file)


def test_a_file_that_changes_while_it_is_sent_is_refused(tmp_path: Path, workspace: Any) -> None:
    file = tmp_path / "model.pkl"
    file.write_bytes(b"longer than it was")
    with pytest.raises(Invalid, match="changed while"):
        workspace.client.put_blob(workspace.name, f"sha256:{'0' * 64}", file, 4)


def test_bytes_with_another_digest_leave_no_file(tmp_path: Path) -> None:
    with answering(lambda _: httpx.Response(200, content=b"other")) as client, pytest.raises(Invalid, match="digest"):
        client.download("/x", tmp_path / "out" / "model.pkl", digest=f"sha256:{'0' * 64}")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_download_that_fails_leaves_the_file_that_was_there(tmp_path: Path) -> None:
    target = tmp_path / "model.pkl"
    target.write_bytes(b"before")
    with answering(lambda _: httpx.Response(404)) as client, pytest.raises(NotFound):
        client.download("/x", target, digest=f"sha256:{'0' * 64}")
    assert target.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [target]


def test_progress_counts_the_bytes_of_an_upload(tmp_path: Path, workspace: Any) -> None:
    content = bytes(3_000_000)
    file = tmp_path / "model.pkl"
    file.write_bytes(content)
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    seen: list[tuple[str, int, int]] = []
    workspace.client.put_blob(workspace.name, digest, file, len(content), lambda *args: seen.append(args))
    assert seen[0][1] < seen[-1][1] == len(content)
    seen.clear()
    workspace.client.put_blob(workspace.name, digest, file, len(content), lambda *args: seen.append(args))
    assert seen == [("model.pkl", len(content), len(content))]  # it is there already
