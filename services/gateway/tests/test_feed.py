"""Every worker's routes and keys, kept true from real stores that come and go."""

from __future__ import annotations

import asyncio
import fcntl
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import orjson
import psycopg2
import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from chassis.cache import Cache
from chassis.database import Database, install_wait_callback
from chassis.metrics import Metrics
from chassis.servers import PostgresServer, ValkeyServer
from chassis.settings import DatabaseSettings, RedisSettings, parse_database_url
from chassis.testing import CutProxy, free_port, wait_until
from chassis.testing.databases import migrate
from gateway.registry.batch import Batch
from gateway.registry.feed import POLL_S, Feed
from gateway.registry.keeper import Keeper
from gateway.registry.keys import ApiKey, Keyring, digest, generate
from gateway.registry.known import Known
from gateway.registry.mirror import NAME, Mirror
from gateway.registry.repository import Registry, Snapshot, State, Written
from gateway.registry.route import Route
from gateway.registry.saved import CHUNK, Saved
from gateway.registry.table import Change, Table

NOW = datetime(2026, 11, 21, tzinfo=UTC)
NEVER_S = 60.0
"""A poll this rare does not count: what is seen came another way."""
SEEN_S = 5.0
"""What is seen within a second on a machine that has time is seen within this on one that has none."""


@pytest.fixture(scope="session")
def database_template(registry_template: str) -> str:
    """`database_url` is a copy of it."""
    return registry_template


@pytest.fixture(autouse=True)
def _bounded_waits() -> Iterator[None]:
    """As in the gateway's workers."""
    install_wait_callback()
    yield
    psycopg2.extensions.set_wait_callback(None)


def route(number: int, weight: int = 100) -> Route:
    """A route that is in no database."""
    return Route(number, "acme", "shop", "prod", f"v{number}", "http://127.0.0.1:1", True, weight, NOW, NOW)


def by_name(version: str) -> dict[str, str]:
    """The name of a route."""
    return {"tenant": "acme", "service": "shop", "env": "prod", "version": version}


def nowhere(scheme: str) -> str:
    """A URL at which nothing listens."""
    return f"{scheme}://u:p@127.0.0.1:{free_port()}/0"


class Worker:
    """What one worker process has of the registry."""

    def __init__(self, database: str, cache: str | None, state_dir: Path | None, poll_s: float) -> None:
        self.metrics = Metrics(service="gateway", version="1", commit="c")
        settings = DatabaseSettings(**parse_database_url(database))
        self.database = Database(settings, application="test", metrics=self.metrics)
        self.registry = Registry(self.database)
        url = None if cache is None else SecretStr(cache)
        self.cache = Cache(RedisSettings(url=url, breaker_reset_ms=100), metrics=self.metrics)
        self.table, self.keyring = Table(), Keyring()
        self.feed = Feed(
            self.table,
            self.keyring,
            registry=self.registry,
            cache=self.cache,
            metrics=self.metrics,
            state_dir=state_dir,
            poll_s=poll_s,
        )

    @property
    def weights(self) -> dict[str, int]:
        """Of all routes, by version."""
        return {each.version: each.weight for each in self.table}

    def write(self, version: str, weight: int) -> Written:
        """Into PostgreSQL, and nobody is told."""
        fields = {**by_name(version), "url": "http://127.0.0.1:1", "active": True, "weight": weight}
        return self.registry.create(fields, actor="test")

    def create(self, version: str, weight: int = 100) -> Route:
        """As the registry's endpoints do."""
        written = self.write(version, weight)
        assert written.change is not None
        self.feed.announce([written.change])
        return written.route

    def reweight(self, number: int, weight: int) -> None:
        """Likewise."""
        written = self.registry.update(number, {"weight": weight}, actor="test")
        if written.change is not None:
            self.feed.announce([written.change])

    def delete(self, number: int) -> None:
        """Likewise."""
        written = self.registry.delete(number, actor="test")
        assert written.change is not None
        self.feed.announce([written.change])

    def add_key(self, name: str) -> str:
        """Likewise; returns its text."""
        text = generate()
        self.feed.announce(keys=[self.registry.add_key(name=name, digest=digest(text), scopes=["admin"], limit=None)])
        return text

    def revoke_key(self, name: str, *, announce: bool = True) -> None:
        """Likewise; or as a process that is no worker does."""
        revoked = self.registry.revoke_key(name)
        assert revoked is not None
        if announce:
            self.feed.announce(keys=[revoked])

    def sees(self, **weights: int) -> None:
        """Wait until these are its routes."""
        wait_until(lambda: self.weights == weights, timeout_s=SEEN_S, what=f"{self.weights} to be {weights}")

    def keeper(self) -> Keeper:
        """The one of its feed, to be called here and now."""
        assert self.feed._keeper is not None
        return self.feed._keeper

    def mirror(self) -> Mirror:
        """The copy in Redis as this worker reaches it."""
        return self.feed._mirror

    def metric(self, name: str) -> float:
        """A sample of its metrics."""
        value = self.metrics.registry.get_sample_value(name.partition("{")[0], labels_of(name))
        assert value is not None
        return value

    def close(self) -> None:
        """End it."""
        self.feed.stop()
        self.database.close()
        self.cache.close()


