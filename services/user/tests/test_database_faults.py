"""PostgreSQL dies, hangs, is cut off, is busy: 503 in time, back in time, and no answered write lost or doubled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from itertools import count
from pathlib import Path

import psycopg2
import pytest

from chassis import migrations
from chassis.servers import PostgresServer
from chassis.settings import DatabaseSettings, parse_database_url
from chassis.testing import Meanwhile, wait_until
from chassis.testing.calls import Answer, call, metric
from chassis.testing.gunicorn import GunicornProcess
from chassis.testing.proxy import CutProxy

USERS = "/api/v1/users"
DOWN_LIMIT_S = 1.0
UP_LIMIT_S = 2.0
BUSY_MACHINE_S = 0.25
"""What a test machine with every core busy may add."""

StartUser = Callable[..., GunicornProcess]


def add(service: GunicornProcess, name: str, *, key: str | None = None) -> Answer:
    """POST a user."""
    headers = {"Idempotency-Key": key} if key else {}
    return call(service, "POST", USERS, {"username": name, "email": f"{name}@example.com"}, headers=headers)


def usernames(url: str) -> list[str]:
    """All user names in the table, as PostgreSQL itself says."""
    with closing(psycopg2.connect(url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT username FROM users ORDER BY id")
        return [row[0] for row in cursor.fetchall()]


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["kill", "pause", "stop"])
def test_a_lost_database_is_503_and_back_in_time(user: StartUser, postgres: PostgresServer, fault: str) -> None:
    """Killed, hung or stopped: 503 with Retry-After within 1 s, at once after that; healthy 2 s after it is back."""
    service = user(DATABASE_URL=postgres.url)
    assert add(service, "ada").status == 201
    getattr(postgres, fault)()
    try:
        for method, path, body in (
            ("GET", USERS, None),
            ("GET", f"{USERS}/1", None),
            ("GET", f"{USERS}?username=ada", None),
            ("POST", USERS, {"username": "bob", "email": "bob@example.com"}),
            ("PATCH", f"{USERS}/1", {"full_name": "x"}),
            ("DELETE", f"{USERS}/1", None),
        ):
            answer = call(service, method, path, body)
            assert answer.status == 503, (method, path)
            assert answer.headers["Content-Type"] == "application/problem+json"
            assert int(answer.headers["Retry-After"]) >= 1
            assert answer.took_s < DOWN_LIMIT_S + BUSY_MACHINE_S
        wait_until(lambda: call(service, "GET", "/health/ready").status == 503, timeout_s=3)
        health = call(service, "GET", "/health")
        assert (health.status, health.body["status"], health.body["database"]) == (503, "unhealthy", "disconnected")
        assert health.body["error"].isidentifier()
        assert call(service, "GET", "/health/live").status == 200
    finally:
        getattr(postgres, {"pause": "resume"}.get(fault, "start"))()
    began_s = time.monotonic()
    wait_until(lambda: call(service, "GET", USERS).status == 200, timeout_s=UP_LIMIT_S + BUSY_MACHINE_S)
    wait_until(
        lambda: call(service, "GET", "/health").status == 200,
        timeout_s=max(0.1, began_s + UP_LIMIT_S + BUSY_MACHINE_S - time.monotonic()),
    )
    assert add(service, "eve").status == 201


@pytest.mark.slow
def test_no_answered_write_is_lost_and_none_is_done_twice(user: StartUser, servers_directory: Path) -> None:
    """PostgreSQL is killed twice under a stream of POSTs with keys; each is sent again until it is answered."""
    server = PostgresServer(servers_directory / "stream", durable=True, shelter_root=servers_directory)
    answered: dict[str, int] = {}
    numbers = count()
    try:
        server.start()
        migrations.upgrade("user", DatabaseSettings(**parse_database_url(server.url)))
        service = user(DATABASE_URL=server.url, WEB_CONCURRENCY="2")

        def is_answered(name: str) -> bool:
            answer = add(service, name, key=f"key-{name}")
            if answer.status == 201:
                answered[name] = answer.body["id"]
                return True
            assert answer.status in (503, 409), answer.body
            assert answer.status == 503 or "in progress" in answer.body["detail"], answer.body
            return False

        def stream(ending: threading.Event) -> None:
            while not ending.is_set():
                wait_until(partial(is_answered, f"user-{next(numbers)}"), timeout_s=20, interval_s=0.02)

        with Meanwhile(stream, threads=4):
            for _ in range(2):
                before = len(answered)
                wait_until(lambda before=before: len(answered) > before + 60, timeout_s=20)  # type: ignore[misc]
                server.kill()
                server.start()
            before = len(answered)
            wait_until(lambda: len(answered) > before + 20, timeout_s=20)
        there = usernames(server.url)
    finally:
        server.destroy()
    assert sorted(there) == sorted(answered)
    assert len(set(answered.values())) == len(answered)


def test_a_cut_connection_is_retried_for_reads_and_for_writes_that_were_not_sent(
    user: StartUser, postgres: PostgresServer, cut_proxy: Callable[[str, int], CutProxy]
) -> None:
    """Idle connections that were cut are found before anything is sent on them: nobody notices."""
    wire = cut_proxy("127.0.0.1", postgres.port)
    service = user(DATABASE_URL=wire.url_for(postgres.url))
    for number in range(5):
        assert add(service, f"user{number}").status == 201
        wire.cut()
        wire.heal()
        assert call(service, "GET", f"{USERS}?username=user{number}").status == 200
        wire.cut()
        wire.heal()
    assert add(service, "last").status == 201
    assert usernames(postgres.url) == [*(f"user{number}" for number in range(5)), "last"]


def test_a_read_that_was_under_way_is_tried_again(
    user: StartUser, postgres: PostgresServer, cut_proxy: Callable[[str, int], CutProxy]
) -> None:
    """The wire is cut while the answer is on its way, and heals: the client gets 200."""
    wire = cut_proxy("127.0.0.1", postgres.port)
    service = user(DATABASE_URL=wire.url_for(postgres.url), DB_OPERATION_TIMEOUT_MS="3000")
    assert add(service, "ada").status == 201
    wire.delay(0.3)
    with ThreadPoolExecutor(1) as thread:
        reading = thread.submit(call, service, "GET", f"{USERS}/1")
        wait_until(lambda: metric(service, 'db_pool_connections{state="in_use"}') >= 0)
        time.sleep(0.1)  # the statement is sent, its answer held back
        wire.cut()
        wire.heal()
        assert reading.result().status == 200


def test_a_write_that_was_sent_is_not_tried_again(
    user: StartUser, postgres: PostgresServer, cut_proxy: Callable[[str, int], CutProxy]
) -> None:
    """The wire is cut while the answer is on its way: 503, and the key finds out what became of it."""
    wire = cut_proxy("127.0.0.1", postgres.port)
    service = user(DATABASE_URL=wire.url_for(postgres.url), DB_OPERATION_TIMEOUT_MS="3000")
    assert add(service, "ada").status == 201
    wire.delay(0.3)
    with ThreadPoolExecutor(1) as thread:
        writing = thread.submit(add, service, "bob")
        wait_until(lambda: "bob" in usernames(postgres.url), what="the statement took effect")
        wire.cut()
        wire.heal()
        answer = writing.result()
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert usernames(postgres.url) == ["ada", "bob"]


def test_a_full_pool_is_503_with_retry_after(user: StartUser, postgres: PostgresServer) -> None:
    """Nobody waits longer than the pool lets them, and nobody gets a 500."""
    service = user(
        DATABASE_URL=postgres.url, DB_POOL_SIZE="1", DB_POOL_WAIT_MS="100", DB_OPERATION_TIMEOUT_MS="3000", THREADS="12"
    )
    assert add(service, "ada").status == 201
    with closing(psycopg2.connect(postgres.url)) as blocker, blocker.cursor() as cursor:
        cursor.execute("SELECT * FROM users FOR UPDATE")
        with ThreadPoolExecutor(8) as threads:
            holding = threads.submit(call, service, "PATCH", f"{USERS}/1", {"full_name": "x"})
            wait_until(lambda: call(service, "GET", "/health/ready").body["checks"]["database"]["pool"]["in_use"] == 1)
            answers = list(threads.map(lambda _: call(service, "GET", USERS), range(7)))
            blocker.rollback()
            assert holding.result().status == 200
    for answer in answers:
        assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
        assert answer.took_s < DOWN_LIMIT_S + BUSY_MACHINE_S
    assert call(service, "GET", USERS).status == 200
    assert call(service, "GET", "/health/ready").status == 200


def test_a_slow_statement_ends_with_the_requests_deadline(user: StartUser, postgres: PostgresServer) -> None:
    """504 when the caller's time is up; the connection is whole afterwards."""
    service = user(DATABASE_URL=postgres.url)
    assert add(service, "ada").status == 201
    with closing(psycopg2.connect(postgres.url)) as blocker, blocker.cursor() as cursor:
        cursor.execute("SELECT * FROM users FOR UPDATE")
        answer = call(service, "PATCH", f"{USERS}/1", {"full_name": "x"}, headers={"X-Request-Timeout-Ms": "200"})
        assert answer.status == 504
        assert answer.took_s < 0.2 + BUSY_MACHINE_S
    assert call(service, "GET", f"{USERS}/1").body["full_name"] is None


def test_no_address_and_no_secret_is_logged(user: StartUser, postgres: PostgresServer) -> None:
    """Not from queries, bodies, clashes, bad input or a lost database."""
    service = user(DATABASE_URL=postgres.url, LOG_LEVEL="DEBUG")
    add(service, "ada")
    add(service, "ada")
    add(service, "ada", key="secret-key-of-ada")
    call(service, "GET", f"{USERS}?email=ada@example.com")
    call(service, "GET", f"{USERS}/ada@example.com")
    call(service, "POST", USERS, {"username": "x", "email": "ada@example.com."})
    postgres.kill()
    add(service, "ada")
    postgres.start()
    service.stop()
    for secret in ("ada@", "example.com", "secret-key", postgres.password):
        assert secret not in service.text()
