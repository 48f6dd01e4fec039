"""The relay of events, between a real PostgreSQL and the mock cluster of librdkafka, which speaks Kafka's protocol."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import psycopg2
import pytest

from chassis.children import spawn
from chassis.metrics import Metrics
from chassis.servers import PostgresServer
from chassis.settings import DatabaseSettings, load, parse_database_url
from chassis.testing import CutProxy, wait_until
from chassis.testing.databases import migrate
from chassis.testing.kafka import KafkaCluster
from gateway.registry import relay as relay_module
from gateway.registry.kafka import find_broker
from gateway.registry.outbox import Outbox
from gateway.registry.relay import ACTIONS, EventRelay, Figures, Relay, create_relay
from gateway.settings import KafkaSettings, Settings

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Gateway

TOPIC = "route-events"


class Kafka(KafkaCluster):
    """A cluster with the registry's topic."""

    def __init__(self) -> None:
        super().__init__(TOPIC)

    def in_order(self, expected: list[tuple[int, int]]) -> bool:
        """Whether a reader that passes over the revisions of a route it knows has exactly `expected`, in order.

        `expected` has (route, revision) in the order of the outbox.
        """
        known: dict[int, list[int]] = {}
        for route, revision, _, _ in self.messages():
            seen = known.setdefault(route, [])
            if not seen or revision > seen[-1]:
                seen.append(revision)
        wanted: dict[int, list[int]] = {}
        for route, revision in expected:
            wanted.setdefault(route, []).append(revision)
        return known == wanted


@pytest.fixture
def kafka() -> Iterator[Kafka]:
    """A cluster for this test alone."""
    with closing(Kafka()) as cluster:
        yield cluster


class Registry:
    """The registry's part: rows that come into the outbox, and what is still there."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.settings = DatabaseSettings(**parse_database_url(url))
        self.events: list[tuple[int, int]] = []
        self._connection: Any = None

    def commit(self, *routes: int) -> None:
        """One event for each of `routes`."""
        rows = []
        for route in routes:
            revision = len(self.events) + 1
            self.events.append((route, revision))
            payload = json.dumps({"revision": revision, "route": {"id": route}})
            rows.append((revision, route, ACTIONS[revision % len(ACTIONS)], payload))
        sql = (
            "INSERT INTO routes_outbox (revision, route_id, action, payload, created_at) VALUES (%s, %s, %s, %s, now())"
        )
        with self._cursor() as cursor:
            cursor.execute("BEGIN")
            cursor.executemany(sql, rows)
            cursor.execute("COMMIT")

    def query(self, sql: str, *parameters: Any) -> Any:
        """The first column of the first row."""
        with self._cursor() as cursor:
            cursor.execute(sql, parameters)
            row = cursor.fetchone()
            return row[0] if row else None

    def _cursor(self) -> Any:
        """A cursor on a kept connection, on a new one if that is lost."""
        try:
            self._connection.cursor().execute("SELECT 1")
        except (AttributeError, psycopg2.Error):
            self._connection = psycopg2.connect(self.url)
            self._connection.autocommit = True
        return self._connection.cursor()

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def waiting(self) -> int:
        """How many events wait."""
        return int(self.query("SELECT count(*) FROM routes_outbox"))

    def wait_sent(self, *, timeout_s: float = 20.0) -> None:
        """Wait for the outbox to be empty."""
        wait_until(lambda: self.waiting() == 0, timeout_s=timeout_s, what="the outbox to be empty")

    def end_leader(self) -> None:
        """End the session that has the lock, from PostgreSQL's side."""
        self.query("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory' AND granted")


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    """The schema of the gateway in a database of this test's own."""
    migrate("gateway", database_url)
    with closing(Registry(database_url)) as found:
        yield found


@pytest.fixture(autouse=True)
def _own_wait_callback() -> Iterator[None]:
    """The wait callback that a relay installs belongs to the process: here it ends with the test."""
    yield
    psycopg2.extensions.set_wait_callback(None)


class StartRelay(Protocol):
    """What the fixture `start_relay` gives."""

    def __call__(self, registry: Registry, servers: str, metrics: Metrics | None = None) -> Relay:
        """Start a relay that does not wait long before it takes over."""


@pytest.fixture
def start_relay() -> Iterator[StartRelay]:
    """Relays in the process of the test, stopped after it."""
    with ExitStack() as stack:

        def start(registry: Registry, servers: str, metrics: Metrics | None = None) -> Relay:
            settings = KafkaSettings(bootstrap_servers=tuple(servers.split(",")), topic=TOPIC)
            figures = Figures(metrics or _metrics())
            relay = Relay(settings, Outbox(registry.settings), figures, take_over_s=0.01)
            stack.callback(relay.stop)
            relay.start()
            return relay

        yield start