def labels_of(name: str) -> dict[str, str]:
    """`name{label="value"}` → {"label": "value"}."""
    inside = name.partition("{")[2].rstrip("}")
    return {} if not inside else {inside.partition("=")[0]: inside.partition("=")[2].strip('"')}


class Start(Protocol):
    """What the fixture `start` gives."""

    def __call__(
        self,
        cache: str | None = None,
        *,
        database: str = "",
        state_dir: Path | None = None,
        run: bool = True,
        poll_s: float = POLL_S,
    ) -> Worker:
        """Start a worker; without `run` it only loads."""  # fmt: skip


@pytest.fixture
def start(database_url: str) -> Iterator[Start]:
    """`start(redis_url)` is another worker on the same registry, which has read it."""
    with ExitStack() as stack:

        def make(
            cache: str | None = None,
            *,
            database: str = "",
            state_dir: Path | None = None,
            run: bool = True,
            poll_s: float = POLL_S,
        ) -> Worker:
            worker = Worker(database or database_url, cache, state_dir, poll_s)
            stack.callback(worker.close)
            worker.feed.load()
            if run:
                worker.feed.start()
                if not database:
                    wait_until(lambda: worker.feed.facts().confirmed_s is not None, timeout_s=SEEN_S)
            return worker

        yield make


@pytest.fixture
def sql(database_url: str) -> Callable[[str], None]:
    """Run statements behind the registry's back."""

    def run(statements: str) -> None:
        with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
            cursor.execute(statements)

    return run


# --- all is well --------------------------------------------------------------------------------------------------


def test_a_change_reaches_the_other_workers_by_redis(start: Start, redis_url: str) -> None:
    """Created, changed, deleted: at once in the worker that wrote, and in another that hardly ever asks PostgreSQL."""
    one, other = start(redis_url, poll_s=NEVER_S), start(redis_url, poll_s=NEVER_S)
    wait_listening(redis_url, 2)
    first, second = one.create("v1"), one.create("v2", weight=10)
    assert one.weights == {"v1": 100, "v2": 10}
    other.sees(v1=100, v2=10)
    other.reweight(second.id, 50)
    one.sees(v1=100, v2=50)
    one.delete(first.id)
    other.sees(v2=50)
    assert one.feed.position == other.feed.position == one.registry.state()


def test_a_change_reaches_the_other_workers_without_redis(start: Start) -> None:
    """By the next poll; of several changes at once, none is missing."""
    one, other = start(), start()
    for number in range(5):
        one.create(f"v{number}", weight=number)
    other.sees(v0=0, v1=1, v2=2, v3=3, v4=4)
    assert other.feed.position == one.registry.state()


