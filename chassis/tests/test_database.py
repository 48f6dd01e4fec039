"""chassis.database: a bounded pool in front of a real PostgreSQL, through a wire that is cut."""

from __future__ import annotations

import gc
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import psutil
import psycopg2.errors
import pytest

from chassis import context, database
from chassis.database import Database, DatabaseUnavailable, PoolExhausted
from chassis.errors import DeadlineExceeded
from chassis.metrics import Metrics
from chassis.servers import PostgresServer
from chassis.settings import DatabaseSettings, parse_database_url
from chassis.testing import Meanwhile
from chassis.testing.databases import query
from chassis.testing.proxy import CutProxy

MakeDatabase = Callable[..., Database]


@pytest.fixture
def make_database() -> Iterator[MakeDatabase]:
    """`make_database(url, pool_size=…)` is a Database, closed after the test; its metrics are `.metrics`."""
    made: list[Database] = []
    database.install_wait_callback()

    def make(url: str, **options: int) -> Database:
        settings = DatabaseSettings(**{**parse_database_url(url), **options})
        made.append(Database(settings, application="test", metrics=Metrics(service="test", version="1", commit="c")))
        return made[-1]

    yield make
    for each in made:
        each.close()
    psycopg2.extensions.set_wait_callback(None)  # COPY, which other tests use, does not work with it


@pytest.fixture
def wire(database_url: str, postgres_server: PostgresServer, cut_proxy: Callable[[str, int], CutProxy]) -> CutProxy:
    """A proxy before the test's PostgreSQL."""
    return cut_proxy("127.0.0.1", postgres_server.port)


@contextmanager
def took_at_most(seconds: float) -> Iterator[None]:
    """The bound that a caller is promised; generous to a busy machine, not to a missing time-out."""
    began_s = time.monotonic()
    yield
    assert time.monotonic() - began_s <= seconds


def test_statements_return_rows_and_reuse_one_connection(make_database: MakeDatabase, database_url: str) -> None:
    """One caller at a time needs one connection, however many statements there are."""
    store = make_database(database_url)
    pids = {store.fetch("SELECT pg_backend_pid()")[0][0] for _ in range(5)}
    assert len(pids) == 1
    assert store.execute("CREATE TABLE t (n int)") == []
    assert store.execute("INSERT INTO t VALUES (%s) RETURNING n", (7,)) == [(7,)]
    assert store.stats() == {"size": 8, "in_use": 0, "available": 8, "waiting": 0}


def test_rows_by_the_names_of_their_columns(make_database: MakeDatabase, database_url: str) -> None:
    """Read or written, as a list of dicts; a statement without rows has none."""
    db = make_database(database_url)
    assert db.fetch_dicts("SELECT 1 AS one, 'x' AS two WHERE %s", (True,)) == [{"one": 1, "two": "x"}]
    assert db.fetch_dicts("SELECT 1 AS one WHERE false") == []
    assert db.execute_dicts("CREATE TABLE t (id int)") == []
    assert db.execute_dicts("INSERT INTO t VALUES (7) RETURNING id") == [{"id": 7}]


def test_a_transaction_is_all_or_nothing(make_database: MakeDatabase, database_url: str) -> None:
    """What `work` raises rolls back what it did, and the connection is fit for use again."""
    store = make_database(database_url, pool_size=1)
    store.execute("CREATE TABLE t (n int PRIMARY KEY)")

    def work(cursor: object) -> None:
        cursor.execute("INSERT INTO t VALUES (1)")  # type: ignore[attr-defined]
        cursor.execute("INSERT INTO t VALUES (1)")  # type: ignore[attr-defined]

    with pytest.raises(psycopg2.errors.UniqueViolation):
        store.transact(work)
    assert store.fetch("SELECT count(*) FROM t") == [(0,)]
    store.transact(lambda cursor: cursor.execute("INSERT INTO t VALUES (2)"))
    assert store.fetch("SELECT n FROM t") == [(2,)]


def test_a_full_pool_is_a_named_error_after_a_bounded_wait(make_database: MakeDatabase, database_url: str) -> None:
    """The third caller of two connections waits `pool_wait_ms`, then gets PoolExhausted; nothing leaks."""
    store = make_database(database_url, pool_size=2, pool_wait_ms=100, operation_timeout_ms=5000)
    with ThreadPoolExecutor(2) as executor:
        busy = [executor.submit(store.fetch, "SELECT pg_sleep(1)") for _ in range(2)]
        while store.stats()["in_use"] < 2:
            threading.Event().wait(0.005)
        with took_at_most(0.6), pytest.raises(PoolExhausted) as caught:
            store.fetch("SELECT 1")
        assert caught.value.headers == {"Retry-After": "1"}
        assert [each.result() for each in busy] == [[("",)], [("",)]]
    assert store.fetch("SELECT 1") == [(1,)]
    assert store.stats()["in_use"] == 0


