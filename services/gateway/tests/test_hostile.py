"""Bytes that two parsers could read differently: refused with 400, and nothing of them reaches a service."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.testing import wait_until

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Backend, Gateway, Message, Wire

HOST = b"Host: a\r\n"
POST = b"POST /api/products/hostile HTTP/1.1\r\n" + HOST
GET = b"GET /api/products/hostile HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"

FRAMING = {
    "no host": b"GET /api/products/hostile HTTP/1.1\r\n\r\n",
    "two hosts": GET + HOST + b"\r\n",
    "two different hosts": GET + b"Host: b\r\n\r\n",
    "empty host": b"GET /api/products/hostile HTTP/1.1\r\nHost:\r\n\r\n",
    "host with a space": b"GET /api/products/hostile HTTP/1.1\r\nHost: a b\r\n\r\n",
    "host with a path": b"GET /api/products/hostile HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "host with a user": b"GET /api/products/hostile HTTP/1.1\r\nHost: a@b\r\n\r\n",
    "two hosts in one": b"GET /api/products/hostile HTTP/1.1\r\nHost: a, b\r\n\r\n",
    "another host in the target": b"GET http://b/api/products/hostile HTTP/1.1\r\nHost: a\r\n\r\n",
    "a target of another scheme": b"GET ftp://a/api/products/hostile HTTP/1.1\r\nHost: a\r\n\r\n",
    "bare LF": b"GET /api/products/hostile HTTP/1.1\nHost: a\n\n",
    "bare LF after a field": GET + b"X: 1\n\r\n",
    "bare LF before the end": GET + b"X: 1\r\n\n",
    "bare CR in a field": GET + b"X: 1\rY: 2\r\n\r\n",
    "obsolete folding": GET + b"X: 1\r\n 2\r\n\r\n",
    "folding with a tab": GET + b"X: 1\r\n\t2\r\n\r\n",
    "folding of the first field": b"GET /api/products/hostile HTTP/1.1\r\n Host: a\r\n\r\n",
    "space before the colon": GET + b"X : 1\r\n\r\n",
    "tab before the colon": GET + b"X\t: 1\r\n\r\n",
    "no colon": GET + b"X\r\n\r\n",
    "no name": GET + b": 1\r\n\r\n",
    "NUL in a name": GET + b"X\x00: 1\r\n\r\n",
    "NUL in a value": GET + b"X: 1\x002\r\n\r\n",
    "control in a value": GET + b"X: 1\x012\r\n\r\n",
    "DEL in a value": GET + b"X: 1\x7f2\r\n\r\n",
    "length and coding": CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n",
    "coding and length": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "the same length twice": POST + b"Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
    "two lengths": POST + b"Content-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    "two lengths in one": POST + b"Content-Length: 3, 3\r\n\r\nabc",
    "length with a sign": POST + b"Content-Length: +3\r\n\r\nabc",
    "negative length": POST + b"Content-Length: -3\r\n\r\nabc",
    "hexadecimal length": POST + b"Content-Length: 0x3\r\n\r\nabc",
    "length with an underscore": POST + b"Content-Length: 1_0\r\n\r\nabc",
    "empty length": POST + b"Content-Length:\r\n\r\nabc",
    "length of another script": POST + "Content-Length: ٣\r\n\r\nabc".encode(),
    "gzip": POST + b"Transfer-Encoding: gzip\r\n\r\n0\r\n\r\n",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "identity, chunked": POST + b"Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n",
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": CHUNKED + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "quoted chunked": POST + b'Transfer-Encoding: "chunked"\r\n\r\n0\r\n\r\n',
    "vertical tab and chunked": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "comma and chunked": POST + b"Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
    "empty coding": POST + b"Transfer-Encoding:\r\n\r\n0\r\n\r\n",
    "chunks in HTTP/1.0": CHUNKED.replace(b"HTTP/1.1", b"HTTP/1.0") + b"\r\n0\r\n\r\n",
    "bad chunk size": CHUNKED + b"\r\nzz\r\nabc\r\n0\r\n\r\n",
    "chunk size with 0x": CHUNKED + b"\r\n0x3\r\nabc\r\n0\r\n\r\n",
    "negative chunk size": CHUNKED + b"\r\n-3\r\nabc\r\n0\r\n\r\n",
    "empty chunk size": CHUNKED + b"\r\n\r\nabc\r\n0\r\n\r\n",
    "chunk size with a space": CHUNKED + b"\r\n3 \r\nabc\r\n0\r\n\r\n",
    "chunk without its end": CHUNKED + b"\r\n3\r\nabcd\r\n0\r\n\r\n",
    "chunks with bare LF": CHUNKED + b"\r\n3\nabc\n0\n\n",
    "bare LF in a chunk extension": CHUNKED + b"\r\n3;a\nb\r\nabc\r\n0\r\n\r\n",
    "framing in a trailer": CHUNKED + b"\r\n0\r\nContent-Length: 5\r\n\r\n",
    "no version": b"GET /api/products/hostile\r\n\r\n",
    "HTTP/1.2": b"GET /api/products/hostile HTTP/1.2\r\nHost: a\r\n\r\n",
    "HTTP/2.0": b"GET /api/products/hostile HTTP/2.0\r\nHost: a\r\n\r\n",
    "two spaces": b"GET  /api/products/hostile HTTP/1.1\r\nHost: a\r\n\r\n",
    "space at the end": b"GET /api/products/hostile HTTP/1.1 \r\nHost: a\r\n\r\n",
    "tab between": b"GET\t/api/products/hostile HTTP/1.1\r\nHost: a\r\n\r\n",
    "lower-case method": b"get /api/products/hostile HTTP/1.1\r\nHost: a\r\n\r\n",
    "method with a slash": b"GE/T /api/products/hostile HTTP/1.1\r\nHost: a\r\n\r\n",
    "fragment": b"GET /api/products/hostile#x HTTP/1.1\r\nHost: a\r\n\r\n",
    "byte over 127 in the target": b"GET /api/products/hostile\xff HTTP/1.1\r\nHost: a\r\n\r\n",
    "NUL in the target": b"GET /api/products/hostile\x00 HTTP/1.1\r\nHost: a\r\n\r\n",
    "target without a slash": b"GET api/products/hostile HTTP/1.1\r\nHost: a\r\n\r\n",
    "star": b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    "HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "an expectation": POST + b"Expect: 200-maybe\r\nContent-Length: 3\r\n\r\nabc",
    "a line of 9000": b"GET /api/products/hostile?" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n",
}


@pytest.mark.parametrize("sent", FRAMING.values(), ids=FRAMING.keys())
def test_ambiguous_bytes_are_400(gateway: Gateway, catalogue: Backend, sent: bytes) -> None:
    """One problem document, then the connection ends: what follows on it cannot be trusted to be a request."""
    before = len(catalogue.seen_at("/api/products/hostile"))
    with gateway.client() as client:
        client.wire.send(sent)
        answer = client.answer()
        assert answer.status == 400
        assert answer.get("content-type") == "application/problem+json"
        body = answer.json()
        assert (body["status"], body["error"]) == (400, body["detail"])
        assert body["request_id"] == answer.get("x-request-id")
        assert answer.get("server") == "storefront"
    whole = [seen for seen in catalogue.seen_at("/api/products/hostile")[before:] if seen.body]
    assert not whole


@pytest.mark.parametrize(
    "sent",
    [
        CHUNKED + b"Content-Length: 3\r\n\r\n0\r\n\r\n",
        POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 3\r\nContent-Length: 40\r\n\r\nabc",
        GET + b"X: 1\r\n 2\r\n\r\n",
        b"GET /api/products/hostile HTTP/1.1\r\n\r\n",
    ],
)
def test_a_smuggled_request_is_not_served(gateway: Gateway, catalogue: Backend, path: str, sent: bytes) -> None:
    """What stands behind an ambiguous request is neither answered as its own nor passed on."""
    with gateway.client() as client:
        client.wire.send(sent + f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        received = client.wire.rest() if b"Host" in sent and b"gzip" not in sent else client.answer().raw_head
    assert received.startswith(b"HTTP/1.1 400 ")
    assert received.count(b"HTTP/1.1 ") == 1
    if b"Host" in sent and b"gzip" not in sent:
        assert not catalogue.seen_at(path)


def test_a_body_that_turns_malformed_under_its_answer(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """The service has begun to answer when the chunks go wrong: no second answer is written into the first."""

    def handler(wire: Wire, message: Message) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        wire.closed_by_peer()

    catalogue.on(path, handler, body=False)
    with gateway.client() as client:
        client.wire.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n".encode())
        assert client.wire.until(b"first\r\n") is not None
        client.wire.send(b"nonsense\r\n")
        assert client.wire.rest() == b""


def test_a_malformed_request_behind_a_good_one(gateway: Gateway, path: str) -> None:
    """The good one is answered, then the other with 400."""
    with gateway.client() as client:
        client.wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\nnonsense\r\n\r\n".encode())
        assert client.answer().status == 200
        assert client.answer().status == 400
        assert client.wire.closed_by_peer()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (GET + b"X: " + b"a" * 9000 + b"\r\n\r\n", 431),
        (GET + b"X: 1\r\n" * 200 + b"\r\n", 431),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 405),
        (b"TRACE /api/products/hostile HTTP/1.1\r\nHost: a\r\n\r\n", 405),
    ],
)
def test_what_else_is_refused(gateway: Gateway, sent: bytes, status: int) -> None:
    """Oversized heads, and methods that end at an intermediary."""
    with gateway.client() as client:
        client.wire.send(sent)
        answer = client.answer()
        assert (answer.status, answer.get("content-type")) == (status, "application/problem+json")
        assert (answer.get("allow") is not None) == (status == 405)


@pytest.mark.parametrize(
    "sent",
    [
        b"GET http://A:80/api/products/lawful?x HTTP/1.1\r\nHost: a:80\r\n\r\n",
        b"GET /api/products/lawful?x HTTP/1.0\r\n\r\n",
        b"\r\nGET /api/products/lawful?x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /api/products/lawful?x HTTP/1.1\r\nHost:\ta \t\r\n\r\n",
        b"GET /api/products/lawful?x HTTP/1.1\r\nhOsT: a\r\nX:\r\n\r\n",
        b"PURGE /api/products/lawful?x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /api/products/lawful?x HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
        b"GET /api/products/lawful?x HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    ],
)
def test_unusual_but_lawful_requests_are_served(gateway: Gateway, sent: bytes) -> None:
    """Absolute targets, HTTP/1.0, one empty line before, white space around a value, odd methods, GET with a body."""
    with gateway.client() as client:
        client.wire.send(sent)
        answer = client.answer()
        assert answer.status == 200
        assert answer.json()["target"] == "/api/products/lawful?x"


def test_refused_bytes_are_counted_and_logged(gateway: Gateway) -> None:
    """They are requests as well: a scan shows in the metrics, under one label, and in the log."""
    line = 'gateway_http_requests_total{endpoint="unmatched",method="OTHER",status="400"}'
    before = gateway.metric(line)
    with gateway.client() as client:
        client.wire.send(b"nonsense\r\n\r\n")
        request_id = client.answer().get("x-request-id")
    gateway.wait_metric(line, before + 1)
    wait_until(lambda: [line for line in gateway.logs if line.get("request_id") == request_id])


def test_nothing_a_client_sends_makes_a_second_log_line(gateway: Gateway, path: str) -> None:
    """Control characters in a path are escaped in the log."""
    target = f"{path}%0d%0a%1b[31m%e2%80%a8forged"
    gateway.ask("GET", target, {"X-Request-ID": "forged"})
    lines = wait_until(lambda: [line for line in gateway.lines if '"request_id":"forged"' in line])
    assert len(lines) == 1
    assert "\x1b" not in lines[0]


HEADS = st.lists(
    st.sampled_from(
        [
            b"GET ", b"POST ", b"/api/products/fuzz", b" HTTP/1.1\r\n", b"Host: a\r\n", b"\r\n", b"\n", b"\r", b" ",
            b":", b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"3\r\nabc\r\n", b"0\r\n\r\n", b"\x00",
            b"\xff", b"Connection: close\r\n", b"Expect: 100-continue\r\n", b"abc", b"\t", b"%00", b"?", b"#", b"X: ",
            b"http://a",
        ]
    ),
    max_size=14,
).map(b"".join)  # fmt: skip


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=HEADS)
def test_no_bytes_are_a_server_error(gateway: Gateway, sent: bytes) -> None:
    """Any mixture of the pieces of requests: answers are 1xx to 4xx, and the gateway lives on."""
    with gateway.client() as client:
        client.wire.send(sent)
        client.wire.sock.shutdown(socket.SHUT_WR)
        received = client.wire.rest()
    for start in received.split(b"HTTP/1.1 ")[1:]:
        assert start[:1] in b"1234", received
    assert gateway.ask("GET", "/health/live").status == 200