def test_many_changes_are_followed_in_pages(start: Start, sql: Callable[[str], None]) -> None:
    """The history alone says what happened: here the table of routes has nothing."""
    worker = start(run=False)
    worker.feed.poll()
    sql(
        "INSERT INTO routes_history (revision, route_id, action, actor, at, after)"
        "SELECT n, n % 7, 'updated', 'test', now(), jsonb_build_object('id', n % 7, 'tenant', 'acme', 'service', 'a',"
        " 'env', 'prod', 'version', 'v' || n % 7, 'url', 'http://127.0.0.1:1', 'active', true, 'weight', n % 1000,"
        " 'created_at', now(), 'updated_at', now(), 'revision', n)"
        "FROM generate_series(1, 2500) AS n; UPDATE gateway_state SET revision = 2500"
    )
    worker.feed.poll()
    assert worker.weights == {f"v{number % 7}": number % 1000 for number in range(2494, 2501)}
    assert worker.feed.position.revision == worker.table.revision == 2500


@pytest.mark.parametrize("announced", [True, False])
def test_a_revoked_key_is_revoked_everywhere(start: Start, redis_url: str, announced: bool) -> None:
    """By a worker, which tells the others, or by a command on the side, found by the next poll."""
    poll_s = NEVER_S if announced else POLL_S
    one, other = start(redis_url, poll_s=poll_s), start(redis_url, poll_s=poll_s)
    wait_listening(redis_url, 2)
    text = one.add_key("ci")
    wait_until(lambda: other.keyring.find(text) is not None, timeout_s=SEEN_S)
    one.revoke_key("ci", announce=announced)
    wait_until(lambda: other.keyring.find(text) is one.keyring.find(text) is None, timeout_s=SEEN_S)


def test_things_change_on_the_event_loop_alone(start: Start) -> None:
    """What the loop serves changes between two of its callbacks, and before it passes the writer's answer on."""
    worker = start(run=False)
    threads: set[int] = set()

    class Watched(Table):
        def apply(self, *args: Any, **options: Any) -> None:
            threads.add(threading.get_ident())
            super().apply(*args, **options)

    worker.table.__class__ = Watched

    async def serve() -> None:
        worker.feed.start(asyncio.get_running_loop())
        await asyncio.to_thread(wait_until, lambda: worker.feed.facts().confirmed_s is not None)
        await asyncio.to_thread(worker.create, "v1")
        assert worker.weights == {"v1": 100}
        assert threads == {threading.get_ident()}
        snapshot = await asyncio.to_thread(worker.feed._known.capture, threading.Event())
        assert snapshot is not None
        assert [each.version for each in snapshot.routes] == ["v1"]
        worker.feed.stop()

    asyncio.run(serve())


def test_many_writers_at_once_leave_the_same_everywhere(start: Start, redis_url: str) -> None:
    """Two workers, eight threads, routes and keys: both tables, and the copy in Redis, are the database in the end."""
    workers = [start(redis_url), start(redis_url)]
    routes = [workers[0].create(f"v{number}") for number in range(8)]

    def write(number: int) -> None:
        worker = workers[number % 2]
        for step in range(12):
            worker.reweight(routes[number].id, (step * 37) % 900)
        worker.add_key(f"key-{number}")
        if number % 3 == 0:
            worker.delete(routes[number].id)

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(write, range(8)))
    snapshot = workers[0].registry.snapshot()
    assert len(snapshot.routes) == 5
    for worker in workers:
        wait_until(lambda: worker.feed.position == State(snapshot.epoch, snapshot.revision), timeout_s=SEEN_S)  # noqa: B023
        assert by_id(worker.table) == by_id(snapshot.routes)
        assert list(worker.keyring) == snapshot.keys
    workers[0].keeper().look()
    assert_copied(workers[0].mirror(), snapshot)


def by_id(routes: Any) -> dict[int, Route]:
    """Routes as a table has them: in no order."""
    return {each.id: each for each in routes}


