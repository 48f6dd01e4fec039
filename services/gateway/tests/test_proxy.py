"""The proxy, end to end: a real gateway, a real service, and every byte looked at."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.testing import wait_until

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Backend, Gateway, Message, Wire

OK = b"HTTP/1.1 200 OK\r\n"


# --- what reaches the service --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_method_target_and_body_arrive_as_sent(gateway: Gateway, catalogue: Backend, path: str, method: str) -> None:
    """Path and query byte for byte, escapes included, and the body with its Content-Length."""
    target = f"{path}/a%20b%2Fc?q=%C3%A9&x=1&x=2&empty="
    body = b"" if method in ("GET", "OPTIONS") else b'{"a": "\xc3\xa9"}'
    answer = gateway.ask(method, target, body=body)
    assert answer.status == 200
    (seen,) = catalogue.seen_at(target.partition("?")[0])
    assert (seen.method, seen.target, seen.body) == (method, target, body)
    assert seen.get("content-length") == (str(len(body)) if body else None)


def test_each_service_gets_its_own_paths(gateway: Gateway, catalogue: Backend, user: Backend) -> None:
    """Section 5 of the contract: products to the catalogue, users to the user service."""
    assert gateway.ask("GET", "/api/products/mine").status == 200
    assert gateway.ask("GET", "/api/v1/users/mine").status == 200
    assert catalogue.seen_at("/api/products/mine")
    assert user.seen_at("/api/v1/users/mine")
    assert not user.seen_at("/api/products/mine")


def test_documents_of_a_service_are_found_below_its_name(gateway: Gateway, catalogue: Backend, user: Backend) -> None:
    """`/user/docs` here is `/docs` there, and so with what the page refers to."""
    for target in ("/user/docs", "/user/docs/assets/ui.css", "/user/openapi.json", "/user/api/v1/users?page=2"):
        assert gateway.ask("GET", target).status == 200
        assert target.removeprefix("/user") in [message.target for message in user.seen]
    assert gateway.ask("GET", "/catalogue/docs").status == 200
    assert catalogue.seen_at("/docs")


def test_health_and_metrics_of_a_service_are_not_reachable(gateway: Gateway) -> None:
    """Neither below its name nor by climbing out of a prefix that is."""
    for target in ("/catalogue/metrics", "/user/health", "/catalogue", "/metricsX", "/health/other"):
        assert gateway.ask("GET", target).status == 404
    for target in (
        "/static/../metrics", "/static/%2e%2e/metrics", "/static/%2E./metrics", "/static/./a",
        "/catalogue/docs/..%2fmetrics",
    ):  # fmt: skip
        assert gateway.ask("GET", target).status == 400


def test_a_chunked_body_becomes_the_same_bytes(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """Chunk by chunk or with a length, but never both; extensions stay behind."""
    with gateway.client() as client:
        answer = client.ask("POST", path, {"Transfer-Encoding": "chunked"}, b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n")
    assert answer.json()["body"] == "abcde"
    (seen,) = catalogue.seen_at(path)
    assert (seen.get("content-length"), seen.get("transfer-encoding")) in [("5", None), (None, "chunked")]


@pytest.mark.parametrize("framing", ["Content-Length: 6", "Transfer-Encoding: chunked"])
def test_a_body_is_passed_on_as_it_comes(gateway: Gateway, catalogue: Backend, path: str, framing: str) -> None:
    """The service has the first half before the client has sent the second."""
    halves: list[bytes] = []
    chunked = "chunked" in framing

    def handler(wire: Wire, message: Message) -> None:
        assert f"{framing}\r\n".lower() in message.raw_head.decode().lower()
        halves.append(wire.until(b"abc") or b"")
        halves.append(wire.until(b"def") or b"")
        if chunked:
            wire.until(b"0\r\n\r\n")
        wire.send(OK + b"Content-Length: 2\r\n\r\nok")

    catalogue.on(path, handler, body=False)
    with gateway.client() as client:
        client.wire.send(f"POST {path} HTTP/1.1\r\nHost: a\r\n{framing}\r\n\r\n".encode())
        client.wire.send(b"3\r\nabc\r\n" if chunked else b"abc")
        wait_until(lambda: halves, timeout_s=2)
        client.wire.send(b"3\r\ndef\r\n0\r\n\r\n" if chunked else b"def")
        assert client.answer().body == b"ok"


def test_a_connection_carries_one_request_after_another(gateway: Gateway, path: str) -> None:
    """Keep-alive on the client's side, with bodies, without, refused and answered."""
    with gateway.client() as client:
        for number in range(5):
            assert client.ask("POST", path, body=b"x" * number).json()["body"] == "x" * number
            assert client.ask("GET", "/nowhere").status == 404
            assert client.ask("HEAD", path).body == b""
            assert client.ask("GET", "/health/live").json() == {"status": "alive"}


