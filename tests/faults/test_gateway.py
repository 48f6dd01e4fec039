"""A worker of the gateway is killed, the gateway reloads, and it is stopped and started again: under traffic."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from chassis.testing import wait_until
from tests.faults.judge import prove
from tests.faults.signals import Signal, Watch
from tests.faults.stage import Program, Stage
from tests.faults.traffic import KINDS
from tests.promises import Promise

pytestmark = pytest.mark.faults

BACK_S = 5.0
WORKERS = 2
ONE_LOST = Signal(
    metric='increase(app_workers_lost_total{service="gateway"}[4s]) > 0',
    log=("gateway", "was sent SIGKILL! Perhaps out of memory?"),
)
"""WorkersDying is for those that die again and again."""


def _are_others(gateway: Program, before: set[int]) -> bool:
    now = set(gateway.process.workers)
    return len(now) == WORKERS and not now & before


@contextmanager
def worker_killed(gateway: Program) -> Iterator[None]:
    """kill -9 of one of the two."""
    victim = gateway.process.workers[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in gateway.process.workers)  # its connections live for as long as it takes to die
    yield
    wait_until(lambda: len(gateway.process.workers) == WORKERS)


@contextmanager
def reloaded(gateway: Program) -> Iterator[None]:
    """HUP: new workers take over from the old ones."""
    before = set(gateway.process.workers)
    gateway.process.signal(signal.SIGHUP)
    yield
    wait_until(lambda: _are_others(gateway, before), timeout_s=30)


@contextmanager
def stopped(gateway: Program, codes: list[int]) -> Iterator[None]:
    """SIGTERM, and a new one on the same port once it has ended, with that exit code."""
    gateway.process.signal(signal.SIGTERM)
    yield
    codes.append(gateway.process.wait())
    gateway.start()


def test_worker_killed(stage: Stage, watch: Watch, promise: Promise) -> None:
    """What it was just doing is lost, and nothing else."""
    prove(
        stage, promise, "gateway: kill -9 of a worker",
        lambda: worker_killed(stage.gateway), watch=watch, signal=ONE_LOST,
        seconds=0.2, back_s=BACK_S, killed=True,
    )  # fmt: skip


def test_reloaded(stage: Stage, promise: Promise) -> None:
    """Nobody gets an error or waits past the deadline; two workers that start take the processors meanwhile."""
    name = "gateway: HUP"
    prove(stage, promise, name, lambda: reloaded(stage.gateway), seconds=0.2, back_s=BACK_S, late=KINDS)


def test_stopped(stage: Stage, promise: Promise) -> None:
    """It serves while it drains, every request that it took is answered, and it leaves nobody behind."""
    name = "gateway: SIGTERM, and a start"
    codes: list[int] = []
    before = {process.pid for process in stage.gateway.processes}
    prove(stage, promise, name, lambda: stopped(stage.gateway, codes), seconds=0, back_s=BACK_S, refusing=True)
    promise(name, "its exit code is 0", ", ".join(map(str, codes)), holds=set(codes) == {0})
    left = [pid for pid in before if psutil.pid_exists(pid)]
    promise(name, "none of its processes is left", f"{len(left)} are", holds=not left)