def assert_copied(mirror: Mirror, snapshot: Snapshot) -> None:
    """The copy in Redis is that."""
    copy = mirror.load()
    assert copy is not None
    assert (copy.epoch, copy.revision) == (snapshot.epoch, snapshot.revision)
    assert by_id(copy.routes) == by_id(snapshot.routes)
    assert sorted(copy.keys, key=lambda key: key.id) == snapshot.keys


def wait_listening(redis_url: str, count: int) -> None:
    """Wait until so many workers listen."""
    with redis.Redis.from_url(redis_url) as client:
        channel = f"{NAME}:changes"
        wait_until(lambda: client.pubsub_numsub(channel)[0][1] >= count, timeout_s=SEEN_S)


# --- Redis comes and goes -----------------------------------------------------------------------------------------


def test_a_hung_redis_delays_nothing(start: Start, private_redis: ValkeyServer) -> None:
    """The writer waits for one time-out of the cache at most, and the other worker sees the change by its poll."""
    one, other = start(private_redis.url), start(private_redis.url)
    wait_listening(private_redis.url, 2)
    private_redis.pause()
    change = one.write("v1", 1).change
    assert change is not None
    began_s = time.monotonic()
    one.feed.announce([change])
    first_s = time.monotonic() - began_s
    one.create("v2", 2)
    other.sees(v1=1, v2=2)
    private_redis.resume()
    assert first_s < 0.4
    assert one.metric('gateway_route_feed_errors_total{source="redis"}') >= 1


def test_redis_that_comes_back_empty_is_used_again(start: Start, private_redis: ValkeyServer) -> None:
    """The channel is opened anew, and the copy made anew."""
    one, other = start(private_redis.url), start(private_redis.url, poll_s=NEVER_S)
    one.create("v1", 1)
    private_redis.kill()
    one.create("v2", 2)
    private_redis.start()
    other.sees(v1=1, v2=2)  # a new channel is a reason to ask PostgreSQL
    wait_listening(private_redis.url, 2)
    one.create("v3", 3)
    other.sees(v1=1, v2=2, v3=3)
    wait_until(lambda: one.mirror().position() == one.registry.state(), timeout_s=2 * SEEN_S, what="a copy")


def test_a_copy_that_is_behind_is_brought_on_and_a_wrong_one_made_anew(start: Start, redis_url: str) -> None:
    """What was announced while nobody could reach it, in whatever order; another registry's; one that is too new."""
    worker = start(redis_url, run=False)
    worker.feed.poll()
    keeper, mirror = worker.keeper(), worker.mirror()
    keeper.look()
    assert mirror.position() == worker.registry.state()
    changes = [change for version in ("v1", "v2", "v3") if (change := worker.write(version, 1).change)]
    epoch = worker.feed.position.epoch
    assert not mirror.announce(Batch(epoch, 2, 3, changes[2:]))  # two are missing
    assert mirror.position() == State(epoch, 0)
    worker.registry.add_key(name="ci", digest=b"d" * 32, scopes=["users:read"], limit="1/min")
    worker.feed.poll()
    keeper.look()
    assert_copied(mirror, worker.registry.snapshot())
    assert mirror.announce(Batch(epoch, 0, 1, [Change(1, changes[0].route_id, None)]))  # long known, and never true
    assert_copied(mirror, worker.registry.snapshot())
    with redis.Redis.from_url(redis_url) as client:
        for wrong in ({"epoch": "another"}, {"revision": "900"}):
            client.hset(NAME, mapping={**wrong, "r:77": b"{}"})
            keeper.look()
            assert_copied(mirror, worker.registry.snapshot())
            assert client.exists(f"{NAME}:building") == 0


# --- PostgreSQL comes and goes ------------------------------------------------------------------------------------


