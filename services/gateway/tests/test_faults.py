"""Services that hang, die, lie and close: a clear error in time, nothing sent twice that must not be."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from chassis.testing import CutProxy, Meanwhile, wait_until

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Backend, Gateway, Message, Wire

OK = b"HTTP/1.1 200 OK\r\n"
StartGateway = Callable[..., "Gateway"]


def silent(wire: Wire, message: Message) -> None:
    """Say nothing until the gateway gives up."""
    wire.closed_by_peer()


def check_problem(answer: Message, status: int) -> None:
    """It is the contract's problem document, with the request's id in body and head."""
    assert answer.status == status, answer.body
    assert answer.get("content-type") == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert body["error"] == body["detail"]
    assert body["request_id"] == answer.get("x-request-id")
    assert body["title"]
    assert answer.get("retry-after") == ("1" if status == 503 else None)


# --- time ----------------------------------------------------------------------------------------------------------


def test_a_silent_service_is_504_at_the_deadline(start_gateway: StartGateway, backend: Backend) -> None:
    """Not before, hardly after; and the service's connection is closed."""
    backend.on("/api/products/hang", silent)
    gateway = start_gateway(REQUEST_TIMEOUT_MS="400")
    began_s = time.monotonic()
    check_problem(gateway.ask("GET", "/api/products/hang"), 504)
    assert 0.4 <= time.monotonic() - began_s < 1.4
    gateway.wait_metric('gateway_upstream_requests_total{outcome="timeout",upstream="catalogue"}', 1)
    assert backend.seen[0].get("x-request-timeout-ms") is not None


@pytest.mark.parametrize("asked", ["200", "1"])
def test_a_client_may_shorten_its_deadline(gateway: Gateway, catalogue: Backend, path: str, asked: str) -> None:
    """And the service is told what is left of it."""
    catalogue.on(path, silent)
    began_s = time.monotonic()
    check_problem(gateway.ask("GET", path, {"X-Request-Timeout-Ms": asked}), 504)
    assert time.monotonic() - began_s < 1.5
    assert all(int(seen.get("x-request-timeout-ms") or "0") <= int(asked) for seen in catalogue.seen_at(path))


@pytest.mark.parametrize("asked", ["999999", "-5", "nonsense", "1e9", "", "9" * 50])
def test_a_client_cannot_lengthen_its_deadline(gateway: Gateway, catalogue: Backend, path: str, asked: str) -> None:
    """More than the gateway's own, or what is no number, leaves the gateway's own."""
    gateway.ask("GET", path, {"X-Request-Timeout-Ms": asked})
    (seen,) = catalogue.seen_at(path)
    assert 2500 < int(seen.get("x-request-timeout-ms") or "0") <= 3000


def test_a_trickle_is_cut_at_the_deadline(start_gateway: StartGateway, backend: Backend) -> None:
    """An answer that has begun cannot become an error: it ends in the middle, and so does the connection."""

    def trickle(wire: Wire, message: Message) -> None:
        wire.send(OK + b"Transfer-Encoding: chunked\r\n\r\n")
        while True:
            wire.send(b"1\r\nx\r\n")
            time.sleep(0.05)

    backend.on("/api/products/trickle", trickle)
    gateway = start_gateway(REQUEST_TIMEOUT_MS="500")
    began_s = time.monotonic()
    with gateway.client() as client:
        client.wire.send(b"GET /api/products/trickle HTTP/1.1\r\nHost: a\r\n\r\n")
        received = client.wire.rest()
    assert 0.4 < time.monotonic() - began_s < 2
    assert received.startswith(b"HTTP/1.1 200 ")
    assert not received.endswith(b"0\r\n\r\n")


