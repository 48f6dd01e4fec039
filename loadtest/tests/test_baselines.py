"""The baselines of the evidence answer what our service answers: who answers less would win by that."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg2
import pytest

from chassis.servers import PostgresServer
from chassis.testing.tools import require
from loadtest import checks
from loadtest.evidence import blip, scrape
from loadtest.generator import run_wrk
from loadtest.machine import Cores
from loadtest.openloop import Offer, get, offer
from loadtest.servers import Launch, RunningServer
from loadtest.stores import Stores
from loadtest.subjects import peer, service

USERS = 100
"""As many as fit on one page: then a page is all of them."""
ALL = f"/api/v1/users?page=1&per_page={USERS}"

Run = Callable[[Launch], RunningServer]

pytestmark = pytest.mark.slow


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    """`run(launch)` is that server, ready; it is ended after the test."""
    running: list[RunningServer] = []

    def start(launch: Launch) -> RunningServer:
        running.append(RunningServer(launch, directory=tmp_path, cores=Cores(server=None, others=None)))
        running[-1].wait_ready("/health/live")
        return running[-1]

    yield start
    for server in reversed(running):
        server.stop()


@pytest.fixture
def database(private_postgres: PostgresServer) -> str:
    """The URL of a database with a page of users."""
    return Stores(postgres=private_postgres, redis_url="").users_database("page", count=USERS)


@pytest.mark.parametrize(
    ("application", "paths"),
    [
        ("users_as_was", (ALL,)),
        ("users_unpooled", (ALL, "/api/v1/users?page=3&per_page=7")),
        ("users_no_retry", (ALL, "/api/v1/users?page=3&per_page=7")),
    ],
)
def test_a_baseline_answers_what_ours_does(run: Run, database: str, application: str, paths: tuple[str, ...]) -> None:
    """The same users in the same fields, and every request is counted and logged."""
    ours = run(service("user-ours", DATABASE_URL=database))
    theirs = run(peer("baseline", f"{application}:create_app()", DATABASE_URL=database))
    for path in paths:
        checks.require_same_answer(checks.answer_body(ours, path), checks.answer_body(theirs, path), name=application)
    checks.require_observed(theirs, ALL)


def test_what_was_before_takes_no_notice_of_pages(run: Run, database: str) -> None:
    """All users in every answer, a session and a counted connect for each."""
    before = scrape.sessions(database)
    was = run(peer("was", "users_as_was:create_app()", DATABASE_URL=database, WORKER_CLASS="sync"))
    for _ in range(3):
        assert len(json.loads(checks.answer_body(was, "/api/v1/users?page=2&per_page=1"))["users"]) == USERS
    assert scrape.total(checks.exposition(was), "db_connect_seconds_count") == 3
    assert scrape.sessions(database) - before - 1 >= 3


def test_a_blip_fails_reads_without_retries_and_is_over_afterwards(
    run: Run, database: str, private_postgres: PostgresServer
) -> None:
    """Sessions end and new ones are turned away; the pool without retries answers 503 meanwhile, and 200 again then."""
    server = run(peer("no-retry", "users_no_retry:create_app()", DATABASE_URL=database))
    checks.answer_body(server, ALL)
    blip.interrupted_s(private_postgres.url, "page", refused_ms=0)
    outcome = offer(Offer(port=server.port, requests=(get(ALL),), per_second=20, seconds=0.5))
    assert outcome.statuses[503] == 1, "the one pooled connection was lost"
    assert blip.interrupted_s(private_postgres.url, "page", refused_ms=100) >= 0.1
    with psycopg2.connect(database) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
    connection.close()


def test_wrk_asks_for_paths_in_turn(run: Run, database: str) -> None:
    """Each of them, as the server's log says."""
    require("wrk")
    server = run(peer("paths", "users_unpooled:create_app()", DATABASE_URL=database))
    load = run_wrk(server.url, seconds=1, connections=1, paths=("/health/live", "/metrics"))
    checks.require_clean("paths", load)
    counted = scrape.total(checks.exposition(server), "users_unpooled_http_requests_total")
    assert counted >= load.requests
