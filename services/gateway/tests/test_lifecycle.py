"""Start, drain, stop and reload of the real process, under load."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Self

import psutil
import pytest

from chassis.testing import Meanwhile, wait_until
from gateway.worker import LINGER_S

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Backend, Gateway, Message, Wire

StartGateway = Callable[..., "Gateway"]


class Load(Meanwhile):
    """Clients that ask one request after another on a connection they keep, and reconnect when told to close.

    `broken` counts requests that got no answer on a connection that had been accepted, `refused` attempts to connect
    that were turned away. A client that a busy machine kept from asking for longer than a stopping worker waits for
    idle connections has lost its own to that wait, not an answer.
    """

    def __init__(self, gateway: Gateway, clients: int = 4) -> None:
        super().__init__(self._visit, threads=clients)
        self.gateway = gateway
        self.statuses: dict[int, int] = {}
        self.broken = 0
        self.refused = 0

    def _visit(self, ending: threading.Event) -> None:
        while not ending.is_set():
            try:
                client = self.gateway.client()
            except OSError:
                self.refused += 1
                time.sleep(0.01)
                continue
            with client:
                self._ask(client)

    def _ask(self, client: object) -> None:
        answered_s = time.monotonic()
        while not self.ending.is_set():
            asked_s = time.monotonic()
            try:
                answer = client.ask("GET", "/api/products")  # type: ignore[attr-defined]
            except (OSError, AssertionError):
                self.broken += asked_s - answered_s < LINGER_S / 2
                return
            answered_s = time.monotonic()
            self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1
            if answer.get("connection") == "close":
                return

    def __enter__(self) -> Self:
        super().__enter__()
        wait_until(lambda: self.statuses.get(200, 0) > 50)
        return self


def slow(seconds: float) -> Callable[[Wire, Message], None]:
    """A handler that takes its time."""

    def handler(wire: Wire, message: Message) -> None:
        time.sleep(seconds)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nslow")

    return handler


def test_two_workers_serve(start_gateway: StartGateway) -> None:
    """By default."""
    gateway = start_gateway()
    wait_until(lambda: len(gateway.workers) == 2)


def test_sigterm_finishes_requests_in_flight(start_gateway: StartGateway, backend: Backend) -> None:
    """They are answered whole, new connections are refused meanwhile, and the exit code is 0."""
    backend.on("/api/products/slow", slow(1.0))
    gateway = start_gateway()
    clients = [gateway.client() for _ in range(10)]
    for number, client in enumerate(clients):
        client.wire.send(b"GET /api/products/slow?%d HTTP/1.1\r\nHost: a\r\n\r\n" % number)
    wait_until(lambda: len(backend.seen_at("/api/products/slow")) == 10)
    gateway.signal(signal.SIGTERM)
    answers = [client.answer() for client in clients]
    assert [(answer.status, answer.body, answer.get("connection")) for answer in answers] == [
        (200, b"slow", "close")
    ] * 10
    assert gateway.wait(timeout_s=5) == 0
    for client in clients:
        client.wire.close()


def test_sigterm_under_load_cuts_no_answer(start_gateway: StartGateway) -> None:
    """Keep-alive clients are told `Connection: close` with a whole answer before the process ends."""
    gateway = start_gateway()
    with Load(gateway) as load:
        gateway.signal(signal.SIGTERM)
        assert gateway.wait(timeout_s=8) == 0
    assert load.broken == 0
    assert set(load.statuses) == {200}


def test_draining_says_not_ready_and_serves(start_gateway: StartGateway) -> None:
    """For DRAIN_SECONDS after SIGTERM: 503 to the load balancer, 200 to clients, new connections too."""
    gateway = start_gateway(DRAIN_SECONDS="1.5")
    assert gateway.ask("GET", "/health/ready").status == 200
    gateway.signal(signal.SIGTERM)
    wait_until(lambda: gateway.ask("GET", "/health/ready").status == 503)
    answer = gateway.ask("GET", "/health/ready")
    assert answer.json()["status"] == "not_ready"
    assert gateway.ask("GET", "/api/products").status == 200
    assert gateway.ask("GET", "/health/live").status == 200
    assert gateway.wait(timeout_s=8) == 0


def test_idle_connections_do_not_delay_the_stop(start_gateway: StartGateway) -> None:
    """A client that keeps a connection open for 75 s does not keep the process up."""
    gateway = start_gateway()
    with gateway.client() as client:
        assert client.ask("GET", "/health/live").status == 200
        began_s = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert gateway.wait(timeout_s=5) == 0
        assert time.monotonic() - began_s < 4
        assert client.wire.closed_by_peer()


@pytest.mark.slow
def test_a_request_that_never_ends_is_given_up(start_gateway: StartGateway, backend: Backend) -> None:
    """After STOP_TIMEOUT_SECONDS, and the exit code is 0 all the same."""
    backend.on("/api/products/hang", lambda wire, _: wire.closed_by_peer())
    gateway = start_gateway(STOP_TIMEOUT_SECONDS="2", REQUEST_TIMEOUT_MS="60000")
    with gateway.client() as client:
        client.wire.send(b"GET /api/products/hang HTTP/1.1\r\nHost: a\r\n\r\n")
        wait_until(lambda: backend.seen_at("/api/products/hang"))
        began_s = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert gateway.wait(timeout_s=8) == 0
        assert 1 < time.monotonic() - began_s < 5


@pytest.mark.slow
def test_sigterm_right_after_the_start_is_obeyed(start_gateway: StartGateway) -> None:
    """Also by a worker that is still being born."""
    for _ in range(3):
        gateway = start_gateway()
        began_s = time.monotonic()
        gateway.signal(signal.SIGTERM)
        assert gateway.wait(timeout_s=8) == 0
        assert time.monotonic() - began_s < 5


def two_others(gateway: Gateway, before: set[int]) -> bool:
    """Whether the workers are two, and none of `before`."""
    now = set(gateway.workers)
    return len(now) == 2 and not now & before


@pytest.mark.slow
def test_reloads_under_load_fail_nothing(start_gateway: StartGateway) -> None:
    """Three HUPs: new workers take over, old ones finish; not one request is lost."""
    gateway = start_gateway()
    with Load(gateway) as load:
        for _ in range(3):
            before = set(gateway.workers)
            gateway.signal(signal.SIGHUP)
            wait_until(partial(two_others, gateway, before))
    assert (load.broken, load.refused) == (0, 0)
    assert set(load.statuses) == {200}


def test_a_killed_worker_is_replaced(start_gateway: StartGateway) -> None:
    """The other one serves meanwhile, and the totals of the dead one stay in the metrics."""
    gateway = start_gateway()
    for _ in range(10):
        assert gateway.ask("GET", "/api/products").status == 200
    line = 'gateway_http_requests_total{endpoint="products",method="GET",status="200"}'
    gateway.wait_metric(line, 10)
    wait_until(lambda: len(gateway.workers) == 2)
    victim, other = gateway.workers
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in gateway.workers and other in gateway.workers and len(gateway.workers) == 2)
    assert gateway.ask("GET", "/api/products").status == 200
    gateway.wait_metric(line, 11)


@pytest.mark.slow
@pytest.mark.parametrize("path", ["/api/products", "/api/products/large"])
def test_memory_is_flat(start_gateway: StartGateway, backend: Backend, path: str) -> None:
    """Thousands of requests leave nothing behind."""
    backend.on(
        "/api/products/large",
        lambda wire, _: wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 200000\r\n\r\n" + b"x" * 200_000),
    )
    gateway = start_gateway(WEB_CONCURRENCY="1")
    (worker,) = wait_until(lambda: gateway.workers)

    def after(requests: int) -> int:
        with gateway.client() as client:
            for _ in range(requests):
                assert client.ask("GET", path).status == 200
        return int(psutil.Process(worker).memory_info().rss)

    warm = after(500)
    assert after(1500) < warm + 2_000_000
