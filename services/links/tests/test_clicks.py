"""No click is lost or counted twice: over a stop, a kill, and stores that go away."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import redis

from chassis.cache import Cache
from chassis.database import Database
from chassis.metrics import Metrics
from chassis.settings import DatabaseSettings, RedisSettings, parse_database_url
from chassis.testing import CutProxy, GunicornProcess, wait_until
from chassis.testing.apps import MakeApp
from chassis.testing.calls import call
from links.clicks import Clicks
from links.repository import Links

LINKS = "/api/v1/links"
URL = "https://example.com/"
StartLinks = Callable[..., GunicornProcess]
Sql = Callable[..., list[tuple[Any, ...]]]


def follow(service: GunicornProcess, code: str, times: int) -> None:
    """Follow a link that often, four at once."""
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: call(service, "GET", f"/s/{code}").status, range(times)))
    assert answers == [302] * times


def test_a_stop_stores_what_is_in_memory(links: StartLinks, database_url: str, sql: Sql) -> None:
    """Without Redis, right after the clicks, from two workers: all of them are there, and the exit code is 0."""
    service = links(DATABASE_URL=database_url, WEB_CONCURRENCY="2")
    code = call(service, "POST", LINKS, {"url": URL}).body["code"]
    follow(service, code, 50)
    service.signal(signal.SIGTERM)
    assert service.wait() == 0
    assert sql("SELECT clicks FROM links") == [(50,)]


@pytest.mark.slow
def test_a_kill_loses_nothing_that_redis_has(
    links: StartLinks, database_url: str, redis_url: str, sql: Sql
) -> None:  # fmt: skip
    """All processes killed at once: the next service finds every click, and counts it once."""
    env = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    service = links(**env)
    code = call(service, "POST", LINKS, {"url": URL}).body["code"]
    follow(service, code, 50)
    for pid in (service.pid, *service.workers):
        os.kill(pid, signal.SIGKILL)
    links(**env)
    wait_until(lambda: sql("SELECT clicks FROM links") == [(50,)])


def test_what_was_stored_and_not_thrown_away_is_counted_once(database_url: str, redis_url: str, sql: Sql) -> None:
    """Whoever dies between the two leaves a batch that the next one finds, and that changes nothing any more."""
    metrics = Metrics(service="links", version="", commit="")
    database = Database(DatabaseSettings(**parse_database_url(database_url)), application="test", metrics=metrics)
    cache = Cache(RedisSettings(url=redis_url), metrics=metrics)
    table = Links(database)
    for code in ("one", "two"):
        table.create(url=URL, code=code, expires_at=None, owner="")
    dead, alive = Clicks(cache, table), Clicks(cache, table)
    for code in ("one", "one", "two", "nothere"):
        dead.add(code)
    batch = dead._set_aside("an-id")
    assert batch is not None
    table.count(batch)
    alive.add("two")
    alive.flush()
    alive.flush()
    assert sql("SELECT code, clicks FROM links ORDER BY code") == [("one", 2), ("two", 2)]
    with redis.Redis.from_url(redis_url) as server:
        assert server.keys("{links}:clicks*") == []
        server.hset("{links}:clicks", mapping={f"code-{number}": 1 for number in range(5000)} | {"one": 3})
    alive.flush()
    assert sql("SELECT clicks FROM links WHERE code = 'one'") == [(5,)]
    cache.close()
    database.close()


@pytest.mark.parametrize("how", ["cut", pytest.param("hang", marks=pytest.mark.slow)])
def test_while_postgresql_is_away(
    how: str,
    database_url: str,
    redis_url: str,
    cut_proxy: Callable[[str, int], CutProxy],
    sql: Sql,
    make_app: MakeApp,
) -> None:
    """What Redis knows leads on, and its clicks wait there; the rest is 503 with Retry-After, in bounded time."""
    settings = DatabaseSettings(**parse_database_url(database_url))
    wire = cut_proxy(settings.host, settings.port)
    client: Any = make_app(DATABASE_URL=wire.url_for(database_url), REDIS_URL=redis_url).test_client()
    code = client.post(LINKS, json={"url": URL}).json["code"]
    with redis.Redis.from_url(redis_url) as server:
        server.delete(f"{{links}}:to:{code}")
    assert client.get(f"/s/{code}").status_code == 302
    getattr(wire, how)()
    for _ in range(5):
        assert client.get(f"/s/{code}").status_code == 302
    for answer in (client.get("/s/unknown"), client.post(LINKS, json={"url": URL}), client.get(f"{LINKS}/{code}")):
        assert (answer.status_code, answer.headers.get("Retry-After")) == (503, "1")
    page = client.post("/links", data={"url": URL})
    assert (page.status_code, page.mimetype) == (503, "text/html")
    wire.heal()
    wait_until(lambda: sql("SELECT clicks FROM links") == [(6,)])
    wait_until(lambda: client.get(f"{LINKS}/{code}").status_code == 200)
