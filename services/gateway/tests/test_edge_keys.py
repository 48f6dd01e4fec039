"""Keys, scopes and rate limits as clients of real gateways meet them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chassis.children import wait_until
from chassis.database import Database
from chassis.metrics import Metrics
from chassis.servers import ValkeyServer
from chassis.settings import load
from chassis.testing import GunicornProcess
from gateway import db
from gateway.registry.keys import digest, generate
from gateway.registry.repository import Registry
from gateway.settings import Settings
from services.gateway.tests.conftest import answer

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Backend, Client, Gateway

StartGateway = Callable[..., "Gateway"]
ADMIN = "an-admin-key-of-this-module-and-of-nothing-else"
CLOSED = ("GET", "/api/v1/users")


@pytest.fixture
def keyed(start_gateway: StartGateway, tmp_path: Path) -> Gateway:
    """A gateway that knows the admin's key and no other."""
    file = tmp_path / "another-admin-key"
    file.write_text(f"{ADMIN}\n")
    return start_gateway(
        GATEWAY_ADMIN_KEY_FILE=str(file), RATE_LIMITS="address=100/day,key=200/day", LOG_LEVEL="DEBUG",
        WEB_CONCURRENCY="1",
    )  # fmt: skip


@contextmanager
def registry_of(url: str) -> Iterator[Registry]:
    """The registry in a database."""
    metrics = Metrics(service="gateway", version="1", commit="c")
    database = Database(load(Settings, database_url=url).db, application="test", metrics=metrics)
    try:
        yield Registry(database)
    finally:
        database.close()


@pytest.fixture
def registry(database_url: str, backend: Backend) -> Iterator[Registry]:
    """The registry of a database in which the house's routes lead to `backend`."""
    db.create(load(Settings, database_url=database_url, catalogue_url=backend.url, user_url=backend.url))
    with registry_of(database_url) as registry:
        yield registry


def status(gateway: Gateway, method: str, path: str, key: str | None = None, **headers: str) -> int:
    """What a request is answered with."""
    return gateway.ask(method, path, headers, key=key).status


def test_what_is_open_and_what_is_not(keyed: Gateway, backend: Backend) -> None:
    """Without a key: products, sign-up, preflights, health. With the admin's: everything, by whichever path."""
    open_to_all = [
        ("GET", "/"), ("GET", "/api/products"), ("GET", "/static/a.svg"), ("POST", "/api/v1/users"),
        ("POST", "/user/api/v1/users"), ("OPTIONS", "/api/v1/users"), ("GET", "/user/docs"),
        ("GET", "/t/storefront/catalogue/api/products"), ("POST", "/t/storefront/user/api/v1/users"),
        ("GET", "/health/live"), ("GET", "/docs"),
    ]  # fmt: skip
    closed = [
        CLOSED, ("HEAD", "/api/v1/users"), ("GET", "/api/v1/users/7"), ("POST", "/api/v1/users/7"),
        ("DELETE", "/api/v1/users/7"), ("GET", "/user/api/v1/users"), ("GET", "/api/v1/%75sers"),
        ("GET", "/t/storefront/user/api/v1/users"), ("GET", "/t/storefront/user/metrics"),
        ("GET", "/t/storefront/catalogue/health/ready"), ("POST", "/t/storefront/user/api/v1/users/"),
        ("GET", "/t/storefront/user/api/v1%2Fusers"),
    ]  # fmt: skip
    assert {line: status(keyed, *line) for line in open_to_all} == dict.fromkeys(open_to_all, 200)
    seen = len(backend.seen)
    assert {line: status(keyed, *line) for line in closed} == dict.fromkeys(closed, 401)
    assert len(backend.seen) == seen, "a refused request reached a service"
    assert {line: status(keyed, *line, key=ADMIN) for line in closed} == dict.fromkeys(closed, 200)
    for other in ("acme", "storefront2"):
        assert status(keyed, "GET", f"/t/{other}/user/x") in (401, 404)


def test_refusals_and_where_keys_go(keyed: Gateway, backend: Backend) -> None:
    """401 with a challenge and the state of the limit, 400 for two keys. A key reaches no service and no log, valid or
    not; what is not ours in `Authorization` goes on.
    """
    refused = keyed.ask(*CLOSED, key=None)
    assert refused.get("www-authenticate") == 'Bearer realm="storefront"'
    assert refused.get("content-type") == "application/problem+json"
    assert refused.json()["status"] == 401
    assert refused.get("ratelimit-limit") == "100"
    answered = keyed.ask(*CLOSED, {"Authorization": f"Bearer {ADMIN}"}, key=None)
    assert (answered.status, answered.get("ratelimit-limit")) == (200, "200")
    assert answered.get("ratelimit-policy") == "200;w=86400"
    assert status(keyed, *CLOSED, key=ADMIN, Authorization="Bearer another") == 400
    keyed.wait_metric('gateway_auth_failures_total{reason="missing"}', 1)
    keyed.wait_metric('gateway_auth_failures_total{reason="ambiguous"}', 1)

    unknown = generate()
    for key in (ADMIN, unknown):
        status(keyed, "GET", "/api/products/1", Authorization=f"Bearer {key}")
        status(keyed, "GET", "/api/products/1", key)
        status(keyed, "GET", "/api/products/1", key, Connection="close, x-api-key")
    status(keyed, "GET", "/api/products/2", ADMIN, Authorization="Basic dTpw")
    heads = [message.raw_head.decode("latin-1").lower() for message in backend.seen]
    assert not [head for head in heads if "x-api-key" in head or ADMIN in head or unknown.lower() in head]
    assert [head for head in heads if "basic dtpw" in head]
    keyed.wait_log("/api/products/2")
    assert ADMIN not in keyed.text()
    assert unknown not in keyed.text()