def test_a_trickle_of_a_small_answer_is_504(start_gateway: StartGateway, backend: Backend) -> None:
    """A small answer of known length is sent only when it is whole, so it can still become an error."""

    def trickle(wire: Wire, message: Message) -> None:
        wire.send(OK + b"Content-Length: 1000\r\n\r\n")
        while True:
            wire.send(b"x")
            time.sleep(0.05)

    backend.on("/api/products/trickle", trickle)
    gateway = start_gateway(REQUEST_TIMEOUT_MS="300")
    check_problem(gateway.ask("GET", "/api/products/trickle"), 504)


def test_a_body_that_does_not_come_is_the_clients_fault(start_gateway: StartGateway, backend: Backend) -> None:
    """400 at the deadline, whether none of it came or half of it; the service is not blamed."""
    gateway = start_gateway(REQUEST_TIMEOUT_MS="300")
    for sent in (b"", b"abc"):
        with gateway.client() as client:
            client.wire.send(b"POST /api/products HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n" + sent)
            check_problem(client.answer(), 400)
    gateway.wait_metric('gateway_upstream_requests_total{outcome="timeout",upstream="catalogue"}', 0)


# --- no answer -----------------------------------------------------------------------------------------------------


def test_a_refused_service_is_503_at_once_and_comes_back(start_gateway: StartGateway, backend: Backend) -> None:
    """Dead: 503 with Retry-After in no time. Back: the next request is served, for a gateway with nobody else to ask
    looks again before it says no. Each is said once in the log.
    """
    gateway = start_gateway(WEB_CONCURRENCY="1")
    assert gateway.ask("GET", "/api/products").status == 200
    backend.stop()
    for _ in range(3):
        began_s = time.monotonic()
        check_problem(gateway.ask("GET", "/api/products"), 503)
        assert time.monotonic() - began_s < 0.5
    gateway.wait_metric('gateway_upstream_requests_total{outcome="unreachable",upstream="catalogue"}', 1)
    gateway.wait_metric('gateway_upstream_requests_total{outcome="open",upstream="catalogue"}', 2)
    gateway.wait_metric(f'gateway_breaker_open{{instance="127.0.0.1:{backend.port}",upstream="catalogue"}}', 1)
    assert len([line for line in gateway.logs if "does not answer" in line["message"]]) == 1
    backend.start()
    assert gateway.ask("GET", "/api/products").status == 200
    gateway.wait_metric(f'gateway_breaker_open{{instance="127.0.0.1:{backend.port}",upstream="catalogue"}}', 0)
    wait_until(
        lambda: (
            gateway.ask("GET", "/api/products").status == 200
            and [line for line in gateway.logs if line["message"].endswith("answers again")]
        )
    )


def test_one_dead_service_leaves_the_other_alone(start_gateway: StartGateway, backend: Backend, user: Backend) -> None:
    """Users are served while products are not."""
    gateway = start_gateway(USER_URL=user.url)
    backend.stop()
    assert gateway.ask("GET", "/api/products").status == 503
    assert gateway.ask("GET", "/api/v1/users").status == 200


def test_a_service_that_accepts_and_hangs_is_bounded(
    start_gateway: StartGateway, backend: Backend, cut_proxy: Callable[[str, int], CutProxy]
) -> None:
    """The wire is there but nothing comes through: 504 at the deadline, and 200 once it flows again."""
    proxy = cut_proxy("127.0.0.1", backend.port)
    gateway = start_gateway(CATALOGUE_URL=f"http://127.0.0.1:{proxy.port}", REQUEST_TIMEOUT_MS="500")
    assert gateway.ask("GET", "/api/products").status == 200
    proxy.hang()
    check_problem(gateway.ask("GET", "/api/products"), 504)
    proxy.cut()
    check_problem(gateway.ask("GET", "/api/products"), 503)
    proxy.heal()
    wait_until(lambda: gateway.ask("GET", "/api/products").status == 200, timeout_s=4, interval_s=0.1)