def test_without_postgresql_a_worker_starts_from_redis_and_follows_it(
    start: Start, redis_url: str, tmp_path: Path
) -> None:
    """Its disk is empty: a new machine. What others go on to write reaches it by the channel, or by the copy."""
    one = start(redis_url)
    one.create("v1", 1)
    text = one.add_key("ci")
    one.keeper().look()
    cold = start(redis_url, database=nowhere("postgresql"), state_dir=tmp_path, run=False)
    assert cold.weights == {"v1": 1}
    assert cold.keyring.find(text)
    assert cold.feed.facts().source == "redis"
    cold.feed.start()
    wait_listening(redis_url, 2)
    one.create("v2", 2)
    cold.sees(v1=1, v2=2)
    deaf = start(redis_url, database=nowhere("postgresql"), run=False)
    one.create("v3", 3)
    deaf.feed.poll()
    assert deaf.weights == {"v1": 1, "v2": 2, "v3": 3}


def test_without_any_store_a_worker_starts_from_disk(start: Start, tmp_path: Path) -> None:
    """With routes and keys, and it says so; once there is PostgreSQL, it is PostgreSQL's."""
    one = start(state_dir=tmp_path)
    one.create("v1", 1)
    text = one.add_key("ci")
    gone = one.add_key("gone")
    one.revoke_key("gone")
    one.close()  # what is new by then is saved
    assert (tmp_path / "routes.json").stat().st_mode & 0o777 == 0o600
    cold = start(nowhere("redis"), database=nowhere("postgresql"), state_dir=tmp_path)
    assert cold.weights == {"v1": 1}
    assert cold.keyring.find(text)
    assert not cold.keyring.find(gone)
    wait_until(lambda: cold.feed.facts().error is not None, timeout_s=SEEN_S)
    facts, health = cold.feed.facts(), cold.feed.check(1.0)
    assert (facts.source, facts.confirmed_s, facts.error) == ("disk", None, "DatabaseUnavailable")
    assert (health.status, health.message) == ("degraded", "Routes are the last known ones, from disk")
    warm = start(state_dir=tmp_path)
    assert (warm.feed.facts().source, warm.feed.check(1.0).status) == ("database", "healthy")


def test_a_worker_goes_on_while_postgresql_is_away(
    start: Start, database_url: str, cut_proxy: Callable[[str, int], CutProxy], caplog: pytest.LogCaptureFixture
) -> None:
    """With what it knows, saying so once; and catches up when PostgreSQL is back."""
    parts = parse_database_url(database_url)
    proxy = cut_proxy(parts["host"], parts["port"])
    one = start()
    other = start(database=proxy.url_for(database_url))
    one.create("v1", 1)
    other.sees(v1=1)
    caplog.set_level(logging.INFO, "gateway")
    proxy.cut()
    wait_until(lambda: other.metric('gateway_route_feed_errors_total{source="database"}') >= 2, timeout_s=5)
    one.create("v2", 2)
    assert other.weights == {"v1": 1}
    proxy.heal()
    other.sees(v1=1, v2=2)
    said = [record.getMessage() for record in caplog.records if record.name == "gateway.registry.freshness"]
    assert said == [
        "The registry cannot be read: routes stay as last known (revision 1, DatabaseUnavailable)",
        "Routes follow the registry (revision 2)",
    ]


def test_another_database_takes_the_place_of_the_old_one(
    start: Start, sql: Callable[[str], None], tmp_path: Path
) -> None:
    """Another epoch, or the same one at an older revision: what workers hold, and the file, become what it has."""
    worker = start(state_dir=tmp_path)
    for version in ("v1", "v2", "v3"):
        worker.create(version)
    text = worker.add_key("ci")
    worker.keeper().save()
    sql("UPDATE gateway_state SET epoch = gen_random_uuid(), revision = 9; DELETE FROM routes WHERE version = 'v1'")
    worker.sees(v2=100, v3=100)
    worker.keeper().save()
    sql(
        "UPDATE gateway_state SET revision = 2; DELETE FROM routes_history WHERE revision > 2; DELETE FROM api_keys;"
        "DELETE FROM routes WHERE version = 'v3'"
    )
    worker.sees(v2=100)
    assert worker.keyring.find(text) is None
    worker.close()
    cold = start(database=nowhere("postgresql"), state_dir=tmp_path, run=False)
    assert cold.weights == {"v2": 100}
    assert cold.feed.position.revision == 2