def test_scopes_and_revocation(
    start_gateway: StartGateway, registry: Registry, database_url: str, redis_url: str
) -> None:
    """A key does what its scopes say and not more; revoked, it does nothing within a second, on kept connections."""
    reader, linker = generate(), generate()
    registry.add_key(name="reader", digest=digest(reader), scopes=["users:read"], limit=None)
    registry.add_key(name="linker", digest=digest(linker), scopes=["links:write", "routes:read"], limit=None)
    gateway = start_gateway(DATABASE_URL=database_url, REDIS_URL=redis_url)
    wait_until(lambda: all(status(gateway, *CLOSED, key=reader) == 200 for _ in range(5)))
    wanted = {
        ("GET", "/api/v1/users"): (200, 403), ("DELETE", "/api/v1/users/7"): (403, 403),
        ("GET", "/api/v1/routes"): (403, 200), ("POST", "/api/v1/routes"): (403, 403),
        ("GET", "/t/storefront/user/metrics"): (403, 403), ("GET", "/t/storefront/user/api/v1/users"): (200, 403),
    }  # fmt: skip
    found = {line: (status(gateway, *line, key=reader), status(gateway, *line, key=linker)) for line in wanted}
    assert found == wanted
    assert "users:write" in gateway.ask("DELETE", "/api/v1/users/7", key=reader).json()["detail"]

    def refused(client: Client) -> bool:
        return client.ask(*CLOSED, {"X-API-Key": reader}).status == 401

    with gateway.client() as one, gateway.client() as other:
        for client in (one, other):
            assert client.ask(*CLOSED, {"X-API-Key": reader}).status == 200
        registry.revoke_key("reader")
        for client in (one, other):
            wait_until(partial(refused, client), timeout_s=3)


@pytest.mark.slow
def test_gateways_share_a_limit(start_gateway: StartGateway, redis_url: str) -> None:
    """Two gateways of two workers let exactly the limit through; health and metrics do not count."""
    gateways = [start_gateway(REDIS_URL=redis_url, RATE_LIMITS="address=20/day,address@home=5/day") for _ in range(2)]
    for gateway in gateways:
        for path in ("/health/live", "/health/ready", "/metrics", "/docs", "/api/service-status"):
            for _ in range(5):
                assert status(gateway, "GET", path) == 200
    statuses = [status(gateways[number % 2], "GET", "/api/products") for number in range(30)]
    assert sorted(statuses) == [200] * 20 + [429] * 10
    assert sorted(status(gateways[number % 2], "GET", "/") for number in range(8)) == [200] * 5 + [429] * 3
    refused = gateways[0].ask("GET", "/api/products", key=None)
    assert 4000 < int(refused.get("retry-after") or 0) <= 4320
    assert refused.get("ratelimit-remaining") == "0"
    assert refused.json()["title"] == "Too Many Requests"


def test_without_redis_nothing_fails(start_gateway: StartGateway, private_redis: ValkeyServer) -> None:
    """Hung, then dead: every request is answered, and what is too much is still refused."""
    gateway = start_gateway(REDIS_URL=private_redis.url, RATE_LIMITS="address=30/day")
    assert status(gateway, "GET", "/api/products") == 200
    private_redis.pause()
    statuses = [status(gateway, "GET", "/api/products") for _ in range(50)]
    private_redis.resume()
    private_redis.kill()
    statuses += [status(gateway, "GET", "/api/products") for _ in range(50)]
    assert set(statuses) == {200, 429}
    assert statuses.count(200) <= 2 * 30


@pytest.mark.parametrize("content", [None, "short"])
def test_a_bad_admin_key_stops_the_start(tmp_path: Path, content: str | None) -> None:
    """The process says in one line which variable, and does not start."""
    file = tmp_path / "key"
    if content is not None:
        file.write_text(content)
    process = GunicornProcess("gateway", directory=tmp_path, env={"GATEWAY_ADMIN_KEY_FILE": str(file)}, module="asgi")
    assert process.wait() == 1
    lines = [line for line in process.lines if "GATEWAY_ADMIN_KEY_FILE" in line]
    assert len(lines) == 1
    assert "Traceback" not in process.text()


def test_what_took_a_key_is_not_kept_for_others(keyed: Gateway, backend: Backend) -> None:
    """Even if the service says that it is public: the next one needs a key too, and gets an answer of its own."""
    public = "Cache-Control: public, max-age=60\r\n"
    backend.on("/api/v1/users", lambda wire, _message: answer(wire, headers=public))
    for _ in range(2):
        found = keyed.ask("GET", "/api/v1/users", key=ADMIN)
        assert (found.status, found.get("cache-status")) == (200, "storefront; fwd=bypass")
    assert len(backend.seen_at("/api/v1/users")) == 2
    assert keyed.ask("GET", "/api/v1/users", key=None).status == 401
