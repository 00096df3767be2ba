"""The HTTP/1.1 parser, alone and beside h11: what h11 refuses, it refuses."""

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sanderling_scoring.http_parser import MAX_FIELDS, MAX_HEAD_BYTES, ProtocolError, Request, RequestParser

LIMIT = 1 << 20
POST = b"POST /score HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello"
CHUNKED = b"POST /score HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"


def parse(*pieces: bytes, limit: int = LIMIT) -> list[Request]:
    parser = RequestParser(limit)
    found = []
    for piece in pieces:
        parser.feed(piece)
        while (request := parser.next_request()) is not None:
            found.append(request)
    return found


def refusal(data: bytes, limit: int = LIMIT) -> int:
    with pytest.raises(ProtocolError) as caught:
        parse(data, limit=limit)
    return caught.value.status


def facts(request: Request) -> tuple[object, ...]:
    return (request.method, request.target, request.version, request.headers, request.keep_alive, request.body)


def h11_requests(data: bytes) -> tuple[list[tuple[bytes, bytes, bytes]], bool]:
    """What h11 makes of the bytes, (method, target, body) each, and whether it refuses what follows."""
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=MAX_HEAD_BYTES)
    connection.receive_data(data)
    found, body, request = [], b"", None
    try:
        while True:
            event = connection.next_event()
            if isinstance(event, h11.Request):
                request, body = event, b""
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                assert request is not None
                found.append((request.method, request.target, body))
                connection.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                connection.send(h11.EndOfMessage())
                if connection.our_state is not h11.DONE:
                    return found, False
                connection.start_next_cycle()
            else:
                return found, False
    except h11.RemoteProtocolError:
        return found, True


def test_a_request_comes_out_with_its_body() -> None:
    (request,) = parse(POST)
    assert facts(request) == (
        "POST",
        "/score",
        "1.1",
        {"host": "a", "content-length": "5"},
        True,
        b"hello",
    )


def test_a_chunked_body_is_joined_and_its_extensions_and_trailers_are_dropped() -> None:
    (request,) = parse(CHUNKED + b"5;a=b\r\nhello\r\n06\r\n world\r\n0\r\nX-Sum: 1\r\n\r\n")
    assert request.body == b"hello world"
    assert "x-sum" not in request.headers


STREAM = (
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    + POST
    + CHUNKED
    + b"5\r\nhello\r\n1;x=y\r\n!\r\n0\r\nA: b\r\n\r\n"
    + b"POST / HTTP/1.0\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"
    + b"OPTIONS * HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
)


def test_the_same_requests_come_out_wherever_the_stream_is_split() -> None:
    whole = [facts(r) for r in parse(STREAM)]
    assert len(whole) == 5
    for at in range(len(STREAM)):
        assert [facts(r) for r in parse(STREAM[:at], STREAM[at:])] == whole
    assert [facts(r) for r in parse(*(bytes((b,)) for b in STREAM))] == whole


BOTH = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
TWICE = b"POST / HTTP/1.1\r\nHost: a\r\n" + b"Transfer-Encoding: chunked\r\n" * 2 + b"\r\n0\r\n\r\n"
HOSTILE = {
    "two lengths that differ": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    "two lengths that agree": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5, 5\r\n\r\nhello",
    "a signed length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    "a negative length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -5\r\n\r\nhello",
    "a hexadecimal length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0x5\r\n\r\nhello",
    "an empty length": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\nhello",
    "a length in other digits": "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: ٥\r\n\r\nhello".encode(),
    "length and chunked": BOTH,
    "chunked twice": TWICE,
    "chunked in HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a space before the colon": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length : 5\r\n\r\nhello",
    "a folded line": b"GET / HTTP/1.1\r\nHost: a\r\nX: 1\r\n 2\r\n\r\n",
    "a folded first line": b"GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    "a bare LF in the head": b"GET / HTTP/1.1\nHost: a\n\n",
    "a bare LF after a field": b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
    "a bare CR in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\rc\r\n\r\n",
    "a NUL in a value": b"GET / HTTP/1.1\r\nHost: a\r\nX: b\0c\r\n\r\n",
    "a field without a name": b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n",
    "a field without a colon": b"GET / HTTP/1.1\r\nHost: a\r\nfoo\r\n\r\n",
    "a blank line first": b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "a space in the target": b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n",
    "no target": b"GET HTTP/1.1\r\nHost: a\r\n\r\n",
    "TLS on a plain port": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n\n\r\n\r\n",
    "lower-case version": b"GET / http/1.1\r\nHost: a\r\n\r\n",
    "a chunk size with a sign": CHUNKED + b"+5\r\nhello\r\n0\r\n\r\n",
    "a chunk size with 0x": CHUNKED + b"0x5\r\nhello\r\n0\r\n\r\n",
    "an empty chunk size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "a chunk size with a space": CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n",
    "a chunk size ended by LF": CHUNKED + b"5\nhello\r\n0\r\n\r\n",
    "a chunk longer than said": CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n",
    "a chunk ended by LF": CHUNKED + b"5\r\nhello\n0\r\n\r\n",
    "a negative chunk size": CHUNKED + b"-1\r\n\r\n",
    "a bad trailer": CHUNKED + b"0\r\nfoo\r\n\r\n",
    "a folded trailer": CHUNKED + b"0\r\nA: b\r\n c\r\n\r\n",
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE.keys())
def test_what_two_readers_could_take_differently_is_refused(data: bytes) -> None:
    assert refusal(data) == 400
    for at in range(1, len(data)):
        with pytest.raises(ProtocolError):
            parse(data[:at], data[at:])


