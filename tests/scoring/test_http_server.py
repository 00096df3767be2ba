"""HTTP as a client sees it: the contract of azureml's inference server, and the limits."""

import json
import re
import socket
import threading
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.scoring.conftest import Serve
from tests.scoring.serving import ScoringProcess, exchange, read_all, read_responses

UUID4 = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
GENERAL = """
    import sys, time
    from azureml.contrib.services.aml_response import AMLResponse

    def init():
        pass

    def run(data):
        print("run", data[:20])
        if data.startswith("sleep"):
            time.sleep(float(data[5:]))
        if data == "raise":
            raise ValueError("secret of the script")
        if data == "exit":
            sys.exit(4)
        if data == "bytes":
            return b"x"
        if data == "nan":
            return float("nan")
        if data == "none":
            return None
        if data == "teapot":
            return AMLResponse("short and stout", 418, {"X-Pot": "tea, pot"})
        if data == "unavailable":
            return AMLResponse({"why": "tired"}, 503, json_str=True)
        if data == "inject":
            return AMLResponse("x", 200, {"X-A": "b\\r\\nX-Evil: 1"})
        return data
"""


@pytest.fixture
def process(serve: Serve) -> ScoringProcess:
    return serve(GENERAL)


@pytest.fixture
def client(process: ScoringProcess) -> Iterator[httpx.Client]:
    with process.client() as client:
        yield client


def score(client: httpx.Client, data: str | bytes) -> httpx.Response:
    return client.post("/score", content=data)


def test_the_root_is_healthy(client: httpx.Client) -> None:
    response = client.get("/")
    assert (response.status_code, response.text) == (200, "Healthy")
    assert response.headers["content-type"] == "text/html; charset=utf-8"
    assert UUID4.fullmatch(response.headers["x-request-id"])
    assert client.head("/").headers["content-length"] == "7"


def test_what_is_not_there_and_what_is_not_allowed_are_json(client: httpx.Client) -> None:
    missing = client.get("/score/")
    assert missing.status_code == 404
    assert missing.json()["message"].startswith("The requested URL was not found on the server.")
    refused = client.delete("/")
    assert (refused.status_code, refused.json()) == (
        405,
        {"message": "The method is not allowed for the requested URL."},
    )
    assert client.put("/score").status_code == 405


def test_the_return_value_is_sent_as_json(client: httpx.Client) -> None:
    response = score(client, 'é"')
    assert (response.status_code, response.json()) == (200, 'é"')
    assert response.headers["content-type"] == "application/json"
    assert response.headers["x-ms-run-function-failed"] == "False"
    assert re.fullmatch(r"\d+\.\d{3}", response.headers["x-ms-run-fn-exec-ms"])
    assert response.headers["x-ms-server-version"].startswith("sanderling/")
    assert score(client, "none").text == "{}"
    assert score(client, "nan").text == "NaN"
    assert score(client, "").json() == ""


def test_a_get_gives_run_its_query_as_json(client: httpx.Client) -> None:
    assert json.loads(client.get("/score?a=1&b=x&c=1&c=[2]&d=").json()) == {"a": 1, "b": "x", "c": [1, [2]], "d": ""}
    assert client.get("/score").json() == "{}"


def test_options_is_always_200_and_empty(client: httpx.Client) -> None:
    response = client.options("/score")
    assert (response.status_code, response.content) == (200, b"")


def test_what_is_not_utf_8_is_a_400_that_says_so(client: httpx.Client) -> None:
    response = score(client, b"\xff\xfe")
    assert response.status_code == 400
    assert response.json()["message"].startswith("Input cannot be decoded as UTF-8: ")
    assert response.headers["x-ms-run-function-failed"] == "False"


@pytest.mark.parametrize("data", ["raise", "exit"])
def test_a_script_that_raises_is_a_500_without_its_secrets(
    process: ScoringProcess, client: httpx.Client, data: str
) -> None:
    response = score(client, data)
    assert response.status_code == 500
    assert response.json() == {
        "message": "An unexpected error occurred in scoring script. Check the logs for more info."
    }
    assert response.headers["x-ms-run-function-failed"] == "True"
    process.wait_for_log("Traceback")
    assert score(client, "still here").json() == "still here"


