"""Redis dies, hangs, comes back: pages are answered, quickly, and never older than the last answered write."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from itertools import count
from pathlib import Path

import pytest
import redis

from chassis.servers import ValkeyServer
from chassis.testing import Meanwhile, wait_until
from chassis.testing.calls import Answer, call, metric
from chassis.testing.gunicorn import GunicornProcess
from chassis.testing.proxy import CutProxy

USERS = "/api/v1/users"
FIRST_CALL_S = 0.3
BUSY_MACHINE_S = 0.25
"""What a test machine with every core busy may add."""

StartUser = Callable[..., GunicornProcess]


def page(service: GunicornProcess, query: str = "?per_page=100") -> Answer:
    """A page of users, which is answered whatever is the matter with Redis."""
    answer = call(service, "GET", USERS + query)
    assert answer.status == 200, service.text()
    return answer


def add(service: GunicornProcess, name: str) -> Answer:
    """Create a user, which works whatever is the matter with Redis."""
    answer = call(service, "POST", USERS, {"username": name, "email": f"{name}@example.com"})
    assert answer.status == 201, service.text()
    return answer


def names(answer: Answer) -> set[str]:
    """The user names on a page."""
    return {user["username"] for user in answer.body["users"]}


def is_hit(service: GunicornProcess) -> bool:
    """Whether the cache works in this worker (again)."""
    return page(service).headers["X-Cache"] == "HIT"


@pytest.fixture
def pair(user: StartUser, database_url: str, private_redis: ValkeyServer) -> list[GunicornProcess]:
    """Two workers on the same stores, both with a page in the cache."""
    services = [user(DATABASE_URL=database_url, REDIS_URL=private_redis.url) for _ in range(2)]
    for service in services:
        wait_until(lambda service=service: is_hit(service))  # type: ignore[misc]
    return services


@pytest.mark.parametrize("fault", [pytest.param("kill", marks=pytest.mark.slow), "pause"])
def test_a_lost_redis_costs_one_short_wait_and_no_error(
    pair: list[GunicornProcess], private_redis: ValkeyServer, fault: str
) -> None:
    """Dead or hung: the first call takes 0.3 s at the most, those after it what they take without a cache."""
    getattr(private_redis, fault)()
    for service, name in zip(pair, ("ada", "bob"), strict=True):
        first = page(service)
        assert first.headers["X-Cache"] == "BYPASS"
        assert first.took_s < FIRST_CALL_S + BUSY_MACHINE_S
        assert add(service, name).took_s < FIRST_CALL_S + BUSY_MACHINE_S
        later_s = sorted(
            [page(service).took_s for _ in range(15)] + [add(service, f"{name}{n}").took_s for n in range(5)]
        )
        assert later_s[len(later_s) // 2] < 0.1
        assert later_s[-1] < 0.15 + BUSY_MACHINE_S  # a turn in the background may hold one of them up
        health = call(service, "GET", "/health")
        assert (health.status, health.body["status"], health.body["database"]) == (200, "degraded", "connected")
        assert call(service, "GET", "/health/ready").status == 200
    getattr(private_redis, {"kill": "start", "pause": "resume"}[fault])()
    for service in pair:
        wait_until(lambda service=service: is_hit(service), timeout_s=5)  # type: ignore[misc]
        assert {"ada", "bob"} <= names(page(service))
        assert metric(service, "cache_connected") == 1
        assert not any(line.get("status", 0) >= 500 for line in service.logs)


def test_a_redis_that_hangs_and_goes_on_gives_nothing_old(
    pair: list[GunicornProcess], private_redis: ValkeyServer
) -> None:
    """A write during the hang is seen by every worker at once when Redis goes on, also by one that noticed nothing."""
    writer, reader = pair
    for number in range(4):
        wait_until(lambda: is_hit(reader) and is_hit(writer), timeout_s=5)
        private_redis.pause()
        written = [f"user{number}-{each}" for each in range(number + 1)]
        for name in written:
            add(writer, name)
        private_redis.resume()
        assert set(written) <= names(page(reader))
        assert set(written) <= names(page(writer))


def test_a_full_redis_that_drops_nothing_gives_nothing_old(
    pair: list[GunicornProcess], private_redis: ValkeyServer
) -> None:
    """maxmemory reached with `noeviction`: a generation cannot be set, pages are still there, and are not read."""
    writer, reader = pair
    with redis.Redis.from_url(private_redis.url) as client:
        for number in range(5):
            wait_until(lambda: is_hit(reader) and is_hit(writer), timeout_s=5)
            client.config_set("maxmemory-policy", "noeviction")
            client.config_set("maxmemory", "1mb")
            add(writer, f"user{number}")
            assert f"user{number}" in names(page(reader))
            assert f"user{number}" in names(page(writer))
            client.config_set("maxmemory", "0")


@pytest.mark.slow
def test_a_redis_that_dies_and_remembers_gives_nothing_old(
    user: StartUser, database_url: str, servers_directory: Path
) -> None:
    """Killed with its data on disk, a write meanwhile, started again: what it remembers is not read."""
    server = ValkeyServer(servers_directory / "remembering", durable=True, shelter_root=servers_directory)
    try:
        server.start()
        services = [user(DATABASE_URL=database_url, REDIS_URL=server.url) for _ in range(2)]
        for service in services:
            wait_until(lambda service=service: is_hit(service))  # type: ignore[misc]
        time.sleep(1.2)  # appendfsync everysec: the old page has to be on disk for this to prove anything
        server.kill()
        add(services[0], "ada")
        server.start()
        for service in services:
            for _ in range(20):
                assert names(page(service)) == {"ada"}
            wait_until(lambda service=service: is_hit(service), timeout_s=5)  # type: ignore[misc]
            assert names(page(service)) == {"ada"}
    finally:
        server.destroy()


@pytest.mark.slow
def test_no_read_is_older_than_an_answered_write_whatever_redis_does(
    pair: list[GunicornProcess], private_redis: ValkeyServer
) -> None:
    """Redis hangs, goes on, dies and starts at random moments; after each write both workers are asked at once."""

    def torment(ending: threading.Event) -> None:
        chance = random.Random(2)
        while not ending.wait(chance.uniform(0, 0.3)):
            if chance.random() < 0.25:
                private_redis.kill()
                ending.wait(chance.uniform(0, 0.3))
                private_redis.start()
            else:
                private_redis.pause()
                ending.wait(chance.uniform(0, 0.5))
                private_redis.resume()

    with Meanwhile(torment):
        end_s, last = time.monotonic() + 8, 0
        for number in count():
            if time.monotonic() > end_s:
                break
            writer, other = pair if number % 2 else reversed(pair)
            last = add(writer, f"user{number}").body["id"]
            for service in (other, writer):
                assert f"user{number}" in names(page(service, f"?per_page=100&page={(number // 100) + 1}"))
        assert last > 20
    results = {line["route"] for line in pair[0].logs if "route" in line}
    assert "list_users" in results


@pytest.fixture
def wire(cut_proxy: Callable[[str, int], CutProxy], private_redis: ValkeyServer) -> CutProxy:
    """The way of one worker to Redis."""
    return cut_proxy("127.0.0.1", private_redis.port)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "hang"])
def test_a_writer_cut_off_from_redis_is_heard_within_a_second(
    user: StartUser, database_url: str, private_redis: ValkeyServer, wire: CutProxy, fault: str
) -> None:
    """The one window there is: the reader still reaches Redis. It learns of the write from PostgreSQL, in 0.5 s."""
    writer = user(DATABASE_URL=database_url, REDIS_URL=wire.url_for(private_redis.url))
    reader = user(DATABASE_URL=database_url, REDIS_URL=private_redis.url)
    wait_until(lambda: is_hit(reader) and is_hit(writer))
    getattr(wire, fault)()
    for name in ("ada", "bob"):
        add(writer, name)
        assert name in names(page(writer))
        wait_until(lambda name=name: name in names(page(reader)), timeout_s=1 + BUSY_MACHINE_S)  # type: ignore[misc]
        wait_until(lambda: is_hit(reader))
    wire.heal()
    wait_until(lambda: is_hit(writer), timeout_s=5)
    add(writer, "eve")
    assert "eve" in names(page(reader))


def test_hits_go_on_while_postgresql_hangs(user: StartUser, private_redis: ValkeyServer, postgres: object) -> None:
    """What is cached is answered from the cache, what is not is 503, quickly."""
    service = user(DATABASE_URL=postgres.url, REDIS_URL=private_redis.url)  # type: ignore[attr-defined]
    wait_until(lambda: is_hit(service))
    postgres.pause()  # type: ignore[attr-defined]
    try:
        for _ in range(5):
            answer = page(service)
            assert answer.headers["X-Cache"] == "HIT"
            assert answer.took_s < 0.1 + BUSY_MACHINE_S
        other = call(service, "GET", f"{USERS}?page=2")
        assert other.status == 503
        assert other.took_s < 1 + BUSY_MACHINE_S
    finally:
        postgres.resume()  # type: ignore[attr-defined]
    wait_until(lambda: call(service, "GET", f"{USERS}?page=2").status == 200, timeout_s=2 + BUSY_MACHINE_S)
