"""The cached pages: hits, misses, generations, ends of life, one maker at a time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import pytest
import redis
from flask import Flask
from flask.testing import FlaskClient

from chassis.database import DatabaseUnavailable
from chassis.testing import wait_until
from user.pages import Pages, Wanted

MakeApp = Callable[..., Flask]
Sql = Callable[..., list[tuple[Any, ...]]]


def get(client: FlaskClient, query: str = "") -> tuple[str, int]:
    """How the cache did, and the total of the page."""
    answer = client.get(f"/api/v1/users{query}")
    assert answer.status_code == 200, answer.text
    return answer.headers["X-Cache"], answer.get_json()["total"]


def add(client: FlaskClient, name: str) -> None:
    """Create a user."""
    answer = client.post("/api/v1/users", json={"username": name, "email": f"{name}@example.com"})
    assert answer.status_code == 201


def settled(app: Flask) -> FlaskClient:
    """A client, once the application's first turn in the background is over: it makes all pages unreadable."""
    pages = pages_of(app)
    wait_until(lambda: pages._generation._begun, what="the first turn")
    return app.test_client()


def pages_of(app: Flask) -> Pages:
    """The cached pages of an application."""
    pages = app.extensions["pages"]
    assert isinstance(pages, Pages)
    return pages


@pytest.fixture
def app(make_app: MakeApp, database_url: str, redis_url: str) -> Flask:
    """An application with an empty table and an empty cache."""
    return make_app(DATABASE_URL=database_url, REDIS_URL=redis_url)


@pytest.fixture
def other(make_app: MakeApp, database_url: str, redis_url: str) -> Flask:
    """A second worker of the same service."""
    return make_app(DATABASE_URL=database_url, REDIS_URL=redis_url)


def test_the_second_look_is_a_hit(app: Flask) -> None:
    """The same bytes and the same `Link`, for numbered pages and for those by `after`, in every worker."""
    client = settled(app)
    for query in ("", "?page=2&per_page=10", "?after=5"):
        first, second = (client.get(f"/api/v1/users{query}") for _ in range(2))
        assert (first.headers["X-Cache"], second.headers["X-Cache"]) == ("MISS", "HIT")
        assert (first.data, first.headers["Link"]) == (second.data, second.headers["Link"])


def test_ways_to_ask_for_the_same_page_share_it(app: Flask) -> None:
    """The cache goes by what is asked for, not by how it is written."""
    client = settled(app)
    assert get(client, "?per_page=100&page=1")[0] == "MISS"
    for query in ("?page=1&per_page=100", "?per_page=9999", "?page=01&per_page=0100"):
        assert get(client, query)[0] == "HIT", query


@pytest.mark.parametrize("change", ["post", "patch", "put", "delete"])
def test_after_a_write_no_worker_answers_with_what_was_before(app: Flask, other: Flask, change: str) -> None:
    """Every kind of write, whoever did it."""
    client, second = settled(app), settled(other)
    add(client, "ada")
    for each in (client, second):
        get(each)
        assert get(each)[0] == "HIT"
    body = {"username": "bob", "email": "bob@example.com"}
    address = "/api/v1/users" if change == "post" else "/api/v1/users/1"
    assert getattr(client, change)(address, **({} if change == "delete" else {"json": body})).status_code < 300
    answer = second.get("/api/v1/users")
    assert answer.headers["X-Cache"] == "MISS"
    assert ("bob" in answer.text) == (change != "delete")
    assert ("ada" in answer.text) == (change == "post")
    assert get(client)[0] == "HIT"


def test_what_changes_nothing_leaves_the_cache_alone(app: Flask) -> None:
    """Bad, clashing and unmet requests."""
    client = settled(app)
    add(client, "ada")
    get(client)
    client.post("/api/v1/users", json={})
    client.post("/api/v1/users", json={"username": "ada", "email": "x@example.com"})
    client.delete("/api/v1/users/9")
    client.delete("/api/v1/users/1", headers={"If-Match": '"x"'})
    assert get(client)[0] == "HIT"


def test_writing_is_one_command_whatever_the_number_of_pages(app: Flask, redis_url: str) -> None:
    """A SET; nothing is searched for and nothing deleted."""
    client = settled(app)
    for page in range(1, 60):
        get(client, f"?page={page}")
    with redis.Redis.from_url(redis_url) as server, redis.Redis.from_url(redis_url) as end:
        end.ping()
        with server.monitor() as monitor:
            add(client, "ada")
            end.echo("end")
            seen = []
            for command in monitor.listen():
                if command["command"].startswith("ECHO"):
                    break
                seen.append((command["db"], command["command"].split()[0]))
    database = int(redis_url.rpartition("/")[2])
    assert [name for db, name in seen if db == database] == ["SET"]