def test_what_cannot_be_json_is_an_internal_error(client: httpx.Client) -> None:
    response = score(client, "bytes")
    assert response.status_code == 500
    assert response.json() == {"message": "An unexpected internal error occurred. Check the logs for more info."}
    assert response.headers["x-ms-run-function-failed"] == "False"


def test_an_aml_response_is_sent_as_the_script_made_it(client: httpx.Client) -> None:
    response = score(client, "teapot")
    assert (response.status_code, response.text) == (418, "short and stout")
    assert response.headers.get_list("x-pot") == ["tea", "pot"]
    assert response.headers["x-ms-run-function-failed"] == "False"
    failed = score(client, "unavailable")
    assert (failed.status_code, failed.json()) == (503, {"why": "tired"})
    assert failed.headers["x-ms-run-function-failed"] == "True"
    assert "x-evil" not in score(client, "inject").headers


def test_ids_come_back(client: httpx.Client) -> None:
    response = client.post("/score", headers={"x-request-id": "r", "x-ms-client-request-id": "c", "TraceId": "t"})
    assert response.headers["x-request-id"] == "r"
    assert response.headers["x-ms-client-request-id"] == "c"
    assert response.headers["x-ms-request-id"] == "c"
    assert response.headers["traceid"] == "t"
    legacy = client.post("/score", headers={"x-ms-request-id": "m"}).headers
    assert (legacy["x-ms-request-id"], legacy["x-ms-client-request-id"]) == ("m", "m")
    made = client.post("/score").headers
    assert made["x-ms-request-id"] == made["x-request-id"]
    assert "x-ms-client-request-id" not in made


def test_an_id_of_more_than_100_characters_is_refused(client: httpx.Client) -> None:
    response = client.post("/score", headers={"x-request-id": "r" * 101})
    assert response.status_code == 431
    assert response.json() == {"message": "x-request-id must not exceed 100 characters"}
    assert client.post("/score", headers={"x-request-id": "r" * 100}).status_code == 200


def test_cors_answers_the_origins_that_are_allowed(serve: Serve) -> None:
    with serve(GENERAL, env={"AML_CORS_ORIGINS": "https://a.test, https://b.test"}).client() as client:
        allowed = client.post("/score", headers={"Origin": "https://b.test"}).headers
        assert allowed["access-control-allow-origin"] == "https://b.test"
        assert "access-control-allow-origin" not in client.post("/score", headers={"Origin": "https://c.test"}).headers
        preflight = client.options("/score", headers={"Origin": "https://a.test"}).headers
        assert preflight["access-control-allow-methods"] == "GET, POST"


def test_the_swagger_document_comes_in_each_version_and_from_a_file(serve: Serve) -> None:
    process = serve(GENERAL)
    with process.client() as client:
        assert client.get("/swagger.json").json()["swagger"] == "2.0"
        assert client.get("/swagger.json?version=3").json()["openapi"] == "3.0.3"
        assert client.get("/swagger.json?version=3.1").json()["openapi"] == "3.1.0"
        unknown = client.get("/swagger.json?version=4")
        assert unknown.status_code == 404
        assert unknown.json() == {"message": "Swagger version is not valid. Supported versions: [2, 3, 3.1]."}
        (process.folder / "swagger.json").write_text('{"mine": 1}')
        assert client.get("/swagger.json").json() == {"mine": 1}


def test_a_prefix_moves_the_routes_and_leaves_the_root_healthy(serve: Serve) -> None:
    with serve(GENERAL, env={"SERVICE_PATH_PREFIX": "api/v1"}).client() as client:
        assert client.post("/api/v1/score", content="x").json() == "x"
        assert client.get("/").status_code == 200
        assert client.post("/score").status_code == 404


