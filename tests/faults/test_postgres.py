"""PostgreSQL dies, hangs, is restarted, has no place, waits for somebody, takes no writes: under traffic."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from typing import Any

import psycopg2
import pytest

from chassis.servers import PostgresServer
from chassis.testing.databases import query
from tests.faults.course import LONG
from tests.faults.judge import prove
from tests.faults.signals import Signal, Watch
from tests.faults.stage import Stage
from tests.promises import Promise

pytestmark = pytest.mark.faults

BACK_S = 2.0
DOWN_S = 1.0
PRODUCTS = ("product", "search")
"""They are in a file as well."""
WITHOUT = ("follow", "resolve")
"""What needs no PostgreSQL: links that were followed before are in Valkey, routes are in memory."""
READS = (*PRODUCTS, *WITHOUT, "users", "user")
TABLES = {"catalogue": "products", "user": "users", "links": "links", "gateway": "gateway_state, routes"}
"""What the requests need, by the name of the database; in the order in which they take it."""


TURNED_AWAY = 'increase(app_errors_total{service="user", type="database-unavailable"}[4s]) > 0'
UNREACHABLE = ('DatabaseUnreachable{service="user"}', "CatalogueFallbackActive")
FEED_STALE = 'RouteFeedStale{source="database"}'
GONE = ("user", "Database is unavailable")
LOST = Signal(
    metric='increase(db_connection_errors_total{service="user"}[4s]) > 0',
    log=GONE,
    alerts=(*UNREACHABLE, 'DatabaseUnreachable{service="catalogue"}', FEED_STALE, "PostgresDown"),
)
HUNG = Signal(metric=TURNED_AWAY, log=GONE, alerts=(*UNREACHABLE, FEED_STALE))
FULL = Signal(metric=TURNED_AWAY, log=GONE, alerts=UNREACHABLE)
SLOW = Signal(
    metric="catalogue_db_connection_status == 0",
    log=("catalogue", "Falling back to JSON data source"),
    alerts=("CatalogueFallbackActive",),
)
READ_ONLY = Signal(metric=TURNED_AWAY, log=("user", "Database is read-only"), alerts=UNREACHABLE[:1])


@contextmanager
def killed(postgres: PostgresServer) -> Iterator[None]:
    """kill -9 of all of it, and a start."""
    postgres.kill()
    try:
        yield
    finally:
        postgres.start()


@contextmanager
def paused(postgres: PostgresServer) -> Iterator[None]:
    """SIGSTOP to all of it: connections are accepted by the kernel, nobody answers."""
    postgres.pause()
    try:
        yield
    finally:
        postgres.resume()


@contextmanager
def restarted(postgres: PostgresServer) -> Iterator[None]:
    """As an administrator does it: sessions are ended, the server stops in order and comes back."""
    postgres.stop()
    postgres.start()
    yield


@contextmanager
def full(postgres: PostgresServer) -> Iterator[None]:
    """Another client has every connection that there can be, those of the services included."""
    with ExitStack() as held:
        others = [held.enter_context(closing(psycopg2.connect(postgres.url)))]
        others[0].autocommit = True
        give_up_s = time.monotonic() + 10
        while _ended(others[0], [other.info.backend_pid for other in others]) or len(others) < 2:
            try:
                while True:
                    others.append(held.enter_context(closing(psycopg2.connect(postgres.url))))
            except psycopg2.OperationalError:
                assert time.monotonic() < give_up_s, "the services are always faster"
        yield


def _ended(connection: Any, kept: list[int]) -> int:
    """How many sessions of clients there were but `kept`. They are ended."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity "
            "WHERE backend_type = 'client backend' AND pid <> ALL (%s)",
            (kept,),
        )
        return int(cursor.fetchone()[0])


@contextmanager
def locked(stage: Stage) -> Iterator[None]:
    """Somebody's statement takes long, on a slow disk say, and has locked every table; all others wait for it."""
    with ExitStack() as held:
        for name, tables in TABLES.items():
            connection = held.enter_context(closing(psycopg2.connect(stage.databases[name])))
            connection.cursor().execute(f"LOCK TABLE {tables} IN ACCESS EXCLUSIVE MODE")
        yield


@contextmanager
def read_only(postgres: PostgresServer) -> Iterator[None]:
    """As a standby is, and a server whose disk is nearly full may be made."""

    def reload(statement: str) -> None:
        query(postgres.url, f"ALTER SYSTEM {statement}")
        query(postgres.url, "SELECT pg_reload_conf()")

    reload("SET default_transaction_read_only = on")
    try:
        yield
    finally:
        reload("RESET default_transaction_read_only")


def test_killed(stage: Stage, watch: Watch, promise: Promise) -> None:
    """kill -9: what needs it is 503 within a second; it is back 2 s after it accepts connections."""
    prove(
        stage, promise, "PostgreSQL: kill -9", lambda: killed(stage.postgres), watch=watch, signal=LOST,
        seconds=10 if LONG else 2, back_s=BACK_S, unaffected=WITHOUT, falling_back=PRODUCTS, within_s=DOWN_S,
    )  # fmt: skip


def test_paused(stage: Stage, watch: Watch, promise: Promise) -> None:
    """SIGSTOP: hung is as bad as dead, and no worse."""
    prove(
        stage, promise, "PostgreSQL: SIGSTOP", lambda: paused(stage.postgres), watch=watch, signal=HUNG,
        seconds=20 if LONG else 3, back_s=BACK_S, unaffected=WITHOUT, falling_back=PRODUCTS, within_s=DOWN_S,
    )  # fmt: skip


def test_restarted(stage: Stage, promise: Promise) -> None:
    """Stopped in order and started again."""
    prove(
        stage, promise, "PostgreSQL: restart", lambda: restarted(stage.postgres),
        seconds=0, back_s=BACK_S, unaffected=WITHOUT, falling_back=PRODUCTS, within_s=DOWN_S,
    )  # fmt: skip


def test_full(stage: Stage, watch: Watch, promise: Promise) -> None:
    """Another client has all connections."""
    prove(
        stage, promise, "PostgreSQL: connections exhausted", lambda: full(stage.postgres), watch=watch, signal=FULL,
        seconds=10 if LONG else 2, back_s=BACK_S, unaffected=WITHOUT, falling_back=PRODUCTS, within_s=DOWN_S,
    )  # fmt: skip


def test_locked(stage: Stage, watch: Watch, promise: Promise) -> None:
    """Statements wait and wait."""
    prove(
        stage, promise, "PostgreSQL: slow, a long statement", lambda: locked(stage), watch=watch, signal=SLOW,
        seconds=10 if LONG else 2, back_s=BACK_S, unaffected=WITHOUT, falling_back=PRODUCTS,
    )  # fmt: skip


def test_read_only(stage: Stage, watch: Watch, promise: Promise) -> None:
    """It answers, and takes no writes: these are 503, and reads go on."""
    prove(
        stage, promise, "PostgreSQL: read-only", lambda: read_only(stage.postgres), watch=watch, signal=READ_ONLY,
        seconds=10 if LONG else 2, back_s=BACK_S, unaffected=READS, within_s=DOWN_S,
    )  # fmt: skip