def test_a_page_made_before_a_write_is_not_read_after_it(app: Flask, other: Flask) -> None:
    """A reader that asked PostgreSQL before a commit and stores the page after it stores it where nobody looks."""
    client, slow = settled(app), settled(other)
    pages = pages_of(other)
    make, read, go_on = pages._make, threading.Event(), threading.Event()

    def held(wanted: Wanted) -> tuple[bytes, str]:
        made = make(wanted)
        read.set()
        go_on.wait(5)
        return made

    pages._make = held
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(get, slow)
        assert read.wait(5)
        add(client, "ada")
        go_on.set()
        assert late.result() == ("MISS", 0)  # it began before the write was answered
    pages._make = make
    assert get(slow) == ("MISS", 1)
    assert get(client) == ("HIT", 1)


def test_a_cold_page_is_made_once_in_a_worker(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """Requests that come while it is being made wait for it."""
    monkeypatch.setattr("user.pages.FOLLOWER_WAIT_S", 5.0)
    settled(app)
    pages = pages_of(app)
    make, made = pages._make, []
    start = threading.Barrier(6)

    def counted(wanted: Wanted) -> tuple[bytes, str]:
        made.append(wanted)
        time.sleep(0.1)  # the others arrive meanwhile
        return make(wanted)

    pages._make = counted

    def ask(_: int) -> str:
        start.wait()
        return get(app.test_client())[0]

    with ThreadPoolExecutor(6) as threads:
        assert list(threads.map(ask, range(6))) == ["MISS"] * 6
    assert len(made) == 1


def test_nobody_waits_long_for_another(app: Flask) -> None:
    """When it takes its maker too long, the others make the page themselves."""
    client = settled(app)
    pages = pages_of(app)
    make, hold = pages._make, threading.Event()
    first = True

    def stuck(wanted: Wanted) -> tuple[bytes, str]:
        nonlocal first
        mine, first = first, False
        if mine:
            hold.wait(5)
        return make(wanted)

    pages._make = stuck
    with ThreadPoolExecutor(1) as thread:
        late = thread.submit(get, app.test_client())
        wait_until(lambda: not first)
        began_s = time.monotonic()
        assert get(client)[0] == "MISS"
        assert 0.14 < time.monotonic() - began_s < 0.5
        hold.set()
        late.result()


def test_the_end_of_a_hot_page_under_load_is_made_anew_once(
    app: Flask, other: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its soft end one worker makes it; the others go on with the old one, so nobody waits and all are hits."""
    clients = [settled(app), settled(other)]
    made = []
    for each in (app, other):
        pages = pages_of(each)

        def counted(wanted: Wanted, make: Any = pages._make) -> tuple[bytes, str]:
            made.append(wanted)
            return make(wanted)  # type: ignore[no-any-return]

        pages._make = counted
    monkeypatch.setattr("user.pages.SOFT_SHARE", (0.0, 0.0))  # the page is at its soft end as soon as it is stored
    assert get(clients[0])[0] == "MISS"
    monkeypatch.setattr("user.pages.SOFT_SHARE", (0.8, 0.8))
    made.clear()
    with ThreadPoolExecutor(8) as threads:
        results = list(threads.map(lambda number: get((app, other)[number % 2].test_client())[0], range(60)))
    assert len(made) == 1
    assert results.count("MISS") == 1
    assert results.count("HIT") == 59


def test_at_its_soft_end_a_page_is_good_without_a_database(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    """It cannot be made anew, and nobody has written since: all go on with it until its end."""
    client = settled(app)
    monkeypatch.setattr("user.pages.SOFT_SHARE", (0.0, 0.0))
    assert get(client, "?per_page=7")[0] == "MISS"

    def lost(wanted: Wanted) -> tuple[bytes, str]:
        raise DatabaseUnavailable("The database cannot be reached")

    pages_of(app)._make = lost
    assert [get(client, "?per_page=7")[0] for _ in range(3)] == ["HIT"] * 3


def test_lives_of_pages_are_spread(app: Flask, redis_url: str) -> None:
    """60 s, a tenth more or less, never all the same."""
    client = settled(app)
    for page in range(1, 21):
        get(client, f"?page={page}")
    with redis.Redis.from_url(redis_url) as server:
        lives_ms = [server.pttl(key) for key in server.keys("*:page:*")]
    assert len(lives_ms) == 20
    assert all(53_000 < life <= 66_000 for life in lives_ms)
    assert max(lives_ms) - min(lives_ms) > 1000


def test_without_redis_every_page_is_made(make_app: MakeApp, database_url: str) -> None:
    """No REDIS_URL, no cache, no error."""
    app = make_app(DATABASE_URL=database_url)
    assert [get(app.test_client())[0] for _ in range(2)] == ["BYPASS"] * 2


def test_look_ups_are_counted(app: Flask) -> None:
    """`cache_requests_total{result}` says what `X-Cache` said."""
    client = settled(app)
    for _ in range(3):
        get(client)
    get(client, "?username=ada")
    text = client.get("/metrics").text
    for result, count in (("hit", 2), ("miss", 1), ("bypass", 1)):
        assert f'cache_requests_total{{result="{result}"}} {count}.0' in text


def test_a_lost_or_foreign_generation_begins_a_new_one(app: Flask, other: Flask, redis_url: str) -> None:
    """Flushed, evicted or overwritten: pages of before are not read, and the workers agree on the next one."""
    client, second = settled(app), settled(other)
    with redis.Redis.from_url(redis_url) as server:
        for spoil in (
            server.flushdb,
            partial(server.delete, "{users}:generation"),
            partial(server.set, "{users}:generation", "rubbish"),
            partial(server.set, "{users}:generation", ""),
        ):
            get(client)
            assert get(client)[0] == get(second)[0] == "HIT"
            spoil()
            assert get(client)[0] == "MISS"
            assert get(second)[0] == "HIT"


def test_a_writer_that_cannot_reach_redis_is_heard_through_postgresql(
    app: Flask, make_app: MakeApp, database_url: str, free_port: int
) -> None:
    """Cut off from Redis alone, it begins an epoch; the others see it within their next look and read no old page."""
    client = settled(app)
    cut_off = make_app(DATABASE_URL=database_url, REDIS_URL=f"redis://127.0.0.1:{free_port}/0").test_client()
    get(client)
    assert get(client) == ("HIT", 0)
    add(cut_off, "ada")
    assert get(cut_off) == ("BYPASS", 1)
    wait_until(lambda: get(client) == ("HIT", 1), timeout_s=1.5, what="the new epoch in the other worker")


def test_seeding_is_a_write(app: Flask, sql: Sql) -> None:
    """What `user-db` does behind the service's back begins an epoch too."""
    client = settled(app)
    get(client)
    sql("INSERT INTO users (username, email) VALUES ('ada', 'ada@example.com')")
    assert get(client) == ("HIT", 0)
    sql("SELECT nextval('users_cache_epoch')")
    wait_until(lambda: get(client)[1] == 1, timeout_s=1.5, what="the new epoch")


def test_an_unknown_error_of_redis_is_a_bypass(app: Flask, redis_url: str) -> None:
    """A key of another type in our place is answered from PostgreSQL, without a 5xx."""
    client = settled(app)
    with redis.Redis.from_url(redis_url) as server:
        server.delete("{users}:generation")
        server.lpush("{users}:generation", "x")
    assert client.get("/api/v1/users").status_code == 200
    add(client, "ada")
    assert get(client)[1] == 1


def test_a_hit_ahead_of_flask_answers_as_flask_does(make_app: MakeApp, database_url: str, redis_url: str) -> None:
    """The same status, headers and body with and without the way round it, and counted and named alike."""
    stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url}
    short, long = make_app(**stores), make_app(**stores, CORS_ORIGINS="https://shop.example")
    clients = [settled(short), settled(long)]
    add(clients[0], "ada")
    for query in ("", "?page=1&per_page=10", "?after=0"):
        for client in clients:
            get(client, query)
            get(client, query)
        answers = [client.get(f"/api/v1/users{query}", headers={"X-Request-ID": "id-1"}) for client in clients]
        assert answers[0].status == answers[1].status == "200 OK"
        assert answers[0].headers["X-Cache"] == answers[1].headers["X-Cache"] == "HIT"
        assert answers[0].data == answers[1].data
        assert set(answers[0].headers) <= set(answers[1].headers)  # which has those of CORS, too
    for client in clients:
        text = client.get("/metrics").text
        assert 'user_http_requests_total{endpoint="list_users",method="GET",status="200"} 9.0' in text
        assert "unmatched" not in text


def test_browsers_get_their_cors_headers_with_hits_too(make_app: MakeApp, database_url: str, redis_url: str) -> None:
    """With origins allowed, every answer goes through Flask."""
    client = settled(make_app(DATABASE_URL=database_url, REDIS_URL=redis_url, CORS_ORIGINS="https://shop.example"))
    for expected in ("MISS", "HIT"):
        answer = client.get("/api/v1/users", headers={"Origin": "https://shop.example"})
        assert answer.headers["X-Cache"] == expected
        assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example"