def test_health_and_metrics_answer_while_run_is_at_work(process: ScoringProcess) -> None:
    with process.connect() as sock, process.client() as client:
        sock.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nsleep0.7")
        time.sleep(0.1)
        started = time.monotonic()
        assert client.get("/").status_code == 200
        assert client.get("/ready").status_code == 200
        assert "sanderling_scoring_connections 2" in client.get("/metrics").text
        assert time.monotonic() - started < 0.6
        assert read_responses(sock, 1)[0][0] == 200
        assert 'responses_total{route="/score",code="200"} 1' in client.get("/metrics").text


def test_a_run_past_its_limit_is_answered_500_and_interrupted(serve: Serve) -> None:
    with serve(GENERAL, env={"SCORING_TIMEOUT_MS": "300"}).client() as client:
        response = score(client, "sleep30")
        assert response.status_code == 500
        assert re.fullmatch(r"Scoring timeout after \d+ ms", response.json()["message"])
        assert response.headers["x-ms-run-function-failed"] == "True"
        assert score(client, "next").json() == "next"


def test_a_run_in_native_code_past_its_limit_is_not_ready(serve: Serve) -> None:
    source = """
        import ctypes
        def init(): pass
        def run(x):
            if x == "hang":
                ctypes.PyDLL(None).usleep(1_500_000)  # holds the interpreter lock, as some extensions do
                ctypes.CDLL(None).poll(None, 0, 1500)
            return x
    """
    with serve(source, env={"SCORING_TIMEOUT_MS": "200"}).client() as client:
        assert score(client, "hang").json()["message"].startswith("Scoring timeout")
        assert client.get("/").status_code == 200
        deadline = time.monotonic() + 10
        while client.get("/ready").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert score(client, "next").json() == "next"


def test_a_full_queue_is_503_with_retry_after(serve: Serve) -> None:
    process = serve(GENERAL, env={"SANDERLING_MAX_WAITING": "1"})
    with process.connect() as first, process.connect() as second, process.client() as client:
        for sock in (first, second):
            sock.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nsleep0.6")
            time.sleep(0.2)
        response = score(client, "x")
        assert response.status_code == 503
        assert response.headers["retry-after"] == "1"
        assert client.get("/ready").status_code == 503
        assert [read_responses(sock, 1)[0][0] for sock in (first, second)] == [200, 200]
        assert client.get("/ready").status_code == 200


def test_pipelined_requests_are_answered_in_their_order(process: ScoringProcess) -> None:
    requests = b"".join(
        f"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: {len(str(n))}\r\n\r\n{n}".encode() for n in range(100)
    )
    with process.connect() as sock:
        sock.sendall(requests + b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        responses = read_responses(sock, 101)
        assert [json.loads(body) for _, body in responses[:100]] == [str(n) for n in range(100)]
        assert responses[100] == (200, b"Healthy")
        assert sock.recv(1) == b""


def test_more_pipelined_bytes_than_are_held_come_through(process: ScoringProcess) -> None:
    body = b"y" * 20_000
    one = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body)
    with process.connect() as sock:
        sender = threading.Thread(target=sock.sendall, args=(one * 50,))
        sender.start()
        responses = read_responses(sock, 50)
        sender.join(10)
    assert responses == [(200, b'"%s"' % body)] * 50


def test_a_large_chunked_body_arrives_whole(process: ScoringProcess) -> None:
    with process.client() as client:
        pieces = (b"z" * 100_000 for _ in range(50))
        assert len(client.post("/score", content=pieces).json()) == 5_000_000


def test_a_client_that_asks_is_told_to_continue(process: ScoringProcess) -> None:
    with process.connect() as sock:
        sock.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nExpect: 100-continue\r\n\r\n")
        assert sock.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        sock.sendall(b"hi")
        assert read_responses(sock, 1) == [(200, b'"hi"')]


def test_a_client_that_ends_its_side_still_gets_its_answer(process: ScoringProcess) -> None:
    with process.connect() as sock:
        sock.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 8\r\n\r\nsleep0.2")
        sock.shutdown(socket.SHUT_WR)
        assert read_all(sock).endswith(b'"sleep0.2"')


