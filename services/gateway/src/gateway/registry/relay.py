"""The relay: events from the outbox in PostgreSQL to Kafka, at least once, in order for each route.

Every worker of every gateway has one; the one that holds the outbox's lock works, the others stand by. Requests have
nothing to do with it: an event is safe once its transaction is committed. Why order holds: decision 31.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from typing import Protocol

import psycopg2

from chassis.database import install_wait_callback
from chassis.health import Result
from chassis.metrics import Metrics
from gateway.registry.kafka import Publisher, PublisherBroken, find_broker
from gateway.registry.outbox import STATEMENT_LIMIT_S, Event, Outbox
from gateway.settings import KafkaSettings, Settings

log = logging.getLogger(__name__)

ACTIONS = ("created", "updated", "activated", "deactivated", "deleted")
WINDOW = 1000
"""Most events in memory; the others wait in PostgreSQL."""
POLL_S = 0.25
"""How often the leader looks for new events, and so makes sure that it still leads."""
STANDBY_S = 0.5
"""How often the others try to lead."""
TAKE_OVER_S = STATEMENT_LIMIT_S + 2 * POLL_S
"""A new leader sends nothing for so long. One that lost its lock and does not know yet finds out meanwhile, and falls
silent."""
REST_S = 1.0
"""The pause after a failure."""
FAREWELL_S = 0.5
"""How long a leader that stops waits for confirmations."""
LAG_S = 2.0
"""How often the lag is measured, in every worker."""
PROBE_S = 2.0
PROBE_LIMIT_S = 1.0
PROBE_OLD_S = 10.0
"""How often brokers are asked whether they are there, for how long, and when an answer says nothing any more."""


class EventRelay(Protocol):
    """What the gateway knows of a relay."""

    def start(self) -> None:
        """Begin to work in threads of its own. After the fork."""

    def notify(self) -> None:
        """Something was committed: look now. From any thread; never waits."""

    def check(self, limit_s: float) -> Result:
        """The health check `kafka`: the last known state, at once. Kafka is never what readiness depends on."""

    def stop(self) -> None:
        """End the threads; a leader gives up its place. Waits for 3 s at most. Safe to call twice."""


def create_relay(settings: Settings, metrics: Metrics) -> EventRelay:
    """The relay for `settings`, or one that does nothing if there is no Kafka or no registry. Metrics exist anyway."""
    figures = Figures(metrics)
    if not settings.kafka.bootstrap_servers or not settings.has_database:
        return NullRelay()
    return Relay(settings.kafka, Outbox(settings.db), figures)


class NullRelay:
    """No Kafka: events stay in the outbox."""

    def start(self) -> None:
        """Nothing."""

    def notify(self) -> None:
        """Nothing."""

    def check(self, limit_s: float) -> Result:  # noqa: ARG002 - the interface's
        return Result("healthy", "Kafka is not configured")

    def stop(self) -> None:
        """Nothing."""


class Figures:
    """The relay's metrics."""

    def __init__(self, metrics: Metrics) -> None:
        self.published = metrics.counter("kafka_events_published_total", "Events that Kafka has confirmed", ("action",))
        self.failed = metrics.counter(
            "kafka_events_failed_total", "Tries to deliver an event that were given up; another follows", ("action",)
        )
        self.waiting = metrics.gauge("kafka_outbox_events", "Events that wait in the outbox", over_workers="livemax")
        self.oldest_s = metrics.gauge(
            "kafka_outbox_oldest_seconds", "How long the oldest event of the outbox has waited", over_workers="livemax"
        )
        self.leading = metrics.gauge("kafka_relay_leader", "Workers that send the outbox's events")
        for action in ACTIONS:
            self.published.labels(action)
            self.failed.labels(action)
        for gauge in (self.waiting, self.oldest_s, self.leading):
            gauge.set(0)


class Term:
    """One time of leading: what was read, in order, and of each route's events no more than the first with Kafka.

    So whatever becomes of a message, no later event of its route is sent before it is confirmed.
    """

    def __init__(self, settings: KafkaSettings, outbox: Outbox, figures: Figures) -> None:
        self._outbox = outbox
        self._figures = figures
        self._queues: dict[int, deque[Event]] = {}
        self._count = 0
        self._read = 0
        self._confirmed: list[int] = []
        self._rejected: list[tuple[float, Event]] = []
        self.trouble: str | None = None
        self._publisher = Publisher(settings, done=self._done, on_unreachable=self._unreachable)

    def collect(self) -> None:
        """Delete what has arrived and read what is new. Raises psycopg2.Error, after which this term is over."""
        if self._confirmed:
            self._outbox.delete(self._confirmed)
            self._confirmed = []
        for event in self._outbox.read(after=self._read, limit=WINDOW - self._count):
            self._read = event.revision
            self._count += 1
            queue = self._queues.setdefault(event.route_id, deque())
            queue.append(event)
            if len(queue) == 1:
                self._publisher.send(event)

    def deliver(self, limit_s: float) -> None:
        """Work for `limit_s`, less if nothing is left to do. Raises PublisherBroken, after which this term is over."""
        deadline_s = time.monotonic() + limit_s
        while self._count and (left_s := deadline_s - time.monotonic()) > 0:
            self._publisher.serve(left_s)
            while self._rejected and self._rejected[0][0] <= time.monotonic():
                self._publisher.send(self._rejected.pop(0)[1])

    @property
    def idle(self) -> bool:
        """Whether everything that was read has arrived."""
        return self._count == 0

    def end(self) -> None:
        """Send nothing more, from now on."""
        self._publisher.close()

    def _done(self, event: Event, error: str | None) -> None:
        if error is not None:
            self._figures.failed.labels(event.action).inc()
            self._rejected.append((time.monotonic() + REST_S, event))
            self._in_trouble(error)
            return
        if self.trouble is not None:
            self.trouble = None
            log.info("Kafka takes events again")
        self._figures.published.labels(event.action).inc()
        self._confirmed.append(event.revision)
        self._count -= 1
        queue = self._queues[event.route_id]
        queue.popleft()
        if queue:
            self._publisher.send(queue[0])
        else:
            del self._queues[event.route_id]

    def _unreachable(self) -> None:
        if self._count:
            self._in_trouble("no broker can be reached")

    def _in_trouble(self, why: str) -> None:
        if self.trouble is None:
            log.error("Kafka takes no events, they wait in the outbox: %s", why)
        self.trouble = why


