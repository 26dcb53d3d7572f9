"""One request out of bytes, however they arrive; what is none is refused with a status."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coil.process.http_wire import MOST_BODY, MOST_HEAD, BadRequest, RequestReader, encode_head

WHOLE = (
    b"POST /cni?CNI_COMMAND=ADD&CNI_NETNS=%2Frun%2Fnetns%2Fa+b&CNI_ARGS=&x=%ff HTTP/1.1\r\n"
    b"Host: coil\r\nContent-Length: 9\r\nConnection: close\r\n\r\n"
    b'{"a": 1}\n'
)


def read(*parts):
    reader = RequestReader()
    whole = [reader.feed(part) for part in parts]
    assert whole == [False] * (len(parts) - 1) + [True]
    return reader


def assert_is_whole(reader):
    assert (reader.method, reader.path, reader.body) == ("POST", "/cni", b'{"a": 1}\n')
    assert reader.query == {
        "CNI_COMMAND": "ADD",
        "CNI_NETNS": "/run/netns/a b",
        "CNI_ARGS": "",
        "x": "\udcff",  # no UTF-8: kept, to be refused where names are read
    }


@given(st.sets(st.integers(1, len(WHOLE) - 1)))
def test_a_request_may_come_in_any_pieces(cuts):
    ends = [*sorted(cuts), len(WHOLE)]
    starts = [0, *ends[:-1]]
    assert_is_whole(read(*(WHOLE[a:b] for a, b in zip(starts, ends, strict=True))))


@pytest.mark.parametrize("more", [WHOLE, b"garbage", b"\r\n\r\n", b"GET /b HTTP/1.1\r\n\r\n"])
def test_what_follows_a_request_is_ignored(more):
    assert_is_whole(read(WHOLE + more))
    kept = WHOLE.replace(b"Connection: close\r\n", b"")
    assert_is_whole(read(kept + more))


def test_a_chunked_body_is_put_together():
    chunked = (
        b"POST /cni HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n1\r\n\n\r\n0\r\n\r\n"
    )
    assert read(chunked).body == b"{}\n"


def test_a_wish_for_another_protocol_is_answered_in_this_one():
    reader = read(b"GET /status HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    assert (reader.method, reader.path) == ("GET", "/status")


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"\x00\x01garbage\r\n\r\n", 400),
        (b"GET /status HTTP/9.9\r\n\r\n", 400),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400),
        (b"POST /cni HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400),
        (b"POST /cni HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", 400),
        (b"GET / HTTP/1.1\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /a b HTTP/1.1\r\n\r\n", 400),
        (b"GET /\xff HTTP/1.1\r\n\r\n", 400),
        (b"GET http://:x/ HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nName : value\r\n\r\n", 400),
        (b"GET /?" + b"a=1&" * 70 + b" HTTP/1.1\r\n\r\n", 400),
        (b"GET /?" + b"x" * MOST_HEAD, 431),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MOST_HEAD, 431),
        (b"POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n" + b"x" * (MOST_BODY + 1), 413),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_what_is_no_request_is_refused(data, status):
    with pytest.raises(BadRequest) as refused:
        read(data)
    assert refused.value.status == status
    assert str(refused.value)


def test_an_answer_says_its_length_and_that_it_is_the_last():
    head = encode_head(503, "application/json", {}, 7)
    assert head == (
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\n"
        b"Content-Length: 7\r\nConnection: close\r\n\r\n"
    )


def test_an_answer_whose_end_is_not_known_says_no_length():
    head = encode_head(200, "text/event-stream", {"Cache-Control": "no-store"})
    assert head == (
        b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
        b"Cache-Control: no-store\r\nConnection: close\r\n\r\n"
    )


def test_headers_are_found_by_their_names_in_lower_case():
    reader = RequestReader()
    assert reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nORIGIN: http://b\r\n\r\n")
    assert reader.headers == {b"host": b"a", b"origin": b"http://b"}