def test_a_client_that_leaves_harms_nobody(process: ScoringProcess) -> None:
    for _ in range(20):
        with process.connect() as sock:
            sock.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nsleep0.01")
    with process.client() as client:
        assert score(client, "x").json() == "x"
        assert "sanderling_scoring_connections 1" in client.get("/metrics").text


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"nonsense\r\n\r\n", 400),
        (b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 1001\r\n\r\n" + b"x" * 1001, 413),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * 40_000 + b"\r\n\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
        (b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n", 417),
    ],
)
def test_what_breaks_http_or_a_limit_is_told_so_and_closed(serve: Serve, data: bytes, status: int) -> None:
    process = serve(GENERAL, env={"SANDERLING_MAX_BODY_BYTES": "1000"})
    with process.connect() as sock:
        answer = exchange(sock, data)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert b"Connection: close" in head
    assert json.loads(body)["message"]


def test_a_request_that_does_not_arrive_in_time_is_408(serve: Serve) -> None:
    process = serve(GENERAL, env={"SANDERLING_RECEIVE_TIMEOUT_MS": "300"})
    with process.connect() as dripping, process.connect() as silent:
        silent.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\nabc")
        started = time.monotonic()
        while time.monotonic() - started < 2.5:
            try:
                dripping.sendall(b"G" if time.monotonic() - started < 0.1 else b"E")
            except OSError:
                break
            time.sleep(0.1)
        assert read_all(silent).startswith(b"HTTP/1.1 408 ")
        assert time.monotonic() - started < 4


def test_an_idle_connection_is_closed_in_the_end(serve: Serve) -> None:
    process = serve(GENERAL, env={"SANDERLING_IDLE_TIMEOUT_MS": "200"})
    with process.connect() as sock:
        assert sock.recv(1) == b""


def test_one_connection_too_many_is_503(serve: Serve) -> None:
    process = serve(GENERAL, env={"SANDERLING_MAX_CONNECTIONS": "2"})
    with process.connect() as first, process.connect() as second:
        for sock in (first, second):
            sock.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert read_responses(sock, 1)[0][0] == 200
        with process.connect() as third:
            assert read_all(third).startswith(b"HTTP/1.1 503 ")


def test_the_bytes_held_for_all_requests_are_bounded(serve: Serve) -> None:
    process = serve(GENERAL, env={"SANDERLING_MAX_HELD_BYTES": "300000"})
    head = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n"
    with process.connect() as first, process.connect() as second:
        first.sendall(head + b"x" * 200_000)
        time.sleep(0.2)
        second.sendall(head + b"x" * 200_000)
        assert second.recv(100).startswith(b"HTTP/1.1 503 ")
    with process.client() as client:
        deadline = time.monotonic() + 5
        while "sanderling_scoring_held_bytes 0\n" not in client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_a_large_answer_reaches_a_slow_reader(serve: Serve) -> None:
    process = serve("def init(): pass\ndef run(x): return 'x' * 20_000_000")
    with process.connect() as sock:
        sock.sendall(b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        time.sleep(0.3)
        assert len(read_all(sock)) > 20_000_000


def test_load_that_is_stopped_loses_no_answer(serve: Serve) -> None:
    process = serve(GENERAL)
    answered: list[int] = []
    broken: list[str] = []
    url = process.url

    def load() -> None:
        with httpx.Client(base_url=url, trust_env=False) as client:
            while True:
                try:
                    answered.append(client.post("/score", content="x").status_code)
                except httpx.ConnectError:
                    return  # it takes nothing new
                except httpx.HTTPError as e:
                    broken.append(repr(e))
                    return

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    while len(answered) < 50:
        time.sleep(0.01)
    process.terminate()
    assert process.exit_code(5) == 0
    for thread in threads:
        thread.join(10)
    assert set(answered) == {200}
    assert not broken