class Relay:
    """Leads when it may, and measures the lag and Kafka's health all the time."""

    def __init__(
        self, settings: KafkaSettings, outbox: Outbox, figures: Figures, *, take_over_s: float = TAKE_OVER_S
    ) -> None:
        self._settings = settings
        self._outbox = outbox
        self._figures = figures
        self._take_over_s = take_over_s
        self._stopping = threading.Event()
        self._wake = threading.Event()
        self._threads: list[threading.Thread] = []
        self._measure_at_s = 0.0
        self._term: Term | None = None
        self._lost: str | None = None
        self._probed = (0.0, "not asked yet")

    def start(self) -> None:
        install_wait_callback()
        for name, work in (("outbox-relay", self._relay), ("kafka-probe", self._probe)):
            thread = threading.Thread(target=work, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def notify(self) -> None:
        self._wake.set()

    def stop(self) -> None:
        self._stopping.set()
        self._wake.set()
        deadline_s = time.monotonic() + 3
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))
        self._threads.clear()

    def check(self, limit_s: float) -> Result:  # noqa: ARG002 - it never waits
        at_s, error = self._probed
        if error or time.monotonic() > at_s + PROBE_OLD_S:
            return Result("degraded", "Kafka is not accessible", error=error or "TimeoutError")
        term = self._term
        if term is not None and (trouble := term.trouble) is not None:
            return Result("degraded", "Kafka takes no events", error=trouble)
        return Result("healthy", "Kafka is accessible")

    # --- the thread that leads, or waits to ------------------------------------------------------------------------

    def _relay(self) -> None:
        while not self._stopping.is_set():
            try:
                self._measure()
                if self._outbox.try_to_lead():
                    self._lead()
                else:
                    self._stopping.wait(STANDBY_S)
            except (psycopg2.Error, PublisherBroken) as error:
                self._lose(error)
                self._stopping.wait(REST_S)
            except Exception:  # the events wait for the next turn, whatever went wrong in this one
                log.exception("The relay failed")
                self._stopping.wait(REST_S)
        self._outbox.close()

    def _lead(self) -> None:
        """Lead until told to stop, or an error ends it; when it returns, nothing more is sent and the lock is free."""
        if self._stopping.wait(self._take_over_s):
            return
        term = self._term = Term(self._settings, self._outbox, self._figures)
        try:
            self._figures.leading.set(1)
            log.info("Leading the relay of events to Kafka")
            while not self._stopping.is_set():
                self._wake.clear()
                term.collect()
                self._found()
                self._measure()
                if term.idle:
                    self._wake.wait(POLL_S)
                else:
                    term.deliver(POLL_S)
            term.deliver(FAREWELL_S)
            term.collect()
        finally:
            self._term = None
            term.end()
            self._outbox.close()
            self._figures.leading.set(0)

    def _measure(self) -> None:
        if time.monotonic() >= self._measure_at_s:
            lag = self._outbox.lag()
            self._figures.waiting.set(lag.waiting)
            self._figures.oldest_s.set(lag.oldest_s)
            self._measure_at_s = time.monotonic() + LAG_S

    def _lose(self, error: Exception) -> None:
        name = str(error) if isinstance(error, PublisherBroken) else type(error).__name__
        if self._lost is None:
            log.warning("The relay of events cannot work: %s", name)
        self._lost = name

    def _found(self) -> None:
        if self._lost is not None:
            self._lost = None
            log.info("The relay of events works again")

    # --- the thread that asks whether Kafka is there ---------------------------------------------------------------

    def _probe(self) -> None:
        while not self._stopping.is_set():
            try:
                find_broker(self._settings.bootstrap_servers, PROBE_LIMIT_S)
            except (OSError, ValueError) as error:
                self._probed = (time.monotonic(), type(error).__name__)
            else:
                self._probed = (time.monotonic(), "")
            self._stopping.wait(PROBE_S)
