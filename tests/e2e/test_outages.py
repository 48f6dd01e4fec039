"""A real gateway before a real catalogue, whose stores die and which itself is stopped, killed and started again."""

from __future__ import annotations

import http.client
import json
import signal
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import psutil
import pytest

from chassis.servers import PostgresServer, ValkeyServer
from chassis.settings import load
from chassis.testing import GunicornProcess, free_port, wait_until
from gateway import db
from gateway.db import registry_of
from gateway.registry.keys import digest, generate
from gateway.settings import Settings

pytestmark = pytest.mark.slow

ADMIN = "k" * 40
PLACE = {"tenant": "team-a", "service": "shop", "env": "prod", "version": "v1"}


class Answer(NamedTuple):
    """What came, and how long it took."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    took_s: float


def ask(port: int, path: str, *, key: str | None = None, new: dict[str, Any] | None = None, **headers: str) -> Answer:
    """GET, or POST of `new`, on a connection of its own, so that any worker may answer."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    fields |= {"X-API-Key": key} if key else {}
    began_s = time.monotonic()
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=15)) as connection:
        if new is None:
            connection.request("GET", path, headers=fields)
        else:
            connection.request("POST", path, json.dumps(new), {**fields, "Content-Type": "application/json"})
        answer = connection.getresponse()
        return Answer(answer.status, answer.headers, answer.read(), time.monotonic() - began_s)


@pytest.fixture
def catalogue(tmp_path: Path) -> Iterator[GunicornProcess]:
    """A catalogue whose answers are stale at once, and may stand in for a day if it fails."""
    process = start_catalogue(tmp_path, str(free_port()))
    yield process
    freeze(process, frozen=False)
    process.stop()


def start_catalogue(directory: Path, port: str) -> GunicornProcess:
    """Start it on that port."""
    env = {"PORT": port, "CATALOGUE_MAX_AGE_SECONDS": "0", "LOG_LEVEL": "WARNING"}
    return GunicornProcess("catalogue", directory=directory, env=env).wait_alive()


def freeze(process: GunicornProcess, *, frozen: bool) -> None:
    """SIGSTOP or SIGCONT to all of a service."""
    if psutil.pid_exists(process.pid):
        for each in (psutil.Process(process.pid), *psutil.Process(process.pid).children()):
            each.suspend() if frozen else each.resume()


def test_routes_and_keys_outlive_every_store_and_the_gateway(
    catalogue: GunicornProcess, private_postgres: PostgresServer, private_redis: ValkeyServer, tmp_path: Path
) -> None:
    """PostgreSQL, Redis and Kafka dead: nobody notices, also after a restart; only changes of routes are refused, and
    taken again, without another restart, when the stores are back.
    """
    (tmp_path / "admin-key").write_text(ADMIN)
    url, text = private_postgres.create_database("gateway"), generate()
    settings = load(Settings, database_url=url, catalogue_url=catalogue.url)
    db.create(settings)
    with registry_of(settings) as registry:
        registry.create({**PLACE, "url": catalogue.url, "active": True, "weight": 100}, actor="test")
        registry.add_key(name="shop", digest=digest(text), scopes=["users:read"], limit=None)
    env = {
        "PORT": str(free_port()), "DATABASE_URL": url, "REDIS_URL": private_redis.url,
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{free_port()}", "GATEWAY_STATE_DIR": str(tmp_path / "state"),
        "GATEWAY_ADMIN_KEY_FILE": str(tmp_path / "admin-key"), "CACHE_BYTES": "0", "LOG_LEVEL": "ERROR",
    }  # fmt: skip
    port = int(env["PORT"])

    def check_traffic() -> None:
        for _ in range(10):
            assert ask(port, "/api/products").status == 200
            assert ask(port, "/t/team-a/shop/api/products", key=text).status == 200
            assert ask(port, "/t/team-a/shop/api/products", key="sf_another").status == 401

    with GunicornProcess("gateway", directory=tmp_path, env=env, module="asgi"):
        check_traffic()
        wait_until((tmp_path / "state" / "routes.json").exists)
        private_postgres.kill()
        private_redis.kill()
        check_traffic()
        refused = ask(port, "/api/v1/routes", key=ADMIN, new={**PLACE, "version": "v2", "url": catalogue.url})
        assert (refused.status, refused.took_s < 2) == (503, True)
    with GunicornProcess("gateway", directory=tmp_path, env=env, module="asgi"):
        check_traffic()
        ready = ask(port, "/health/ready")
        states = {name: check["status"] for name, check in json.loads(ready.body)["checks"].items()}
        assert ready.status == 200
        assert states == {
            "database": "unhealthy", "routes": "degraded", "cache": "degraded", "kafka": "degraded",
            "catalogue": "healthy", "user": "degraded",
        }  # fmt: skip
        private_postgres.start()
        private_redis.start()
        new = {**PLACE, "version": "v2", "url": catalogue.url}
        wait_until(lambda: ask(port, "/api/v1/routes", key=ADMIN, new=new).status in (201, 409), timeout_s=5)

        def is_everywhere() -> bool:
            answers = [ask(port, "/t/team-a/shop/", key=text, X_Route_Version="v2") for _ in range(8)]
            return all(answer.status == 200 for answer in answers)

        wait_until(is_everywhere, timeout_s=5)


def test_products_outlive_their_service(catalogue: GunicornProcess, tmp_path: Path) -> None:
    """A catalogue that hangs, then dies: what was asked for before is answered from the cache, after a second at most;
    the rest is 504 at the deadline or 503 at once. When it is back, so is everything.
    """
    env = {"CATALOGUE_URL": catalogue.url, "WEB_CONCURRENCY": "1", "LOG_LEVEL": "ERROR"}
    with GunicornProcess("gateway", directory=tmp_path, env=env, module="asgi") as gateway:
        products = ask(gateway.port, "/api/products").body
        freeze(catalogue, frozen=True)
        hung = [ask(gateway.port, "/api/products") for _ in range(5)]
        assert {(answer.status, answer.body) for answer in hung} == {(200, products)}
        assert max(answer.took_s for answer in hung) < 2.5
        late = ask(gateway.port, "/api/products/1", X_Request_Timeout_Ms="500")
        assert (late.status, late.took_s < 1.5) == (504, True)
        freeze(catalogue, frozen=False)
        catalogue.signal(signal.SIGKILL)
        catalogue.stop()
        dead = [ask(gateway.port, "/api/products") for _ in range(20)]
        assert {(answer.status, answer.body) for answer in dead} == {(200, products)}
        assert "stale-if-error" in dead[-1].headers["Cache-Status"]
        other = ask(gateway.port, "/api/products/1")
        assert (other.status, other.headers["Retry-After"] is not None, other.took_s < 0.5) == (503, True, True)
        back = start_catalogue(tmp_path, str(catalogue.port))
        try:
            wait_until(lambda: ask(gateway.port, "/api/products/1").status == 200, timeout_s=5)
        finally:
            back.stop()
