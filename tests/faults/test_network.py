"""The network between the gateway and an instance is slow, loses packets, is cut: the other instance is reached."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chassis.testing import CutProxy
from tests.faults.course import FALLBACK_S, LONG
from tests.faults.judge import prove
from tests.faults.signals import Signal, Watch
from tests.faults.stage import Program, Stage
from tests.faults.test_instances import ASKING, left_alone, wire_of
from tests.faults.traffic import KINDS
from tests.promises import Promise

pytestmark = pytest.mark.faults

SERVICE = "user"
OTHERS = [kind for kind in KINDS if kind not in ASKING[SERVICE]]
LATE_S = 0.35
"""More than the 300 ms that the objective for latency allows."""
LOST = 0.2
SLOW = Signal(
    metric='service:http_request_duration_seconds:p99_5m{service="gateway"} > 0.3',
    log=None,
    alerts=('LatencyBudgetBurn{service="gateway"}',),
)


@contextmanager
def late(wire: CutProxy) -> Iterator[None]:
    """Everything takes longer."""
    wire.delay(LATE_S)
    yield
    wire.heal()


@contextmanager
def lossy(*wires: CutProxy) -> Iterator[None]:
    """One in five packets is lost, and sent again by TCP."""
    for wire in wires:
        wire.lose(LOST)
    yield
    for wire in wires:
        wire.heal()


@contextmanager
def cut(wire: CutProxy) -> Iterator[None]:
    """Every connection is reset, none can be made."""
    wire.cut()
    yield
    wire.heal()


@contextmanager
def silent(wire: CutProxy) -> Iterator[None]:
    """Nothing comes through, and nobody says so, as where a firewall drops what it does not like."""
    wire.hang()
    yield
    wire.heal()


@pytest.fixture
def program(stage: Stage) -> Program:
    """The instance on the other side of that network."""
    return stage.instances[SERVICE][1]


def test_latency(stage: Stage, program: Program, watch: Watch, promise: Promise) -> None:
    """Late answers are answers: nothing fails."""
    prove(
        stage, promise, f"network to one of two: {LATE_S * 1000:.0f} ms of latency",
        lambda: late(wire_of(program)), watch=watch, signal=SLOW,
        seconds=10 if LONG else 1, back_s=2.0, unaffected=OTHERS, late=ASKING[SERVICE],
    )  # fmt: skip


def test_loss(stage: Stage, watch: Watch, promise: Promise) -> None:
    """Of both instances, as one of them would hardly be asked: answers are late, and few of them too late."""
    wires = [wire_of(program) for program in stage.instances[SERVICE]]
    prove(
        stage, promise, f"network to both of two: {LOST:.0%} of packets lost",
        lambda: lossy(*wires), watch=watch, signal=SLOW,
        seconds=10 if LONG else 1, back_s=2.0, unaffected=OTHERS,
    )  # fmt: skip


def test_cut(stage: Stage, program: Program, watch: Watch, promise: Promise) -> None:
    """Resets: whoever was just being answered gets 503, nobody else notices."""
    prove(
        stage, promise, "network to one of two: cut",
        lambda: cut(wire_of(program)), watch=watch, signal=left_alone(program),
        seconds=10 if LONG else 1, back_s=FALLBACK_S, unaffected=OTHERS,
    )  # fmt: skip


@pytest.mark.skipif(not LONG, reason="in the short form, SIGSTOP of an instance is this")
def test_silent(stage: Stage, program: Program, watch: Watch, promise: Promise) -> None:
    """Nobody answers, and nobody refuses: 504 at the deadline, until it is left alone."""
    prove(
        stage, promise, "network to one of two: silent",
        lambda: silent(wire_of(program)), watch=watch, signal=left_alone(program),
        seconds=10 if LONG else 1, back_s=FALLBACK_S, unaffected=OTHERS,
    )  # fmt: skip