def test_pipelined_requests_are_answered_in_order(gateway: Gateway, path: str) -> None:
    """RFC 9112 section 9.3.2."""
    with gateway.client() as client:
        client.wire.send(b"".join(f"GET {path}?n={n} HTTP/1.1\r\nHost: a\r\n\r\n".encode() for n in range(4)))
        assert [client.answer().json()["target"] for _ in range(4)] == [f"{path}?n={n}" for n in range(4)]


# --- header fields -------------------------------------------------------------------------------------------------


def test_end_to_end_fields_go_both_ways(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """What is the client's and the service's business arrives unchanged, repeated fields one by one."""
    catalogue.on(
        path,
        lambda wire, _: wire.send(OK + b'Set-Cookie: a=1\r\nSet-Cookie: b=2\r\nETag: "x"\r\nContent-Length: 0\r\n\r\n'),
    )
    answer = gateway.ask(
        "GET", path, {"Accept": "a/b, c/d", "Authorization": "Basic eDp5", "Cookie": "k=v", "X-Odd": "é"}
    )
    (seen,) = catalogue.seen_at(path)
    assert [seen.get(name) for name in ("accept", "authorization", "cookie", "x-odd")] == [
        "a/b, c/d", "Basic eDp5", "k=v", "é",
    ]  # fmt: skip
    assert answer.all("set-cookie") == ["a=1", "b=2"]
    assert answer.get("etag") == '"x"'


def test_hop_by_hop_fields_are_dropped_both_ways(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """RFC 9110 section 7.6.1, the fields that `Connection` names included. An upgrade is not passed on."""
    catalogue.on(
        path,
        lambda wire, _: wire.send(
            OK + b"Connection: X-Hop, close\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nProxy-Authenticate: x\r\n"
            b"Upgrade: y\r\nServer: secret/1.0\r\nTrailer: z\r\nX-End: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
        ),
    )
    answer = gateway.ask(
        "GET",
        path,
        {
            "Connection": "keep-alive, X-Private, Upgrade", "X-Private": "1", "Keep-Alive": "300",
            "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            "TE": "trailers", "Proxy-Connection": "x", "Proxy-Authorization": "x", "Trailer": "x", "X-Public": "1",
        },
    )  # fmt: skip
    assert answer.status == 200
    (seen,) = catalogue.seen_at(path)
    names = {name for name, _ in seen.headers}
    assert "x-public" in names
    assert not names & {
        "connection", "x-private", "keep-alive", "upgrade", "te", "proxy-connection", "proxy-authorization", "trailer",
    }  # fmt: skip
    back = {name for name, _ in answer.headers}
    assert "x-end" in back
    assert not back & {"x-hop", "keep-alive", "proxy-authenticate", "upgrade", "trailer", "transfer-encoding"}
    assert answer.get("server") == "storefront"


def test_forwarding_fields_are_the_edges_own(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """A client cannot choose who it seems to be. The Host it asked for is told, and the service gets its own."""
    gateway.ask(
        "GET",
        path,
        {
            "X-Forwarded-For": "203.0.113.1", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil",
            "X-Forwarded-Port": "1", "X-Forwarded-Prefix": "/evil", "Forwarded": "for=203.0.113.1",
            "X-Real-IP": "203.0.113.1", "X_Forwarded_For": "203.0.113.1",
        },
        host="shop.example:8000",
    )  # fmt: skip
    (seen,) = catalogue.seen_at(path)
    assert [seen.get(f"x-forwarded-{name}") for name in ("for", "proto", "host", "port", "prefix")] == [
        "127.0.0.1", "http", "shop.example:8000", None, None,
    ]  # fmt: skip
    assert seen.get("forwarded") == 'for=127.0.0.1;host="shop.example:8000";proto=http'
    assert seen.get("host") == f"127.0.0.1:{catalogue.port}"
    assert b"203.0.113.1" not in seen.raw_head
    assert b"evil" not in seen.raw_head


def test_a_trusted_proxy_is_believed(start_gateway: Callable[..., Gateway], backend: Backend) -> None:
    """With TRUSTED_PROXIES its forwarding fields are continued, and the request log names the client."""
    gateway = start_gateway(TRUSTED_PROXIES="127.0.0.1")
    gateway.ask("GET", "/api/products", {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"})
    (seen,) = backend.seen_at("/api/products")
    assert seen.get("x-forwarded-for") == "203.0.113.9, 127.0.0.1"
    assert seen.get("x-forwarded-proto") == "https"
    assert gateway.wait_log("GET /api/products")["remote_addr"] == "203.0.113.9"


@pytest.mark.parametrize("given_id", ["abc-DEF_1.2", "x" * 128])
def test_a_good_request_id_is_taken(gateway: Gateway, catalogue: Backend, path: str, given_id: str) -> None:
    """It is forwarded, answered and logged; a service cannot replace it."""
    catalogue.on(path, lambda wire, _: wire.send(OK + b"X-Request-ID: other\r\nContent-Length: 0\r\n\r\n"))
    answer = gateway.ask("GET", path, {"X-Request-ID": given_id})
    assert answer.get("x-request-id") == given_id
    (seen,) = catalogue.seen_at(path)
    assert seen.get("x-request-id") == given_id
    wait_until(lambda: [line for line in gateway.logs if line.get("request_id") == given_id])


@pytest.mark.parametrize("given_id", ["", "a b", "x" * 129, "é", 'a"b', "a,b"])
def test_a_bad_request_id_is_replaced(gateway: Gateway, catalogue: Backend, path: str, given_id: str) -> None:
    """By one that matches, the same to the service and to the client."""
    answer = gateway.ask("GET", path, {"X-Request-ID": given_id})
    made = answer.get("x-request-id") or ""
    assert re.fullmatch(r"[A-Za-z0-9._-]{16,128}", made)
    (seen,) = catalogue.seen_at(path)
    assert seen.get("x-request-id") == made


def test_two_request_ids_are_none(gateway: Gateway, path: str) -> None:
    """Which of them counts is a question that two servers answer differently."""
    with gateway.client() as client:
        client.wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\nX-Request-ID: a\r\nX-Request-ID: b\r\n\r\n".encode())
        answer = client.answer()
    assert len(answer.get("x-request-id") or "") > 10


def test_a_trace_is_continued_with_a_new_parent(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """W3C trace context: same trace, same flags, another parent; tracestate comes along; the log has the trace."""
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    gateway.ask("GET", path, {"traceparent": f"00-{trace}-00f067aa0ba902b7-01", "tracestate": "a=1"})
    (seen,) = catalogue.seen_at(path)
    match = re.fullmatch(rf"00-{trace}-([0-9a-f]{{16}})-01", seen.get("traceparent") or "")
    assert match is not None
    assert match[1] != "00f067aa0ba902b7"
    assert seen.get("tracestate") == "a=1"
    wait_until(lambda: [line for line in gateway.logs if line.get("trace_id") == trace])


def test_a_bad_trace_is_replaced(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """And its tracestate is not attached to the new one."""
    gateway.ask("GET", path, {"traceparent": "00-nonsense", "tracestate": "a=1"})
    (seen,) = catalogue.seen_at(path)
    assert re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", seen.get("traceparent") or "")
    assert seen.get("tracestate") is None


FIELD_NAME = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=15).map(lambda name: f"X-H-{name}")
FIELD_VALUE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0xFF, exclude_characters="\x7f"), max_size=40)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(fields=st.dictionaries(FIELD_NAME, FIELD_VALUE, max_size=20))
def test_any_lawful_field_survives_the_journey(gateway: Gateway, fields: dict[str, str]) -> None:
    """Whatever bytes RFC 9110 allows in a value, the service gets them."""
    seen = dict(gateway.ask("GET", "/api/products/fields", fields).json()["headers"])
    assert {name: seen.get(name.lower()) for name in fields} == fields


# --- what comes back -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 65_536, 65_537, 3_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
def test_bodies_of_every_size_and_framing_arrive_whole(
    gateway: Gateway, catalogue: Backend, path: str, size: int, framing: str
) -> None:
    """Small ones are sent whole, large ones stream."""
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]

    def handler(wire: Wire, message: Message) -> None:
        if framing == "length":
            wire.send(OK + b"Content-Length: %d\r\n\r\n" % size + body)
        elif framing == "chunked":
            wire.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
            for start in range(0, size, 70_000):
                piece = body[start : start + 70_000]
                wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
            wire.send(b"0\r\n\r\n")
        else:
            wire.send(OK + b"Connection: close\r\n\r\n" + body)
            wire.close()

    catalogue.on(path, handler)
    with gateway.client() as client:
        for _ in range(2):
            answer = client.ask("GET", path)
            assert (answer.status, len(answer.body), answer.body == body) == (200, size, True)


@pytest.mark.parametrize(
    ("method", "status", "fields"),
    [
        ("HEAD", "200 OK", b"Content-Length: 1234\r\n"),
        ("GET", "304 Not Modified", b'ETag: "a"\r\nContent-Length: 1234\r\n'),
        ("GET", "204 No Content", b""),
        ("DELETE", "204 No Content", b""),
    ],
)
def test_answers_without_a_body(
    gateway: Gateway, catalogue: Backend, path: str, method: str, status: str, fields: bytes
) -> None:
    """The length that a GET would have had is kept; the connection goes on on both sides."""
    catalogue.on(path, lambda wire, _: wire.send(f"HTTP/1.1 {status}\r\n".encode() + fields + b"\r\n"))
    with gateway.client() as client:
        for _ in range(3):
            answer = client.ask(method, path)
            assert f"{answer.status}" in status
            assert answer.body == b""
            assert answer.get("content-length") == ("1234" if b"1234" in fields else None)
        assert client.ask("GET", "/health/live").status == 200


@pytest.mark.parametrize("status", [201, 301, 400, 404, 409, 422, 429, 500, 502, 503, 599])
def test_a_services_status_is_its_own(gateway: Gateway, catalogue: Backend, path: str, status: int) -> None:
    """Errors and redirects of a service are passed on, not followed, not replaced."""
    catalogue.on(
        path, lambda wire, _: wire.send(b"HTTP/1.1 %d X\r\nLocation: /y\r\nContent-Length: 2\r\n\r\nhi" % status)
    )
    answer = gateway.ask("GET", path)
    assert (answer.status, answer.body, answer.get("location")) == (status, b"hi", "/y")


def test_an_answer_streams_as_it_comes(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """The first piece of a chunked answer is with the client before the service has sent the second."""
    go = threading.Event()

    def handler(wire: Wire, message: Message) -> None:
        wire.send(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        go.wait(5)
        wire.send(b"6\r\nsecond\r\n0\r\n\r\n")

    catalogue.on(path, handler)
    with gateway.client() as client:
        client.wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert client.wire.until(b"first") is not None
        assert not go.is_set()
        go.set()
        assert client.wire.until(b"second\r\n0\r\n\r\n") is not None


def test_an_http_1_0_client_sees_the_end(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """It knows no chunks: the connection ends with the answer, also if it asked to keep it."""

    def handler(wire: Wire, message: Message) -> None:
        wire.send(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        time.sleep(0.1)
        wire.send(b"3\r\ndef\r\n0\r\n\r\n")

    catalogue.on(path, handler)
    with gateway.client() as client:
        client.wire.send(f"GET {path} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n".encode())
        head, _, body = client.wire.rest().partition(b"\r\n\r\n")
    assert b"chunked" not in head
    assert body == b"abcdef"


def test_a_slow_reader_slows_the_service_down(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """Back-pressure from end to end: what the client does not take, the service cannot send."""
    sent = 0
    size = 60_000_000

    def handler(wire: Wire, message: Message) -> None:
        nonlocal sent
        wire.send(OK + b"Content-Length: %d\r\n\r\n" % size)
        while sent < size:
            wire.send(b"x" * 100_000)
            sent += 100_000

    catalogue.on(path, handler)
    with gateway.client() as client:
        client.wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until(lambda: sent > 0)
        time.sleep(1)  # what must not happen takes no time that could be waited for
        assert sent < size / 2
        assert len(client.answer().body) == size


def test_a_client_that_leaves_ends_the_services_work(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """The connection to the service is closed at once, and the request counted as abandoned."""
    closed = threading.Event()

    def handler(wire: Wire, message: Message) -> None:
        if wire.closed_by_peer():
            closed.set()

    catalogue.on(path, handler)
    with gateway.client() as client:
        client.wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        wait_until(lambda: catalogue.seen_at(path))
    assert closed.wait(2)
    line = gateway.wait_log(f'"GET {path} HTTP/1.1" 499')
    assert line["status"] == 499


def test_a_client_that_leaves_in_its_body_ends_the_services_work(
    gateway: Gateway, catalogue: Backend, path: str
) -> None:
    """Half a body is not worth waiting for: the service sees the end of its connection."""
    closed = threading.Event()

    def handler(wire: Wire, message: Message) -> None:
        if wire.closed_by_peer():
            closed.set()

    catalogue.on(path, handler, body=False)
    with gateway.client() as client:
        client.wire.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc".encode())
        wait_until(lambda: catalogue.seen_at(path))
    assert closed.wait(2)


# --- bodies that are not wanted ------------------------------------------------------------------------------------


def test_a_body_over_the_limit_is_refused_by_its_length(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """413 as soon as the head is here; the service never hears of it, the client reads the answer in peace."""
    with gateway.client() as client:
        answer = client.ask("POST", path, body=b"x" * 10_000_000)
    assert answer.status == 413
    assert answer.json()["status"] == 413
    assert answer.get("connection") == "close"
    assert not catalogue.seen_at(path)


def test_a_chunked_body_over_the_limit_is_refused_by_count(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """413 when the limit is passed; the service's connection is closed in the middle of the body."""
    cut = threading.Event()

    def handler(wire: Wire, message: Message) -> None:
        if wire.closed_by_peer():
            cut.set()

    catalogue.on(path, handler, body=False)
    with gateway.client() as client:
        client.wire.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n".encode())
        for _ in range(5):
            client.wire.send(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
            time.sleep(0.02)
        assert client.answer().status == 413
    assert cut.wait(2)


@pytest.mark.parametrize("size", [65_536, 65_537])
def test_the_limit_itself_is_allowed(gateway: Gateway, path: str, size: int) -> None:
    """64 KiB pass, one byte more does not, chunked or not."""
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (size, b"x" * size)
    expected = 200 if size == 65_536 else 413
    assert gateway.ask("POST", path, body=b"x" * size).status == expected
    assert gateway.ask("POST", path, {"Transfer-Encoding": "chunked"}, chunked).status == expected


@pytest.mark.parametrize("length", ["99999999999999999999999999", "9" * 5000])
def test_an_absurd_length_is_refused(gateway: Gateway, path: str, length: str) -> None:
    """Also one of more digits than Python turns into a number."""
    with gateway.client() as client:
        client.wire.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {length}\r\n\r\n".encode())
        assert client.answer().status in (400, 413)


def test_expect_100_continue(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """The client is told to go on when its body is wanted, and the service does not hear of the expectation."""
    with gateway.client() as client:
        client.wire.send(
            f"POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n".encode()
        )
        assert client.wire.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        client.wire.send(b"abc")
        assert client.answer().json()["body"] == "abc"
        assert client.ask("GET", path).status == 200
    assert catalogue.seen_at(path)[0].get("expect") is None


def test_a_refused_body_is_not_asked_for(gateway: Gateway, path: str) -> None:
    """A client that expects 100 gets the final answer instead, and sends nothing."""
    with gateway.client() as client:
        client.wire.send(
            f"POST {path} HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 9999999\r\n\r\n".encode()
        )
        head = client.wire.until(b"\r\n\r\n") or b""
        assert head.startswith(b"HTTP/1.1 413 ")
        assert client.wire.closed_by_peer()


def test_a_service_that_answers_before_the_body_is_read(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """Its answer reaches the client, which is still sending, and neither connection is used again."""

    def handler(wire: Wire, message: Message) -> None:
        wire.send(b"HTTP/1.1 409 Conflict\r\nContent-Length: 2\r\n\r\nno")

    catalogue.on(path, handler, body=False)
    with gateway.client() as client:
        client.wire.send(f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n".encode())
        client.wire.send(b"x" * 30_000)
        answer = client.answer()
        assert (answer.status, answer.body, answer.get("connection")) == (409, b"no", "close")
        client.wire.send(b"x" * 30_000)
    assert gateway.ask("GET", "/api/products/after").status == 200