def test_never_more_connections_than_the_pool_size(
    make_database: MakeDatabase, database_url: str, wire: CutProxy
) -> None:
    """Five bursts open no more connections than the pool may hold (TRAPS: psycopg2's own pool opened 11 for 4)."""
    store = make_database(wire.url_for(database_url), pool_size=4, pool_wait_ms=2000, operation_timeout_ms=5000)
    with ThreadPoolExecutor(12) as executor:
        for _ in range(5):
            assert all(executor.map(lambda _: store.fetch("SELECT pg_sleep(0.01)"), range(12)))
    assert wire.connections <= 4


def test_a_connection_closed_while_idle_costs_nobody_an_error(
    make_database: MakeDatabase, database_url: str, postgres_server: PostgresServer
) -> None:
    """A server restart is seen before anything is sent, so even a write goes out on a new connection."""
    store = make_database(database_url, pool_size=2)
    store.execute("CREATE TABLE t (n int)")
    store.execute("INSERT INTO t VALUES (1)")
    other = make_database(database_url, pool_size=1)
    other.fetch(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE pid <> pg_backend_pid() AND datname = current_database()"
    )
    store.execute("INSERT INTO t VALUES (2)")
    assert store.fetch("SELECT n FROM t ORDER BY n") == [(1,), (2,)]


def test_a_read_survives_a_wire_cut_under_it(make_database: MakeDatabase, database_url: str, wire: CutProxy) -> None:
    """A reading statement whose connection is lost is sent again on another one."""
    store = make_database(wire.url_for(database_url), operation_timeout_ms=5000)
    store.fetch("SELECT 1")
    with ThreadPoolExecutor(1) as executor:
        answer = executor.submit(store.fetch, "SELECT 42 FROM pg_sleep(0.3)")
        while store.stats()["in_use"] < 1:
            threading.Event().wait(0.005)
        wire.cut()
        wire.heal()
        assert answer.result() == [(42,)]


def test_no_read_fails_while_the_server_is_away_for_a_moment(
    make_database: MakeDatabase, database_url: str, wire: CutProxy
) -> None:
    """Every connection is cut, and new ones are refused for a third of a second, as when a server is replaced: whoever
    reads at that time waits, and the breaker stays closed.
    """
    store = make_database(wire.url_for(database_url))
    reads = Counter[int]()

    def read(ending: threading.Event) -> None:
        while not ending.wait(0.01):
            assert store.fetch("SELECT 1") == [(1,)]
            reads[threading.get_ident()] += 1

    with Meanwhile(read, threads=4):
        for _ in range(3):
            threading.Event().wait(0.05)
            wire.cut()
            threading.Event().wait(0.33)  # how long it is away is what is tested
            wire.heal()
            threading.Event().wait(0.5)
    assert len(reads) == 4
    assert not store.is_open


@pytest.mark.parametrize("left_s", [0.2, 0.8, 5.0])
def test_the_last_try_is_late_and_leaves_time_for_an_answer(left_s: float) -> None:
    """Two more tries at different times, the last after two thirds of what is left: of a second, if that is more."""
    of_s = min(left_s, 1.0)
    for _ in range(200):
        began_s = time.monotonic()
        first_s, last_s = (at_s - began_s for at_s in database._retries(began_s + left_s))
        taken_from_us_s = time.monotonic() - began_s
        assert 0.35 * of_s <= first_s < last_s
        assert 0.67 * of_s <= last_s <= 0.72 * of_s + taken_from_us_s
    assert list(database._retries(time.monotonic() - 0.001)) == []


