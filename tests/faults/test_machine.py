"""The machine itself: a disk without room for logs and metrics, and a clock that jumps."""

from __future__ import annotations

import email.utils
import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chassis.testing import wait_until
from chassis.testing.calls import call
from tests.faults import disk
from tests.faults.clock import Clock
from tests.faults.course import FALLBACK_S, LONG, ROUNDS
from tests.faults.judge import prove
from tests.faults.signals import Signal, Watch
from tests.faults.stage import Program, Stage
from tests.faults.test_instances import ASKING
from tests.faults.traffic import KINDS
from tests.promises import Promise

pytestmark = pytest.mark.faults

HOUR_S = 3600
FULL = Signal(
    metric=f'node_filesystem_avail_bytes{{device="{disk.DEVICE}"}} == 0',
    log=None,  # where would it be written?
    alerts=(
        f'DiskAlmostFull{{severity="critical",device="{disk.DEVICE}"}}',
        'RouteFeedStale{source="disk"}',
    ),
)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system that can be full, and that logs alone do not fill."""
    with disk.disk(tmp_path, megabytes=32):
        yield tmp_path


@pytest.fixture
def cramped(_stage: Stage, small_disk: Path) -> Iterator[tuple[Program, Path]]:
    """An instance of the user service whose logs and metrics go to a small disk; what the gateway keeps does, too."""
    program = _stage.instances["user"][1]
    (small_disk / "state").mkdir()
    try:
        program.restart({"METRICS_DIR": str(small_disk / "metrics")}, log_file=small_disk / "log")
        _stage.gateway.restart({"GATEWAY_STATE_DIR": str(small_disk / "state")})
        yield program, small_disk
    finally:
        program.restart()
        _stage.gateway.restart()


@contextmanager
def full(program: Program, path: Path) -> Iterator[None]:
    """Not a byte is free; meanwhile a worker dies, and the next one finds it like that."""
    disk.fill(path)
    (before,) = program.process.workers
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: program.process.workers not in ([], [before]), what="another worker")
    yield
    disk.make_room(path)


def test_full(cramped: tuple[Program, Path], stage: Stage, watch: Watch, promise: Promise) -> None:
    """Logs and metrics are lost, requests are not: only those that the dead worker was answering."""
    program, path = cramped
    name = "disk full where logs and metrics go"
    prove(
        stage, promise, name, lambda: full(program, path), watch=watch, signal=FULL,
        seconds=10 if LONG else 2, back_s=FALLBACK_S,
        unaffected=[kind for kind in KINDS if kind not in ASKING["user"]],
    )  # fmt: skip
    line = 'user_http_requests_total{endpoint="health_live",method="GET",status="200"}'
    before = (path / "log").stat().st_size
    call(program.process, "GET", "/nowhere")
    wait_until(lambda: (path / "log").stat().st_size > before, what="a log line")
    promise(
        name,
        "with room again, there are logs and metrics again",
        f"{(path / 'log').stat().st_size - before} bytes of log; metrics: {line in stage.exposition(program)}",
        holds=line in stage.exposition(program),
    )


@pytest.fixture(scope="module")
def clock(_stage: Stage, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Clock]:
    """The clock of the gateway, and of one of two instances of each service: the others run on another machine.

    The gateway lets nobody have its front page more than twice a minute.
    """
    clock, programs = Clock(tmp_path_factory.mktemp("clock")), [both[1] for both in _stage.instances.values()]
    try:
        for program in programs:
            program.restart(clock.environment)
        _stage.gateway.restart({"RATE_LIMITS": "key@home=2/min", **clock.environment})
        yield clock
    finally:
        for program in (*programs, _stage.gateway):
            program.restart()


def says(program: Program) -> float:
    """What time it is, says a program."""
    date = call(program.process, "GET", "/health/live").headers["Date"]
    return email.utils.parsedate_to_datetime(date).timestamp()


@dataclass
class Kept:
    """What must not go by the time of day."""

    limited: list[int] = field(default_factory=list)
    ids: set[int] = field(default_factory=set)

    def ask(self, stage: Stage, name: str) -> None:
        """Ask for the front page, whose limit is used up; and sign up once more with the same key."""
        self.limited.append(stage.ask("GET", "/").status)
        new = {"username": name, "email": f"{name}@example.com"}
        self.ids.add(stage.ask("POST", "/api/v1/users", new, Idempotency_Key=f"key-{name}").body["id"])


@contextmanager
def set_wrong(clock: Clock, stage: Stage, ahead_s: int, kept: Kept) -> Iterator[None]:
    """A jump, and one back."""
    program, name = stage.instances["user"][1], f"clock-{uuid.uuid4().hex[:8]}"
    wait_until(lambda: stage.ask("GET", "/").status == 429, what="a limit that is used up")
    kept.ask(stage, name)
    try:
        clock.set(ahead_s)
        _wait_says(program, ahead_s)
        kept.ask(stage, name)
        yield
    finally:
        clock.set(0)
        _wait_says(program, 0)
    kept.ask(stage, name)


def _wait_says(program: Program, ahead_s: int) -> None:
    wait_until(lambda: abs(says(program) - time.time() - ahead_s) < 5, timeout_s=5, what="another time of day")


@pytest.mark.parametrize("ahead_s", [HOUR_S, -HOUR_S], ids=["forward", "back"])
def test_clock(clock: Clock, stage: Stage, watch: Watch, promise: Promise, ahead_s: int) -> None:
    """An hour, of the gateway and of one of two instances: nobody notices, and nothing is older or newer for it."""
    kept = Kept()
    where = f'instance="127.0.0.1:{stage.instances["user"][1].port}"'
    wrong = Signal(
        metric=f"abs(app_uptime_seconds{{{where}}} + process_start_time_seconds - time()) > 60",
        log=None,
        alerts=(f"ClockWrong{{{where}}}", 'ClockWrong{service="gateway"}'),
    )
    name = f"clock jumps by an hour, {'forward' if ahead_s > 0 else 'back'}"
    prove(
        stage, promise, name, lambda: set_wrong(clock, stage, ahead_s, kept), watch=watch, signal=wrong,
        seconds=20 if LONG else 2, back_s=FALLBACK_S, unaffected=KINDS,
    )  # fmt: skip
    promise(
        name,
        "a limit that is used up stays so; a key of a sign-up is known",
        f"front page: {', '.join(map(str, kept.limited))}; {len(kept.ids)} account",
        holds=set(kept.limited[:2]) == {429} and len(kept.ids) == ROUNDS,
    )