def _metrics() -> Metrics:
    return Metrics(service="gateway", version="1", commit="test")


def value(metrics: Metrics, sample: str) -> float:
    """One sample of the exposition; 0 if it is not there."""
    lines = metrics.exposition()[0].decode().splitlines()
    return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{sample} ")), 0.0)


# --- a relay on its own --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("configured", [False, True])
def test_both_relays_keep_to_the_interface(configured: bool, registry: Registry, kafka: Kafka) -> None:
    """With and without Kafka: it starts, is told of commits, has a state at once, stops twice; metrics exist from the
    start. Only the one with Kafka sends, the other leaves events where they are.
    """
    registry.commit(1, 2)
    servers = kafka.servers if configured else ""
    metrics = _metrics()
    given = {"database_url": registry.url, "kafka": {"bootstrap_servers": servers}}
    relay: EventRelay = create_relay(load(Settings, **given), metrics)
    text = metrics.exposition()[0].decode()
    for action in ACTIONS:
        assert f'kafka_events_published_total{{action="{action}"}} 0.0' in text
        assert f'kafka_events_failed_total{{action="{action}"}} 0.0' in text
    relay.start()
    relay.notify()
    if configured:
        wait_until(lambda: relay.check(1.0).message == "Kafka is accessible", timeout_s=5)
        registry.wait_sent()
    else:
        assert relay.check(1.0).message == "Kafka is not configured"
        assert registry.waiting() == 2
    assert relay.check(1.0).status == "healthy"
    relay.stop()
    relay.stop()


@pytest.mark.slow
def test_nothing_of_kafka_before_it_is_used(registry: Registry, kafka: Kafka) -> None:
    """A process that has made a relay may fork: no thread runs and the client library is not even loaded. The child
    that starts it sends.
    """
    registry.commit(1)
    program = """
import os, sys, threading
from chassis.metrics import Metrics
from chassis.settings import load
from gateway.registry.relay import create_relay
from gateway.settings import Settings
relay = create_relay(load(Settings), Metrics(service="gateway", version="1", commit="test"))
assert threading.active_count() == 1 and "confluent_kafka" not in sys.modules
if os.fork():
    raise SystemExit(os.waitstatus_to_exitcode(os.wait()[1]))
relay.start()
sys.stdin.read()
relay.stop()
"""
    with _process(registry, kafka, program) as process:
        registry.wait_sent()
        process.communicate()
    assert process.returncode == 0
    assert kafka.in_order(registry.events)


def test_events_arrive_and_leave_the_outbox(registry: Registry, kafka: Kafka, start_relay: StartRelay) -> None:
    """An event has the route's id as its key, revision and action in its headers, and the payload as it was stored;
    it is counted and deleted once Kafka has it. Routes are spread over partitions, each in order and without a double.
    """
    metrics = _metrics()
    relay = start_relay(registry, kafka.servers, metrics)
    registry.commit(*[1 + number % 7 for number in range(70)])
    relay.notify()
    registry.wait_sent()
    messages = kafka.messages()
    assert kafka.in_order(registry.events)
    assert len(messages) == 70
    assert {"revision": 1, "route": {"id": 1}} in [value for _, revision, _, value in messages if revision == 1]
    assert all(action == ACTIONS[revision % len(ACTIONS)] for _, revision, action, _ in messages)
    counted = [value(metrics, f'kafka_events_published_total{{action="{action}"}}') for action in ACTIONS]
    assert counted == [14.0] * 5
    assert value(metrics, "kafka_relay_leader") == 1
    relay.stop()
    assert value(metrics, "kafka_relay_leader") == 0


def test_health_asks_a_broker(kafka: Kafka, cut_proxy: Callable[[str, int], CutProxy], postgres_server: Any) -> None:
    """A broker counts that answers as Kafka does: not one that is gone or silent, nor a server of another kind. One
    of several is enough.
    """
    host, port = kafka.servers.split(",")[0].split(":")
    proxy = cut_proxy(host, int(port))
    address = f"{proxy.host}:{proxy.port}"
    assert find_broker([address], 1.0) == address
    proxy.hang()
    with pytest.raises(TimeoutError):
        find_broker([address], 0.1)
    proxy.cut()
    with pytest.raises(ConnectionRefusedError):
        find_broker([address], 1.0)
    assert find_broker([address, f"{host}:{port}"], 1.0) == f"{host}:{port}"
    with pytest.raises(OSError, match=r"no Kafka broker|reset|timed out"):
        find_broker([f"127.0.0.1:{postgres_server.port}"], 0.3)


# --- failures ------------------------------------------------------------------------------------------------------


