"""Load and slow clients: everything is bounded, and more than the bound is a clear error at once."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from chassis.testing import wait_until

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Backend, Client, Gateway, Message, Wire

StartGateway = Callable[..., "Gateway"]


class Gate:
    """A handler that answers when the gate opens."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.waiting = 0

    def __call__(self, wire: Wire, _message: Message) -> None:
        self.waiting += 1
        self.open.wait(10)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")


def begin(gateway: Gateway, target: str) -> Client:
    """Send a GET and do not wait for its answer."""
    client = gateway.client()
    client.wire.send(f"GET {target} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
    return client


@pytest.mark.parametrize(
    ("env", "other_service"),
    [({"UPSTREAM_MAX_CONNECTIONS": "3"}, 200), ({"MAX_IN_FLIGHT": "3"}, 503)],
    ids=["per service", "in all"],
)
def test_requests_over_the_cap_are_503_at_once(
    start_gateway: StartGateway, backend: Backend, user: Backend, env: dict[str, str], other_service: int
) -> None:
    """With Retry-After, and counted; those in flight are answered, the gateway's own addresses always are, and room is
    reused.
    """
    gate = Gate()
    backend.on("/api/products/gate", gate)
    gateway = start_gateway(WEB_CONCURRENCY="1", USER_URL=user.url, **env)
    clients = [begin(gateway, f"/api/products/gate?{number}") for number in range(3)]  # else they would be one request
    wait_until(lambda: gate.waiting == 3)
    began_s = time.monotonic()
    answer = gateway.ask("GET", "/api/products")
    assert time.monotonic() - began_s < 0.5
    assert (answer.status, answer.get("retry-after")) == (503, "1")
    assert answer.get("content-type") == "application/problem+json"
    assert gateway.ask("GET", "/api/v1/users").status == other_service
    gateway.wait_metric('gateway_shed_total{upstream="catalogue"}', 1)
    gateway.wait_metric('gateway_shed_total{upstream="user"}', int(other_service == 503))
    assert gateway.ask("GET", "/health/ready").status == 200
    assert gateway.ask("GET", "/api/service-status").json()["services"]["catalogue"] == "up"
    gate.open.set()
    assert [client.answer().status for client in clients] == [200] * 3
    assert gateway.ask("GET", "/api/products").status == 200
    for client in clients:
        client.wire.close()


def test_connections_over_the_cap_are_503_and_closed(start_gateway: StartGateway) -> None:
    """Before anything is read of them; a place that becomes free is given away again. The objective for availability
    sees it: these are no requests that nobody could have answered.
    """
    gateway = start_gateway(WEB_CONCURRENCY="1", CLIENT_MAX_CONNECTIONS="2")
    first, second = gateway.client(), gateway.client()
    assert first.ask("GET", "/health/live").status == 200
    assert second.ask("GET", "/health/live").status == 200
    with gateway.client() as third:
        answer = third.answer()
        assert (answer.status, answer.get("retry-after"), answer.get("connection")) == (503, "1", "close")
        assert third.wire.closed_by_peer()
    first.wire.close()

    def served() -> bool:
        with gateway.client() as client:
            return client.ask("GET", "/health/live").status == 200

    wait_until(served)
    second.wire.close()
    wait_until(lambda: gateway.metric('gateway_http_requests_total{endpoint="connection",method="OTHER",status="503"}'))


def test_a_head_that_does_not_come_closes_the_connection(start_gateway: StartGateway) -> None:
    """A connection on which nothing is said ends in silence; half a head is answered with 400."""
    gateway = start_gateway(CLIENT_HEAD_TIMEOUT_MS="300")
    with gateway.client() as silent, gateway.client() as slow:
        slow.wire.send(b"GET / HTTP/1.1\r\nHost: a\r\n")
        began_s = time.monotonic()
        assert slow.answer().status == 400
        assert slow.wire.closed_by_peer()
        assert silent.wire.rest() == b""
        assert time.monotonic() - began_s < 2


def test_a_head_sent_byte_by_byte_has_no_longer(start_gateway: StartGateway) -> None:
    """The limit counts from the connection, not from the last byte."""
    gateway = start_gateway(CLIENT_HEAD_TIMEOUT_MS="500")
    with gateway.client() as client:
        began_s = time.monotonic()
        client.wire.send(b"GET / HTTP/1.1\r\nX-Slow: ")
        with contextlib.suppress(OSError):
            while time.monotonic() - began_s < 5:
                client.wire.send(b"x")
                time.sleep(0.03)
        assert time.monotonic() - began_s < 3


def test_a_client_that_reads_nothing_is_cut_off(start_gateway: StartGateway, backend: Backend) -> None:
    """And the service that was sending is let go."""
    released = threading.Event()

    def endless(wire: Wire, message: Message) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        try:
            while True:
                wire.send(b"x" * 100_000)
        except OSError:
            released.set()

    backend.on("/api/products/endless", endless)
    gateway = start_gateway(CLIENT_STALL_TIMEOUT_MS="500")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.connect(("127.0.0.1", gateway.port))
    sock.sendall(b"GET /api/products/endless HTTP/1.1\r\nHost: a\r\n\r\n")
    assert released.wait(5)
    sock.close()


def test_many_slow_clients_do_not_slow_the_others(start_gateway: StartGateway) -> None:
    """Two hundred half heads are held, and requests are answered beside them."""
    gateway = start_gateway(WEB_CONCURRENCY="1")
    clients = [gateway.client() for _ in range(200)]
    for client in clients:
        client.wire.send(b"GET /api/products HTTP/1.1\r\nHost: a\r\nX: ")
    with gateway.client() as client:
        for _ in range(20):
            assert client.ask("GET", "/api/products").status == 200
    for client in clients:
        client.wire.send(b"1\r\n\r\n")
    assert all(client.answer().status == 200 for client in clients)
    for client in clients:
        client.wire.close()


def test_slow_bodies_take_few_places_at_a_service(start_gateway: StartGateway, backend: Backend) -> None:
    """Two of a worker's stream; the others are waited for at the edge, and passed on when they are whole."""
    gateway = start_gateway(WEB_CONCURRENCY="1")
    clients = [gateway.client() for _ in range(12)]
    for client in clients:
        client.wire.send(b"POST /api/products/slow HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
    wait_until(lambda: backend.open_connections >= 2)
    assert gateway.ask("POST", "/api/products/quick", body=b"x").status == 200
    # One of them is the quick one's, and as it is free again it may be used.
    assert backend.open_connections <= 3
    for client in clients:
        client.wire.send(b"def")
    assert [client.answer().json()["body"] for client in clients] == ["abcdef"] * 12
    for client in clients:
        client.wire.close()


def test_who_sends_on_after_the_answer_is_cut_off(start_gateway: StartGateway) -> None:
    """Within two seconds, however often a piece comes: a time-out alone can be missed together with a piece."""
    gateway = start_gateway(WEB_CONCURRENCY="1")
    clients = [gateway.client() for _ in range(30)]
    for client in clients:
        client.wire.send(b"POST /health/live HTTP/1.1\r\nHost: a\r\nContent-Length: 60000\r\n\r\n")
        assert client.answer().status == 405
    began_s, left = time.monotonic(), list(clients)
    while left and time.monotonic() - began_s < 6:
        for client in list(left):
            try:
                client.wire.send(b"x")
            except OSError:
                left.remove(client)
    for client in clients:
        client.wire.close()
    assert not left


def test_connections_to_a_service_are_reused(start_gateway: StartGateway, backend: Backend) -> None:
    """A hundred requests of four clients take no more connections than there were requests at a time."""
    gateway = start_gateway(WEB_CONCURRENCY="1")

    def load() -> None:
        with gateway.client() as client:
            for _ in range(25):
                assert client.ask("GET", "/api/products").status == 200

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert backend.connections <= 4


def test_idle_connections_are_closed_in_time(start_gateway: StartGateway, backend: Backend) -> None:
    """Before the service's keep-alive time-out does it: UPSTREAM_IDLE_S."""
    gateway = start_gateway(WEB_CONCURRENCY="1", UPSTREAM_IDLE_S="0.5")
    assert gateway.ask("GET", "/api/products").status == 200
    wait_until(lambda: not backend.open_connections, timeout_s=5)


def test_a_client_that_says_nothing_more_is_let_go(start_gateway: StartGateway) -> None:
    """After the keep-alive time an idle connection is closed; one in use is not."""
    gateway = start_gateway(WEB_CONCURRENCY="1", GUNICORN_CMD_ARGS="--keep-alive 1")
    with gateway.client() as client:
        assert client.ask("GET", "/health/live").get("connection") is None
        assert client.ask("GET", "/health/live").status == 200
        assert client.wire.closed_by_peer()