def test_a_stopped_service_costs_the_others_nothing(
    start_gateway: StartGateway, backend: Backend, user: Backend, cut_proxy: Callable[[str, int], CutProxy]
) -> None:
    """It takes connections and says nothing: its own clients get 504 and then 503, the others' not one error."""
    proxy = cut_proxy("127.0.0.1", backend.port)
    gateway = start_gateway(
        WEB_CONCURRENCY="1",
        CATALOGUE_URL=f"http://127.0.0.1:{proxy.port}",
        USER_URL=user.url,
        REQUEST_TIMEOUT_MS="1000",
    )
    assert gateway.ask("GET", "/api/products").status == 200
    proxy.hang()
    stopped: list[int] = []
    threads = [
        threading.Thread(target=lambda: stopped.append(gateway.ask("GET", "/api/products").status)) for _ in range(40)
    ]
    for thread in threads:
        thread.start()
    with gateway.client() as client:
        while any(thread.is_alive() for thread in threads):
            assert client.ask("GET", "/api/v1/users").status == 200
    assert set(stopped) == {504}
    for _ in range(3):
        began_s = time.monotonic()
        check_problem(gateway.ask("GET", "/api/products"), 503)
        assert time.monotonic() - began_s < 0.5


@pytest.mark.parametrize(
    ("sent", "how"),
    [
        (b"", "close"),
        (b"", "reset"),
        (b"HTTP/1.1 200 O", "close"),
        (OK + b"Content-Length: 10\r\n\r\nhalf", "close"),
        (OK + b"Content-Length: 10\r\n\r\nhalf", "reset"),
        (b"garbage and more garbage\r\n\r\n", "close"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "close"),
        (b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", "close"),
        (b"SSH-2.0-OpenSSH_9.6\r\n", "close"),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_an_answer_that_is_none_is_503(
    gateway: Gateway, catalogue: Backend, path: str, sent: bytes, how: str, method: str
) -> None:
    """Nothing, half an answer, garbage: the client gets one whole error, and the connection to it lives on."""

    def handler(wire: Wire, message: Message) -> None:
        wire.send(sent)
        time.sleep(0.02)
        getattr(wire, how)()

    catalogue.on(path, handler)
    with gateway.client() as client:
        check_problem(client.ask(method, path, body=b"x" if method == "POST" else b""), 503)
        assert client.ask("GET", "/health/live").status == 200


def test_an_answer_that_breaks_off_after_it_began_is_cut(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """The client sees an incomplete message, never a complete one that is not."""

    def handler(wire: Wire, message: Message) -> None:
        wire.send(OK + b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n")
        time.sleep(0.1)
        wire.reset()

    catalogue.on(path, handler)
    with gateway.client() as client:
        client.wire.send(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        received = client.wire.rest()
    assert b"first" in received
    assert not received.endswith(b"0\r\n\r\n")


# --- what is sent twice --------------------------------------------------------------------------------------------


def dying(die_on: Callable[[Message, int], bool]) -> Callable[[Wire, Message], None]:
    """A handler that closes without a word when `die_on(message, turn on its connection)`, and answers otherwise."""
    turns: dict[Wire, int] = {}

    def handler(wire: Wire, message: Message) -> None:
        turns[wire] = turns.get(wire, 0) + 1
        if die_on(message, turns[wire]):
            wire.close()
        else:
            wire.send(OK + b"Content-Length: 2\r\n\r\n" + (b"" if message.method == "HEAD" else b"ok"))

    return handler


@pytest.mark.parametrize(
    "method", ["GET", "DELETE", *(pytest.param(name, marks=pytest.mark.slow) for name in ("HEAD", "OPTIONS", "PUT"))]
)
def test_a_kept_connection_that_dies_is_tried_once_more(
    start_gateway: StartGateway, backend: Backend, method: str
) -> None:
    """The race of keep-alive: the service closes as the request arrives. What may be repeated is, on a new one."""
    backend.on("/api/products/x", dying(lambda _, turn: turn == 2))
    gateway = start_gateway(WEB_CONCURRENCY="1")
    body = b"x" if method == "PUT" else b""
    for _ in range(4):
        assert gateway.ask(method, "/api/products/x", body=body).status == 200
    gateway.wait_metric('gateway_upstream_requests_total{outcome="died",upstream="catalogue"}', 3)
    assert len(backend.seen_at("/api/products/x")) == 7


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_what_is_not_idempotent_is_never_sent_twice(start_gateway: StartGateway, backend: Backend, method: str) -> None:
    """The service may have done its work before it died: 503, and the client decides."""
    backend.on("/api/products/x", dying(lambda _, turn: turn == 2))
    gateway = start_gateway(WEB_CONCURRENCY="1")
    assert gateway.ask(method, "/api/products/x", body=b"1").status == 200
    check_problem(gateway.ask(method, "/api/products/x", body=b"2"), 503)
    assert [seen.body for seen in backend.seen_at("/api/products/x")] == [b"1", b"2"]


def test_a_new_connection_that_dies_is_not_tried_again(gateway: Gateway, catalogue: Backend, path: str) -> None:
    """It was not the keep-alive race: the service dies of the request, and one is enough."""
    catalogue.on(path, lambda wire, _: wire.close())
    check_problem(gateway.ask("GET", path), 503)
    assert len(catalogue.seen_at(path)) <= 2  # a connection kept by another test may have been taken first


def test_a_request_is_repeated_once_only(start_gateway: StartGateway, backend: Backend) -> None:
    """The second connection dies as well: 503."""
    backend.on("/api/products/x", dying(lambda message, turn: turn == 2 or message.get("x-die") is not None))
    gateway = start_gateway(WEB_CONCURRENCY="1")
    assert gateway.ask("GET", "/api/products/x").status == 200
    check_problem(gateway.ask("GET", "/api/products/x", {"X-Die": "1"}), 503)
    assert len(backend.seen_at("/api/products/x")) == 3


def test_half_an_answer_is_never_asked_for_again(start_gateway: StartGateway, backend: Backend) -> None:
    """One byte of an answer proves that the request was at work."""
    turns: dict[Wire, int] = {}

    def handler(wire: Wire, message: Message) -> None:
        turns[wire] = turns.get(wire, 0) + 1
        if turns[wire] == 2:
            wire.send(b"H")
            time.sleep(0.05)
            wire.close()
        else:
            wire.send(OK + b"Content-Length: 2\r\n\r\nok")

    backend.on("/api/products/x", handler)
    gateway = start_gateway(WEB_CONCURRENCY="1")
    assert gateway.ask("GET", "/api/products/x").status == 200
    check_problem(gateway.ask("GET", "/api/products/x"), 503)
    assert len(backend.seen_at("/api/products/x")) == 2


def test_a_streamed_body_is_never_sent_twice(start_gateway: StartGateway, backend: Backend) -> None:
    """PUT is idempotent, but its body is gone: part of it went down the first connection."""

    def handler(wire: Wire, message: Message) -> None:
        wire.close()

    gateway = start_gateway(WEB_CONCURRENCY="1")
    assert gateway.ask("GET", "/api/products/warm").status == 200
    backend.on("/api/products/x", handler, body=False)
    with gateway.client() as client:
        client.wire.send(b"PUT /api/products/x HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
        check_problem(client.answer(), 503)
    assert len(backend.seen_at("/api/products/x")) == 1


def test_restarts_of_a_service_that_closes_idle_connections_fail_nothing(
    start_gateway: StartGateway, backend: Backend
) -> None:
    """Idle connections closed under constant load: the pool drops them, the race is retried; not one request fails."""
    gateway = start_gateway()
    failed: list[int] = []

    def load(ending: threading.Event) -> None:
        with gateway.client() as client:
            while not ending.is_set():
                status = client.ask("GET", "/api/products").status
                if status != 200:
                    failed.append(status)

    with Meanwhile(load, threads=4):
        for _ in range(20):
            before = backend.connections
            backend.close_idle()
            wait_until(lambda before=before: backend.connections > before)  # type: ignore[misc]
    assert not failed