def test_brokers_lost_and_back(
    registry: Registry, kafka: Kafka, start_relay: StartRelay, caplog: pytest.LogCaptureFixture, monkeypatch: Any
) -> None:
    """Brokers die in the middle of a stream and come back: nothing is lost, each route's events are in order. While
    they are away commits go on, the lag shows, health is degraded, and the log says it once.
    """
    caplog.set_level(logging.INFO)
    for name in ("LAG_S", "PROBE_S"):
        monkeypatch.setattr(relay_module, name, 0.1)
    metrics = _metrics()
    relay = start_relay(registry, kafka.servers, metrics)
    registry.commit(1, 2, 3)
    registry.wait_sent()
    kafka.answer_after(20)
    registry.commit(*[1 + number % 3 for number in range(60)])
    wait_until(lambda: registry.waiting() < 60)
    kafka.down()
    registry.commit(*[1 + number % 9 for number in range(90)])
    wait_until(lambda: relay.check(1.0).status == "degraded", timeout_s=5)
    wait_until(lambda: value(metrics, "kafka_outbox_events") >= 90, timeout_s=5)
    wait_until(lambda: value(metrics, "kafka_outbox_oldest_seconds") > 0.2, timeout_s=5)
    wait_until(lambda: "Kafka takes no events" in caplog.text, timeout_s=5)
    kafka.answer_after(0)
    kafka.up()
    registry.wait_sent()
    assert kafka.in_order(registry.events)
    wait_until(lambda: relay.check(1.0).status == "healthy", timeout_s=5)
    wait_until(lambda: value(metrics, "kafka_outbox_events") == 0, timeout_s=5)
    assert sum("Kafka takes no events" in record.message for record in caplog.records) == 1
    assert sum("Kafka takes events again" in record.message for record in caplog.records) == 1