def test_tables_that_are_yet_to_be_made_are_waited_for(
    start: Start, postgres_server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    """A gateway may start before `gateway-db`: it says so in one line, serves what the settings have, and follows."""
    caplog.set_level(logging.INFO, "gateway.registry.freshness")
    url = postgres_server.create_database("feed_without_tables")
    worker = start(database=url, poll_s=0.05)
    wait_until(lambda: worker.feed.facts().error == "UndefinedTable", timeout_s=SEEN_S)
    migrate("gateway", url)
    wait_until(lambda: worker.feed.facts().confirmed_s is not None, timeout_s=SEEN_S)
    worker.create("v1", 1)
    assert worker.weights == {"v1": 1}
    worker.close()
    postgres_server.drop_database("feed_without_tables")
    assert [record.getMessage() for record in caplog.records if record.name == "gateway.registry.freshness"] == [
        "The registry's tables are not there yet (revision 0, UndefinedTable)",
        "Routes follow the registry (revision 0)",
    ]


def test_a_gateway_without_a_registry_follows_nothing() -> None:
    """Routes from the settings stay; nothing is asked, nothing runs."""
    metrics = Metrics(service="gateway", version="1", commit="c")
    table = Table([route(1)])
    cache = Cache(RedisSettings(), metrics=metrics)
    feed = Feed(table, Keyring(), registry=None, cache=cache, metrics=metrics, state_dir=None)
    threads = threading.active_count()
    feed.load()
    feed.start()
    feed.announce([Change(1, 1, None)])
    assert threading.active_count() == threads
    assert (feed.check(1.0).status, feed.facts().source, len(table)) == ("healthy", "settings", 1)
    assert metrics.registry.get_sample_value("gateway_routes") == 1
    feed.stop()


# --- the file -----------------------------------------------------------------------------------------------------


def snapshot_at(revision: int, *, epoch: str = "e", routes: int = 3) -> Snapshot:
    """A registry with so many routes and one key."""
    key = ApiKey(1, "ci", b"d" * 32, frozenset({"users:read"}), "5/sec", True, revision)
    return Snapshot(epoch, revision, [route(number) for number in range(routes)], [key])


@pytest.mark.parametrize("routes", [0, 1, CHUNK, 2 * CHUNK + 1])
def test_what_is_saved_is_loaded(tmp_path: Path, routes: int) -> None:
    """However many there are; as one JSON document, readable by its owner alone."""
    saved = Saved(tmp_path / "new")
    assert saved.load() is None
    assert saved.save(snapshot_at(7, routes=routes))
    assert saved.load() == snapshot_at(7, routes=routes)
    assert saved.position() == State("e", 7)
    assert orjson.loads(saved.path.read_bytes())["format"] == 1
    assert [path.stat().st_mode & 0o777 for path in (saved.path, saved.path.parent)] == [0o600, 0o700]


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[:-20],
        lambda data: data.replace(b"v2", b"v9"),
        lambda data: data.replace(b'"revision":7', b'"revision":8', 1),
        lambda data: data.replace(b'"format":1', b'"format":9'),
        lambda _: b"",
        lambda _: b"[1]\n{}",
        lambda _: b"\x00" * 5000,
    ],
    ids=["cut short", "a byte", "the revision", "another format", "empty", "another document", "zeros"],
)
def test_a_damaged_file_is_no_file(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture, damage: Callable[[bytes], bytes]
) -> None:
    """One warning, and the start goes on with what the stores have, or nothing; the next change mends the file."""
    saved = Saved(tmp_path)
    saved.save(snapshot_at(7))
    saved.path.write_bytes(damage(saved.path.read_bytes()))
    (tmp_path / "routes.json.new").write_text("left by a crash")
    worker = start(run=False, state_dir=tmp_path)
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(warnings) == 1
    assert str(saved.path) in warnings[0]
    assert worker.weights == {}
    worker.feed.poll()
    worker.create("v1", 1)
    worker.keeper().save()
    mended = saved.load()
    assert mended is not None
    assert [each.version for each in mended.routes] == ["v1"]


