"""Traffic moved by the registry through a whole gateway: split, pinned, moved under load, kept without any store."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from chassis.servers import PostgresServer, ValkeyServer
from chassis.settings import load
from chassis.testing import Meanwhile, wait_until
from gateway import db
from gateway.settings import Settings
from services.gateway.tests.conftest import Backend, Gateway, Message, Wire, answer

StartGateway = Callable[..., Gateway]
JSON = {"Content-Type": "application/json"}
ROUTES = "/api/v1/routes"
HOUSE = {"tenant": "storefront", "service": "catalogue", "env": "prod"}
PRODUCT = "/api/products/1"


def named(backend: Backend, name: str) -> Backend:
    """`backend`, which answers every product with its name."""

    def say(wire: Wire, message: Message) -> None:
        answer(wire, b"" if message.method == "HEAD" else name.encode())

    backend.on(PRODUCT, say)
    backend.on("/deep/er", say)
    return backend


@pytest.fixture
def old(backend: Backend) -> Backend:
    """The version `v1` of the catalogue."""
    return named(backend, "old")


@pytest.fixture
def new() -> Iterator[Backend]:
    """The version `v2` of it."""
    backend = named(Backend(), "new")
    yield backend
    backend.stop()


def call(gateway: Gateway, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
    """What the registry answers; it must be a success."""
    found = gateway.ask(method, path, JSON, json.dumps(body).encode() if body is not None else b"")
    assert found.status in (200, 201, 204), found.body
    return found.json() if found.body else None


def prepare(database_url: str, old: Backend) -> None:
    """Schema, and a first start's routes."""
    db.create(load(Settings, database_url=database_url, catalogue_url=old.url, user_url=old.url))


@pytest.fixture
def shop(start_gateway: StartGateway, database_url: str, redis_url: str, old: Backend, new: Backend) -> Gateway:
    """A gateway of two workers that caches nothing, with `v1` at weight 90 and `v2` at 10."""
    prepare(database_url, old)
    gateway = start_gateway(DATABASE_URL=database_url, REDIS_URL=redis_url, CACHE_BYTES="0")
    call(gateway, "PATCH", f"{ROUTES}/1", {"weight": 90})
    call(gateway, "POST", ROUTES, {**HOUSE, "version": "v2", "url": new.url, "weight": 10})
    wait_until(lambda: gateway.metric("gateway_routes_revision") == 4, timeout_s=5)  # of the worker that is behind
    return gateway


def share(gateway: Gateway, count: int, connections: int = 4) -> Counter[str]:
    """Who answered `count` requests, by turns on so many connections: the gateway ends one that says nothing."""
    found: Counter[str] = Counter()
    with ExitStack() as stack:
        clients = [stack.enter_context(gateway.client()) for _ in range(connections)]
        for number in range(count):
            found[clients[number % connections].ask("GET", PRODUCT).body.decode()] += 1
    return found


@pytest.mark.slow
def test_weights_split_ten_thousand_requests(shop: Gateway) -> None:
    """Within 2 % of what they say, over both workers."""
    assert share(shop, 10_000)["new"] == pytest.approx(1000, abs=200)


def test_a_version_can_be_pinned_and_a_client_can_stick(shop: Gateway) -> None:
    """X-Route-Version beats the weights; the same X-Route-Key gets the same version from every worker."""
    for version, name in (("v1", b"old"), ("v2", b"new")):
        assert {shop.ask("GET", PRODUCT, {"X-Route-Version": version}).body for _ in range(8)} == {name}
    assert shop.ask("GET", PRODUCT, {"X-Route-Version": "v3"}).status == 404
    call(shop, "PATCH", f"{ROUTES}/3", {"weight": 90})
    wait_until(lambda: shop.metric("gateway_routes_revision") == 5, timeout_s=5)
    by_key = {
        key: {shop.ask("GET", PRODUCT, {"X-Route-Key": key}).body for _ in range(6)} for key in map(str, range(12))
    }
    assert all(len(answers) == 1 for answers in by_key.values())
    assert len(set.union(*by_key.values())) == 2


