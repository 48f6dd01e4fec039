"""Kafka goes and comes back: no request waits for it, and no event of an acknowledged write is lost or out of order."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chassis.testing import wait_until
from chassis.testing.kafka import KafkaCluster
from tests.faults.course import FALLBACK_S, LONG
from tests.faults.judge import prove
from tests.faults.signals import Signal, Watch
from tests.faults.stage import Stage
from tests.faults.traffic import KINDS
from tests.promises import Promise

pytestmark = pytest.mark.faults

GONE = Signal(
    metric="kafka_outbox_events > 0", log=("gateway", "Kafka takes no events"), alerts=("OutboxLagging",)
)  # fmt: skip
ARRIVE_S = 10.0


@contextmanager
def gone(kafka: KafkaCluster) -> Iterator[None]:
    """Every broker has ended: connections are closed, new ones refused."""
    kafka.down()
    try:
        yield
    finally:
        kafka.up()


def test_gone(stage: Stage, watch: Watch, promise: Promise) -> None:
    """Events wait in the outbox, and arrive when it is back: each, and those of a route in their order."""
    name = "Kafka: gone and back"
    courses = prove(
        stage, promise, name, lambda: gone(stage.kafka), watch=watch, signal=GONE,
        seconds=20 if LONG else 2, back_s=FALLBACK_S, unaffected=KINDS,
    )  # fmt: skip
    wait_until(
        lambda: not stage.query("gateway", "SELECT 1 FROM routes_outbox LIMIT 1"), timeout_s=ARRIVE_S, interval_s=0.1
    )
    written = {one.subject for course in courses for one in course.requests if one.kind == "route" and one.fine}
    revisions: dict[int, list[int]] = {}
    arrived = set()
    for route, revision, action, event in stage.kafka.messages():
        revisions.setdefault(route, []).append(revision)
        if action == "created":
            arrived.add(event["route"]["service"])
    missing = sorted(written - arrived)
    firsts = [list(dict.fromkeys(found)) for found in revisions.values()]  # an event may come twice
    promise(
        name,
        "the event of every acknowledged write arrives, those of a route in order",
        f"{len(written)} written, {len(missing)} missing {missing[:3] or ''}",
        holds=bool(written) and not missing and all(found == sorted(found) for found in firsts),
    )