def test_a_write_whose_fate_is_unknown_is_not_sent_twice(
    make_database: MakeDatabase, database_url: str, wire: CutProxy
) -> None:
    """The wire is cut after the statement went out: 503, and at most one row."""
    direct = make_database(database_url)
    direct.execute("CREATE TABLE t (n int)")
    store = make_database(wire.url_for(database_url), operation_timeout_ms=5000)
    store.fetch("SELECT 1")
    with ThreadPoolExecutor(1) as executor:
        write = executor.submit(store.execute, "INSERT INTO t SELECT 1 FROM pg_sleep(0.3)")
        while not direct.fetch(
            "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'INSERT INTO t SELECT%%' AND state = 'active'", {}
        ):
            threading.Event().wait(0.005)
        wire.cut()
        wire.heal()
        with pytest.raises(DatabaseUnavailable):
            write.result()
    while direct.fetch(
        "SELECT 1 FROM pg_stat_activity WHERE query LIKE 'INSERT INTO t SELECT%%' AND state = 'active'", {}
    ):
        threading.Event().wait(0.005)
    assert direct.fetch("SELECT count(*) FROM t")[0][0] <= 1
    assert store.fetch("SELECT 1") == [(1,)], "one lost connection is no lost server"


@pytest.mark.parametrize("fault", ["cut", "hang"])
def test_a_lost_server_is_503_within_a_second_then_at_once_then_back(
    make_database: MakeDatabase, database_url: str, wire: CutProxy, fault: str
) -> None:
    """The first callers wait no longer than a second, the next not at all, and the return needs no restart."""
    store = make_database(wire.url_for(database_url))
    store.fetch("SELECT 1")
    getattr(wire, fault)()
    with took_at_most(1.0), pytest.raises(DatabaseUnavailable):
        store.fetch("SELECT 1")
    with took_at_most(0.1), pytest.raises(DatabaseUnavailable):
        store.fetch("SELECT 1")
    assert store.check(1.0).status == "unhealthy"
    wire.heal()
    back_by_s = time.monotonic() + 2
    while True:
        try:
            assert store.fetch("SELECT 1") == [(1,)]
            break
        except DatabaseUnavailable:
            assert time.monotonic() < back_by_s
            threading.Event().wait(0.02)
    assert store.check(1.0).status == "healthy"


def test_callers_of_a_hung_server_do_not_queue_behind_one_another(
    make_database: MakeDatabase, database_url: str, wire: CutProxy
) -> None:
    """Six callers at once all give up together (TRAPS: 3, 6 and 9 s behind one lock)."""
    store = make_database(wire.url_for(database_url))
    wire.hang()

    def call(_: int) -> str:
        with pytest.raises(DatabaseUnavailable):
            store.fetch("SELECT 1")
        return "refused"

    with took_at_most(1.5), ThreadPoolExecutor(6) as executor:
        assert list(executor.map(call, range(6))) == ["refused"] * 6


def test_a_statement_gets_what_is_left_of_the_request(make_database: MakeDatabase, database_url: str) -> None:
    """A request with 200 ms to live ends a long statement then, as 504; the server was told to stop as well."""
    store = make_database(database_url)
    token = context.bind(context.begin(None, None, "200", 10_000))
    try:
        with took_at_most(0.7), pytest.raises(DeadlineExceeded):
            store.fetch("SELECT pg_sleep(5)")
    finally:
        context.unbind(token)
    assert not store.is_open, "a slow statement does not make the server a lost one"


def test_a_client_in_a_hurry_does_not_make_the_server_a_lost_one(
    make_database: MakeDatabase, wire: CutProxy, database_url: str
) -> None:
    """A server that is slower than one request's own deadline still is asked by the others: no breaker, 504 for one."""
    store = make_database(wire.url_for(database_url))
    store.fetch("SELECT 1")
    wire.hang()
    token = context.bind(context.begin(None, None, "50", 10_000))
    try:
        with took_at_most(0.5), pytest.raises(DeadlineExceeded):  # hung before a statement
            store.fetch("SELECT 1")
        with took_at_most(0.5), pytest.raises(DeadlineExceeded):  # hung before a connection, or no time left at all
            store.fetch("SELECT 1")
    finally:
        context.unbind(token)
    assert not store.is_open
    wire.heal()
    assert store.fetch("SELECT 1") == [(1,)]