@pytest.mark.slow
def test_refused_events_are_sent_again_in_order(
    registry: Registry, kafka: Kafka, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An event that Kafka refuses is counted and tried again, and no later one of its route goes before it."""
    monkeypatch.setattr(relay_module, "REST_S", 0.1)
    metrics = _metrics()
    kafka.refuse(3)
    registry.commit(*[1 + number % 2 for number in range(20)])
    relay = start_relay(registry, kafka.servers, metrics)
    registry.wait_sent()
    relay.stop()
    assert kafka.in_order(registry.events)
    assert len(kafka.messages()) == 20
    failed = sum(value(metrics, f'kafka_events_failed_total{{action="{action}"}}') for action in ACTIONS)
    assert failed >= 3


@pytest.mark.slow
def test_a_leader_that_loses_its_lock_falls_silent(
    registry: Registry, kafka: Kafka, start_relay: StartRelay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leader whose session PostgreSQL ended forgets what it had in hand, while another one takes over."""
    for name in ("REST_S", "STANDBY_S"):
        monkeypatch.setattr(relay_module, name, 0.1)
    kafka.answer_after(20)
    relays = [start_relay(registry, kafka.servers) for _ in range(2)]
    registry.commit(*[1 + number % 3 for number in range(90)])
    for left in (60, 30):
        wait_until(lambda left=left: registry.waiting() <= left)  # type: ignore[misc]
        registry.end_leader()
    registry.wait_sent()
    assert kafka.in_order(registry.events)
    for relay in relays:
        relay.stop()
    wait_until(lambda: registry.query("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == 0)


def test_a_silent_leader_loses_its_lock(registry: Registry) -> None:
    """A leader that says nothing, as if suspended, is replaced; it finds out with its next statement."""
    first, second = Outbox(registry.settings, idle_limit_s=0.2), Outbox(registry.settings)
    with closing(first), closing(second):
        assert first.try_to_lead()
        assert not second.try_to_lead()
        wait_until(second.try_to_lead, timeout_s=5)
        with pytest.raises(psycopg2.OperationalError):
            first.read(after=0, limit=1)


@pytest.mark.slow
def test_postgresql_lost_and_back(
    private_postgres: PostgresServer, kafka: Kafka, start_relay: StartRelay, caplog: pytest.LogCaptureFixture
) -> None:
    """PostgreSQL stops in the middle of a stream, starts again and hangs for a while: nothing is lost, order holds."""
    url = private_postgres.create_database("gateway")
    migrate("gateway", url)
    registry = Registry(url)
    kafka.answer_after(20)
    relay = start_relay(registry, kafka.servers)
    registry.commit(*[1 + number % 3 for number in range(90)])
    wait_until(lambda: registry.waiting() < 80)
    private_postgres.stop()
    wait_until(lambda: "The relay of events cannot work" in caplog.text, timeout_s=5)
    private_postgres.start()
    wait_until(lambda: registry.waiting() < 50)
    private_postgres.pause()
    wait_until(lambda: caplog.text.count("The relay of events cannot work") == 2, timeout_s=5)
    private_postgres.resume()
    registry.wait_sent()
    assert kafka.in_order(registry.events)
    relay.stop()


_RELAY = """
import sys
from chassis import logging
from chassis.metrics import Metrics
from chassis.settings import load
from gateway.registry.relay import create_relay
from gateway.settings import Settings
logging.configure(service="gateway", version="1")
relay = create_relay(load(Settings), Metrics(service="gateway", version="1", commit="test"))
relay.start()
sys.stdin.read()
relay.stop()
"""


def _process(registry: Registry, kafka: Kafka, program: str) -> subprocess.Popen[bytes]:
    env = {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": registry.url,
        "KAFKA_BOOTSTRAP_SERVERS": kafka.servers,
        "KAFKA_TOPIC": TOPIC,
    }
    return spawn(
        [sys.executable, "-c", program], env=env, death_signal=signal.SIGKILL, stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )  # fmt: skip


@pytest.mark.slow
def test_a_killed_leader_is_followed(registry: Registry, kafka: Kafka) -> None:
    """Of two processes one leads; killed with -9 in the middle of a stream it is followed by the other, which sends
    what was not confirmed. Nothing is lost, order holds.
    """
    kafka.answer_after(30)
    leaders: list[subprocess.Popen[bytes]] = []
    with ExitStack() as stack:
        for _ in range(2):
            process = stack.enter_context(_process(registry, kafka, _RELAY))
            stack.callback(process.kill)
            threading.Thread(target=_note_leader, args=(process, leaders), daemon=True).start()
        wait_until(lambda: leaders)
        registry.commit(*[1 + number % 3 for number in range(150)])
        wait_until(lambda: registry.waiting() < 130)
        os.kill(leaders[0].pid, signal.SIGKILL)
        assert registry.waiting() > 0
        registry.wait_sent()
        assert len(leaders) == 2
        assert leaders[0] is not leaders[1]
    assert kafka.in_order(registry.events)


def _note_leader(process: subprocess.Popen[bytes], leaders: list[subprocess.Popen[bytes]]) -> None:
    assert process.stdout is not None
    for line in process.stdout:
        leaders += [process] if b"Leading the relay" in line else []


def test_a_notice_never_waits(registry: Registry, kafka: Kafka, start_relay: StartRelay) -> None:
    """Telling the relay of a commit, and asking for its state, take no time while Kafka and PostgreSQL hang."""
    kafka.answer_after(5000)
    proxy = CutProxy(registry.settings.host, registry.settings.port)
    with proxy:
        behind = Registry(proxy.url_for(registry.url))
        relay = start_relay(behind, kafka.servers)
        registry.commit(1)
        proxy.hang()
        began_s = time.process_time()
        for _ in range(1000):
            relay.notify()
            relay.check(1.0)
        assert time.process_time() - began_s < 1
        kafka.answer_after(0)
        proxy.heal()
        registry.wait_sent()
        relay.stop()


@pytest.mark.slow
def test_a_gateway_sends_what_its_registry_writes(
    registry: Registry, kafka: Kafka, start_gateway: Callable[..., Gateway], tmp_path: Path
) -> None:
    """A route is created while no broker is there: 201 well within a second. Its event comes with the brokers, from
    one of the two workers; health tells the difference and readiness does not depend on it.
    """
    gateway = start_gateway(DATABASE_URL=registry.url, KAFKA_BOOTSTRAP_SERVERS=kafka.servers)

    def health() -> tuple[int, str]:
        answer = gateway.ask("GET", "/health/ready")
        return answer.status, json.loads(answer.body)["checks"]["kafka"]["message"]

    wait_until(lambda: health() == (200, "Kafka is accessible"))
    gateway.wait_log("Leading the relay")
    kafka.down()
    wait_until(lambda: health() == (200, "Kafka is not accessible"))
    route = {"tenant": "team-a", "service": "payments", "env": "prod", "version": "v2", "url": "http://127.0.0.1:9"}
    key = (tmp_path / "admin-key").read_text()
    headers = {"X-API-Key": key, "Content-Type": "application/json", "X-Request-Timeout-Ms": "1000"}
    answer = gateway.ask("POST", "/api/v1/routes", headers, json.dumps(route).encode())
    assert answer.status == 201, answer.body
    kafka.up()
    registry.wait_sent()
    ((route_id, revision, action, event),) = kafka.messages()
    assert (action, event["action"], event["revision"]) == ("created", "created", revision)
    assert {name: event["route"][name] for name in route} == route
    assert event["route"]["id"] == route_id == json.loads(answer.body)["id"]
    gateway.wait_metric('kafka_events_published_total{action="created"}', 1)
    assert gateway.metric("kafka_relay_leader") == 1