def test_a_coding_that_is_not_chunked_is_not_implemented() -> None:
    assert refusal(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n") == 501


def test_another_major_version_is_not_spoken() -> None:
    assert refusal(b"PRI * HTTP/2.0\r\n\r\n") == 505


def test_an_unknown_expectation_fails() -> None:
    assert refusal(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 200-ok\r\n\r\n") == 417


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * MAX_HEAD_BYTES, 431),
        (b"GET /" + b"y" * (MAX_HEAD_BYTES + 10), 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"A: b\r\n" * MAX_FIELDS + b"\r\n", 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 101\r\n\r\n", 413),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999999999999999\r\n\r\n", 400),
        (CHUNKED + b"65\r\n", 413),
        (CHUNKED + b"ffffffffffffffff\r\n", 413),
        (CHUNKED + b"33\r\n" + b"x" * 51 + b"\r\n33\r\n", 413),
        (CHUNKED + b"1;" + b"x" * 2000, 400),
        (CHUNKED + (b"0001;" + b"x" * 900 + b"\r\ny\r\n") * 60, 400),
        (CHUNKED + b"0\r\nA: " + b"x" * (MAX_HEAD_BYTES + 10), 431),
    ],
)
def test_floods_are_refused_at_their_limit(data: bytes, status: int) -> None:
    assert refusal(data, limit=100) == status


def test_after_a_refusal_nothing_more_comes_out() -> None:
    parser = RequestParser(LIMIT)
    parser.feed(b"nonsense\r\n\r\n")
    with pytest.raises(ProtocolError):
        parser.next_request()
    parser.feed(POST)
    assert parser.next_request() is None


def test_a_client_that_waits_for_100_is_told_once_and_only_before_its_body() -> None:
    head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n"
    parser = RequestParser(LIMIT)
    parser.feed(head)
    assert parser.next_request() is None
    assert parser.wants_continue
    parser.feed(b"hello")
    request = parser.next_request()
    assert request is not None
    assert request.body == b"hello"
    assert not parser.wants_continue
    parser.feed(head + b"hello")
    assert parser.next_request() is not None
    assert not parser.wants_continue


@pytest.mark.parametrize(
    ("version", "connection", "keeps"),
    [
        ("1.1", "", True),
        ("1.1", "close", False),
        ("1.1", "Upgrade, Close", False),
        ("1.0", "", False),
        ("1.0", "Keep-Alive", True),
        ("1.0", "keep-alive, close", False),
    ],
)
def test_the_connection_is_kept_as_the_version_and_the_client_say(version: str, connection: str, keeps: bool) -> None:
    field = f"Connection: {connection}\r\n" if connection else ""
    (request,) = parse(f"GET / HTTP/{version}\r\nHost: a\r\n{field}\r\n".encode())
    assert request.keep_alive is keeps


PIECES = st.sampled_from(
    [
        b"GET / HTTP/1.1\r\n",
        b"POST /score?a=b HTTP/1.1\r\n",
        b"POST / HTTP/1.0\r\n",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Content-Length: 0\r\n",
        b"content-length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: identity\r\n",
        b"Transfer-Encoding : chunked\r\n",
        b"Connection: close\r\n",
        b"X-A: b\r\n",
        b" folded\r\n",
        b"\r\n",
        b"\n",
        b"\r",
        b"hello",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"5;ext\r\n",
        b"0",
        b"\0",
        b":",
    ]
)
STREAMS = st.one_of(
    st.lists(PIECES, max_size=14).map(b"".join),
    st.binary(max_size=200),
    st.builds(
        lambda at, junk, keep: STREAM[:at] + junk + STREAM[at + keep :],
        st.integers(0, len(STREAM)),
        st.binary(max_size=4),
        st.integers(0, 4),
    ),
)


@settings(max_examples=600, deadline=None)
@given(STREAMS)
def test_what_is_taken_is_what_h11_takes_and_what_h11_refuses_is_refused(data: bytes) -> None:
    parser = RequestParser(LIMIT)
    parser.feed(data)
    taken, refused = [], False
    try:
        while (request := parser.next_request()) is not None:
            taken.append((request.method.encode(), request.target.encode(), request.body))
            if not request.keep_alive or request.version == "1.0":  # h11 closes after any HTTP/1.0
                break
    except ProtocolError:
        refused = True
    reference, is_refused_there = h11_requests(data)
    assert taken == reference[: len(taken)]
    if not refused and not is_refused_there:
        assert taken == reference


@settings(max_examples=300, deadline=None)
@given(STREAMS, st.data())
def test_where_hostile_bytes_are_split_changes_nothing(data: bytes, draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, len(data)))

    def outcome(*pieces: bytes) -> tuple[list[tuple[object, ...]], bool]:
        parser, found = RequestParser(LIMIT), []
        try:
            for piece in pieces:
                parser.feed(piece)
                while (request := parser.next_request()) is not None:
                    found.append(facts(request))
        except ProtocolError:
            return found, True
        return found, False

    assert outcome(data) == outcome(data[:at], data[at:])