def test_traffic_moves_and_no_request_fails(shop: Gateway, old: Backend, new: Backend) -> None:
    """Reweighted, switched off and on, repointed and taken away while six clients ask without a pause."""
    seen = Counter[tuple[int, bytes]]()

    def load(ending: threading.Event) -> None:
        with shop.client() as client:
            while not ending.is_set():
                found = client.ask("GET", PRODUCT)
                seen[found.status, found.body] += 1

    def settles(name: str) -> bool:
        return share(shop, 40) == {name: 40}

    name = {**HOUSE, "version": "v2"}
    with Meanwhile(load, threads=6):
        call(shop, "PATCH", f"{ROUTES}/3", {"weight": 50})
        call(shop, "PATCH", f"{ROUTES}/1", {"weight": 0})
        wait_until(lambda: settles("new"), timeout_s=5)
        call(shop, "PATCH", f"{ROUTES}/1", {"weight": 100})
        call(shop, "POST", f"{ROUTES}/deactivate", name)
        wait_until(lambda: settles("old"), timeout_s=5)
        call(shop, "POST", f"{ROUTES}/activate", name)
        call(shop, "PATCH", f"{ROUTES}/1", {"url": new.url})
        wait_until(lambda: settles("new"), timeout_s=5)
        call(shop, "DELETE", f"{ROUTES}/3")
        call(shop, "PATCH", f"{ROUTES}/1", {"url": old.url})
        wait_until(lambda: settles("old"), timeout_s=5)
    assert set(seen) == {(200, b"old"), (200, b"new")}


def test_any_tenant_is_reached_below_t(shop: Gateway, new: Backend) -> None:
    """By its name and the rest of the path, below the route's URL; unknown ones are 404, sleeping ones 503."""
    call(
        shop,
        "POST",
        ROUTES,
        {"tenant": "team-a", "service": "pay", "env": "test", "version": "1", "url": f"{new.url}/deep"},
    )
    wait_until(lambda: shop.metric("gateway_routes_revision") == 5, timeout_s=5)
    found = shop.ask("GET", "/t/team-a/pay/er?a=1", {"X-Route-Env": "test"})
    assert (found.status, found.body) == (200, b"new")
    assert new.seen_at("/deep/er")[0].target == "/deep/er?a=1"
    assert shop.ask("GET", "/t/team-a/pay/er").status == 404
    assert shop.ask("GET", "/t/team-b/pay/er").status == 404
    assert shop.ask("GET", "/t/team-a/pay/er", key=None).status == 401
    call(shop, "PATCH", f"{ROUTES}/4", {"active": False})
    wait_until(lambda: shop.ask("GET", "/t/team-a/pay/er", {"X-Route-Env": "test"}).status == 503, timeout_s=5)


@pytest.mark.slow
def test_it_starts_with_every_store_down(
    start_gateway: StartGateway,
    private_postgres: PostgresServer,
    private_redis: ValkeyServer,
    old: Backend,
    new: Backend,
    tmp_path: Path,
) -> None:
    """On the routes that it knew last, whatever its settings say, and with the keys that it knew."""
    prepare(private_postgres.url, old)
    saved = tmp_path / "state" / "routes.json"
    env = {
        "DATABASE_URL": private_postgres.url, "REDIS_URL": private_redis.url, "GATEWAY_STATE_DIR": str(saved.parent),
        "CATALOGUE_URL": old.url, "CACHE_BYTES": "0", "LOG_LEVEL": "INFO",
    }  # fmt: skip
    first = start_gateway(**env)
    call(first, "PATCH", f"{ROUTES}/1", {"url": new.url})
    wait_until(lambda: share(first, 8) == {"new": 8}, timeout_s=5)
    wait_until(lambda: saved.exists() and new.url in saved.read_text(), timeout_s=5)
    first.stop()
    private_postgres.stop()
    private_redis.stop()
    second = start_gateway(**env)
    assert share(second, 8) == {"new": 8}
    ready = second.ask("GET", "/health/ready")
    assert (ready.status, ready.json()["checks"]["database"]["status"]) == (200, "unhealthy")
    refused = second.ask("POST", ROUTES, JSON, json.dumps({**HOUSE, "version": "v9", "url": old.url}).encode())
    assert (refused.status, refused.get("retry-after")) == (503, "1")
    private_postgres.start()
    # Each worker finds its database again in its own time, so one 200 is not yet an answer from both.
    wait_until(lambda: second.ask("GET", f"{ROUTES}?version=v9").json().get("total") == 0, timeout_s=10)
