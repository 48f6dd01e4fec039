"""One of two instances of a service dies, hangs, lacks memory, is slow, talks nonsense, breaks off: the other is there.

Whoever was just talking to it gets 503 or 504; the gateway leaves it alone, and takes it back when it is well.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from chassis.testing import CutProxy, Meanwhile
from tests.faults.course import FALLBACK_S, LONG
from tests.faults.judge import prove
from tests.faults.memory import limited
from tests.faults.signals import Signal, Watch
from tests.faults.stage import DEADLINE_S, Program, Stage
from tests.faults.traffic import KINDS
from tests.promises import Promise

pytestmark = pytest.mark.faults

SERVICES = ("user", "links", "catalogue") if LONG else ("user",)
ASKING = {
    "catalogue": ("product", "search"),
    "user": ("users", "user", "sign-up", "change"),
    "links": ("follow", "shorten"),
}
"""The kinds of requests that a service answers."""


@contextmanager
def killed(program: Program) -> Iterator[None]:
    """kill -9 of master and workers, and a start."""
    program.kill()
    yield
    program.start()


@contextmanager
def paused(program: Program) -> Iterator[None]:
    """SIGSTOP of all of it: connections are accepted by the kernel, nobody answers."""
    processes = program.processes
    for process in processes:
        process.suspend()
    yield
    for process in reversed(processes):
        process.resume()


@contextmanager
def without_memory(program: Program, ways: set[str]) -> Iterator[None]:
    """Each worker in turn is killed for its memory, a moment after it has begun to answer."""

    def kill_each(ending: threading.Event) -> None:
        with limited() as hit:
            while not ending.wait(0.5):
                program.process.wait_alive()
                for pid in program.process.workers:
                    ways.add(hit(pid))

    with Meanwhile(kill_each):
        yield
    program.process.wait_alive()


@contextmanager
def slow(wire: CutProxy) -> Iterator[None]:
    """No answer before the deadline."""
    wire.delay(2 * DEADLINE_S)
    yield
    wire.heal()


@contextmanager
def talking_nonsense(wire: CutProxy) -> Iterator[None]:
    """It does what it is asked, and what it answers is no HTTP."""
    wire.garble()
    yield
    wire.heal()


@contextmanager
def breaking_off(wire: CutProxy) -> Iterator[None]:
    """It does what it is asked, and resets the connection in the middle of the body."""
    wire.break_off()
    yield
    wire.heal()


def left_alone(program: Program, *more: str) -> Signal:
    """What tells that the gateway leaves an instance alone."""
    address = program.url.removeprefix("http://")
    return Signal(
        metric=f'gateway_breaker_open{{exported_instance="{address}"}} == 1',
        log=("gateway", f"at {address} does not answer"),
        alerts=(f'UpstreamBreakerOpen{{exported_instance="{address}"}}', *more),
    )


def down(program: Program) -> str:
    """The alert that says that an instance is not there."""
    return f'TargetDown{{severity="warning",instance="127.0.0.1:{program.port}"}}'


def wire_of(program: Program) -> CutProxy:
    """The wire between it and the gateway."""
    assert program.wire is not None
    return program.wire


def check(
    stage: Stage,
    watch: Watch,
    promise: Promise,
    what: str,
    fault: Callable[[Program], AbstractContextManager[object]],
    signal: Callable[[Program], Signal],
    *,
    service: str,
    seconds: float,
) -> None:
    """Do something to the second instance of a service."""
    program = stage.instances[service][1]
    unaffected = [kind for kind in KINDS if kind not in ASKING[service]]
    prove(
        stage, promise, what, lambda: fault(program), watch=watch, signal=signal(program),
        seconds=seconds, back_s=FALLBACK_S, unaffected=unaffected,
    )  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_killed(stage: Stage, watch: Watch, promise: Promise, service: str) -> None:
    """kill -9, and a start."""
    check(
        stage, watch, promise, f"{service}, one of two: kill -9", killed,
        lambda program: left_alone(program, down(program)), service=service, seconds=10 if LONG else 1,
    )  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_paused(stage: Stage, watch: Watch, promise: Promise, service: str) -> None:
    """SIGSTOP: hung is worse than dead for two seconds, and no worse then."""
    check(
        stage, watch, promise, f"{service}, one of two: SIGSTOP", paused,
        lambda program: left_alone(program, down(program)), service=service, seconds=20 if LONG else 1,
    )  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_slow(stage: Stage, watch: Watch, promise: Promise, service: str) -> None:
    """Answers that come after the deadline are as good as none."""
    check(
        stage, watch, promise, f"{service}, one of two: answers after the deadline",
        lambda program: slow(wire_of(program)), left_alone, service=service, seconds=10 if LONG else 1,
    )  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_talking_nonsense(stage: Stage, watch: Watch, promise: Promise, service: str) -> None:
    """What was written although nobody could read the answer is not written again."""
    check(
        stage, watch, promise, f"{service}, one of two: garbage answers",
        lambda program: talking_nonsense(wire_of(program)), left_alone, service=service, seconds=10 if LONG else 1,
    )  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_breaking_off(stage: Stage, watch: Watch, promise: Promise, service: str) -> None:
    """Half an answer never passes for a whole one."""
    check(
        stage, watch, promise, f"{service}, one of two: resets in mid-body",
        lambda program: breaking_off(wire_of(program)), left_alone, service=service, seconds=10 if LONG else 1,
    )  # fmt: skip


@pytest.mark.parametrize("service", SERVICES)
def test_without_memory(stage: Stage, watch: Watch, promise: Promise, service: str) -> None:
    """Its workers are killed one after the other; the master brings new ones, and nobody but their clients notices."""
    ways: set[str] = set()
    name = f"{service}, one of two: memory limit hit"
    dying = Signal(
        metric=f'increase(app_workers_lost_total{{service="{service}"}}[4s]) > 0',
        log=(service, "was sent SIGKILL! Perhaps out of memory?"),
        alerts=(f'WorkersDying{{service="{service}"}}',),
    )
    check(
        stage, watch, promise, name, lambda program: without_memory(program, ways), lambda _: dying,
        service=service, seconds=10 if LONG else 1,
    )  # fmt: skip
    promise(name, "the limit is a real one", f"killed by {', '.join(ways)}", holds=None)