def test_one_stuck_connection_does_not_make_the_server_a_lost_one(
    make_database: MakeDatabase, database_url: str
) -> None:
    """A call that times out while others are answered is one failed call: the others go on."""
    store = make_database(database_url, operation_timeout_ms=400, pool_size=2)
    ((pid,),) = store.fetch("SELECT pg_backend_pid()")
    os.kill(pid, signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(1) as executor:
            stuck = executor.submit(store.fetch, "SELECT 1")
            while not stuck.done():
                assert store.fetch("SELECT 2") == [(2,)]
            with pytest.raises(DatabaseUnavailable):
                stuck.result()
        assert not store.is_open
        assert store.fetch("SELECT 2") == [(2,)]
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_slow_statement_is_cancelled_by_the_server(make_database: MakeDatabase, database_url: str) -> None:
    """The operation's limit ends it, the connection lives on, and the breaker stays closed."""
    store = make_database(database_url, operation_timeout_ms=400, pool_size=1)
    pid = store.fetch("SELECT pg_backend_pid()")
    with pytest.raises(DatabaseUnavailable, match="in time"):
        store.fetch("SELECT pg_sleep(5)")
    assert store.fetch("SELECT pg_backend_pid()") == pid


@pytest.mark.parametrize("transaction", [False, True])
def test_a_server_that_takes_no_changes_is_lost_to_writers_alone(
    make_database: MakeDatabase,
    database_url: str,
    transaction: bool,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A standby, or an administrator's doing: 503 and a line in the log, no breaker. After a failover the name leads to
    another server, so the connection is given up, as is every other one once somebody could write; but while nobody
    can, not each one.
    """
    caplog.set_level("INFO", "chassis.database")
    store = make_database(database_url, pool_size=1)
    write = "INSERT INTO t VALUES (1)"

    def change() -> object:
        return store.transact(lambda cursor: cursor.execute(write)) if transaction else store.execute(write)

    store.execute("CREATE TABLE t (n int)")
    store.execute("SET default_transaction_read_only = on")
    pid = store.fetch("SELECT pg_backend_pid()")
    with pytest.raises(DatabaseUnavailable, match="no changes") as caught:
        change()
    assert caught.value.headers == {"Retry-After": "1"}
    assert not store.is_open
    assert store.fetch("SELECT count(*) FROM t") == [(0,)]
    assert store.fetch("SELECT pg_backend_pid()") != pid
    change()
    assert store.fetch("SELECT count(*) FROM t") == [(1,)]
    monkeypatch.setattr(database, "LOOK_ELSEWHERE_S", 60)
    for is_kept in (False, True):
        store.fetch("SET default_transaction_read_only = on")
        pid = store.fetch("SELECT pg_backend_pid()")
        with pytest.raises(DatabaseUnavailable, match="no changes"):
            change()
        assert (store.fetch("SELECT pg_backend_pid()") == pid) == is_kept
    assert store.stats()["in_use"] == 0
    assert [record.message.partition(":")[0] for record in caplog.records] == [
        "Database is read-only", "Database takes changes again", "Database is read-only"
    ]  # fmt: skip


def test_who_is_refused_a_write_makes_the_next_connection(make_database: MakeDatabase, database_url: str) -> None:
    """And not the next reader, for whom nothing has changed."""
    store = make_database(database_url, pool_size=1)
    store.execute("CREATE TABLE t (n int)")
    store.execute("SET default_transaction_read_only = on")
    (before,) = store.fetch("SELECT pg_backend_pid()")
    with pytest.raises(DatabaseUnavailable, match="no changes"):
        store.execute("INSERT INTO t VALUES (1)")
    sessions = "SELECT pid FROM pg_stat_activity WHERE application_name = 'test' AND pid <> %s"
    (made,) = query(database_url, sessions, before)
    assert store.fetch("SELECT pg_backend_pid()") == [made]


def test_a_connection_that_could_not_be_made_is_closed_at_once(
    make_database: MakeDatabase, postgres_server: PostgresServer
) -> None:
    """Not when the garbage collector comes by: a server without a place turns away thousands in the meantime."""
    store = make_database(postgres_server.url_of("nowhere"), operation_timeout_ms=200)
    gc.collect()
    gc.disable()
    try:
        before = psutil.Process().num_fds()
        with pytest.raises(DatabaseUnavailable) as caught:
            store.fetch("SELECT 1")
        assert psutil.Process().num_fds() == before
    finally:
        gc.enable()
    assert isinstance(caught.value.__cause__, psycopg2.OperationalError)


def test_health_has_a_connection_of_its_own(make_database: MakeDatabase, database_url: str) -> None:
    """With every pooled connection in use the database is still found healthy, and the pool says how full it is."""
    store = make_database(database_url, pool_size=1, operation_timeout_ms=5000)
    with ThreadPoolExecutor(1) as executor:
        busy = executor.submit(store.fetch, "SELECT pg_sleep(0.5)")
        while store.stats()["in_use"] < 1:
            threading.Event().wait(0.005)
        result = store.check(1.0)
        assert result.status == "healthy"
        assert result.details["pool"] == {"size": 1, "in_use": 1, "available": 0, "waiting": 0}
        busy.result()
