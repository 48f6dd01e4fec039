"""Bytes that two parsers could read differently: refused with 400, and nothing of them reaches a service."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.testing import wait_until
from tests.hostile.framing import CASES, Case

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Backend, Gateway, Message, Wire

HOST = b"Host: a\r\n"
POST = b"POST /api/products/hostile HTTP/1.1\r\n" + HOST
GET = b"GET /api/products/hostile HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n"

REFUSED = [case for case in CASES if case.gateway is not None and case.whole]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case.name)
def test_ambiguous_bytes_are_refused(gateway: Gateway, catalogue: Backend, case: Case) -> None:
    """One problem document, which says 400, 405, 413 or 431, and no service has seen a whole request."""
    before = len(catalogue.seen_at("/api/products/hostile"))
    with gateway.client() as client:
        client.wire.send(case.bytes_for(b"/api/products/hostile"))
        answer = client.answer()
        assert answer.status == case.gateway
        assert (answer.get("allow") is not None) == (answer.status == 405)
        assert answer.get("content-type") == "application/problem+json"
        body = answer.json()
        assert (body["status"], body["error"]) == (case.gateway, body["detail"])
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