def test_the_file_goes_forward_only(tmp_path: Path) -> None:
    """A worker that is behind the others leaves it alone, and so does one while another writes; a restored registry is
    written whatever the file has.
    """
    saved = Saved(tmp_path)
    saved.save(snapshot_at(7))
    assert saved.save(snapshot_at(6, routes=9))
    assert saved.position() == State("e", 7)
    with (tmp_path / "routes.lock").open("ab") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert not saved.save(snapshot_at(8))
    assert saved.save(snapshot_at(6), force=True)
    assert saved.save(snapshot_at(2, epoch="f"))
    assert saved.load() == snapshot_at(2, epoch="f")


def test_a_directory_that_cannot_be_written_is_said_once(
    start: Start, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And counted; routes are followed all the same."""
    (tmp_path / "file").touch()
    worker = start(state_dir=tmp_path / "file" / "state", run=False)
    caplog.clear()
    for version in ("v1", "v2"):
        worker.feed.poll()
        worker.create(version, 1)
        worker.keeper().save()
    assert len(caplog.records) == 1
    assert worker.metric('gateway_route_feed_errors_total{source="disk"}') == 2
    assert worker.weights == {"v1": 1, "v2": 1}


# --- in whatever order --------------------------------------------------------------------------------------------

LAST = 12


def history() -> list[Batch]:
    """A registry's batches: routes that come and go, and keys."""
    key = ApiKey(1, "ci", b"d" * 32, frozenset({"admin"}), None, False)
    made: list[Batch] = []
    for revision in range(1, LAST + 1):
        if revision % 5 == 0:
            batch = Batch("e", revision - 1, revision, (), [key])
        else:
            number = 1 + revision % 3
            after = None if revision % 4 == 0 else route(number, weight=revision)
            batch = Batch("e", revision - 1, revision, [Change(revision, number, after)])
        made.append(batch)
    return made


def test_what_comes_before_its_turn_waits_for_it() -> None:
    """And what was heard while a whole registry was read is not lost when that is taken over."""
    first, second, third = history()[:3]
    known = Known(Table(epoch="e"), Keyring())
    empty = known.capture(threading.Event())
    assert [known.hear(batch) for batch in (third, second, first)] == [False, False, True]
    assert known.position == State("e", 3)
    assert empty is not None
    known.take(empty)
    assert known.position == State("e", 3)
    assert len(known) == 3
    known.forget_heard()
    known.take(empty)
    assert known.position == State("e", 0)


@given(st.permutations(history() * 2), st.integers(0, LAST), st.integers(0, 2 * LAST))
def test_announcements_in_any_order_lead_to_the_same(heard: list[Batch], upto: int, at: int) -> None:
    """Late, early, twice, and around the moment when a whole registry is taken over: nothing is lost or undone."""
    straight = Known(Table(epoch="e"), Keyring())
    whole: list[Snapshot] = [straight._capture()]
    for batch in history():
        straight.apply(batch)
        whole.append(straight._capture())
    table, keyring = Table(epoch="e"), Keyring()
    known = Known(table, keyring)
    revisions = []
    for step, batch in enumerate(heard):
        if step == at:
            known.forget_heard()
            seen = max(upto, known.position.revision)  # PostgreSQL has what was announced
            known.take(whole[seen])
        known.hear(batch)
        revisions.append(known.position.revision)
    for batch in history():  # what came before its turn and was forgotten is in what is read next
        known.apply(batch)
    assert revisions == sorted(revisions)
    assert known.position == State("e", LAST)
    assert by_id(table) == by_id(whole[-1].routes)
    assert list(keyring) == whole[-1].keys
    assert table.revision == LAST
