"""The self-test: a storefront that breaks its promises does not pass."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest

from chassis.testing import wait_until
from tests.faults.course import ROUNDS
from tests.faults.history import History, check_member
from tests.faults.judge import prove
from tests.faults.stage import DEADLINE_S, Program, Stage
from tests.faults.traffic import KINDS, Request

pytestmark = pytest.mark.faults

NAME = "sabotage"


class Verdicts:
    """Takes the place of the fixture `promise`: what was said, and does not fail."""

    def __init__(self) -> None:
        self.holds: dict[str, bool | None] = {}
        self.measured: dict[str, str] = {}

    def __call__(self, fault: str, promise: str, measured: object, *, holds: bool | None) -> None:
        assert fault == NAME
        self.holds[promise] = holds
        self.measured[promise] = str(measured)

    def of(self, part: str) -> bool | None:
        """The verdict on the promise that has `part` in it."""
        (found,) = [promise for promise in self.holds if part in promise]
        return self.holds[found]


def _delete_next(stage: Stage, service: str, table: str) -> None:
    """Delete the next row that is made."""
    newest = f"SELECT max(id) FROM {table}"
    ((before,),) = stage.query(service, newest)
    ((made,),) = wait_until(lambda: [row for row in stage.query(service, newest) if row[0] > before])
    stage.query(service, f"DELETE FROM {table} WHERE id = %s", made)


@contextmanager
def forged(stage: Stage) -> Iterator[None]:
    """Rows are gone, are there that nobody asked for, and are as they were before: behind the services' backs."""
    for service, table in (("user", "users"), ("links", "links"), ("gateway", "routes")):
        _delete_next(stage, service, table)
    stage.query("user", "UPDATE users SET version = version + 100 WHERE id = %s", stage.members[1])
    yield
    stage.query("user", "UPDATE users SET full_name = 'as it was', version = 1 WHERE id = %s", stage.members[0])
    stage.query("links", "UPDATE links SET clicks = clicks + 100 WHERE code = %s", stage.codes[0])


@contextmanager
def hung(gateway: Program) -> Iterator[None]:
    """The gateway itself stands still for longer than any deadline, and has another worker afterwards."""
    workers = [psutil.Process(pid) for pid in gateway.process.workers]
    for worker in workers:
        worker.suspend()
    try:
        yield
    finally:
        for worker in workers:
            worker.resume()
    gateway.process.signal(signal.SIGTTIN)
    wait_until(lambda: len(gateway.process.workers) == len(workers) + 1)


def test_what_is_lost_doubled_or_undone_is_found(stage: Stage) -> None:
    """Rows are forged while the services do nothing wrong."""
    verdicts = Verdicts()
    before = stage.query("user", "SELECT id, version FROM users WHERE id = ANY (%s)", stage.members)
    (course,) = prove(
        stage, verdicts, NAME, lambda: forged(stage), seconds=0.5, back_s=0.0, unaffected=KINDS
    )[:1]  # fmt: skip
    assert verdicts.of("no acknowledged write") is False, verdicts.measured
    found = course.history
    assert [line.split()[0] for line in found.lost] == ["sign-up", "shorten", "route", "change"], found.lost
    assert any("member" in line for line in found.doubled), found.doubled
    assert verdicts.of("no read says") is False, verdicts.measured
    assert verdicts.of("every click") is False, verdicts.measured
    assert verdicts.of(": go on") is True, verdicts.measured
    for member, version in before:  # no change may take a member back to a version that it had
        stage.query("user", "UPDATE users SET version = %s WHERE id = %s", version + 1000, member)


def test_what_hangs_and_what_is_left_over_is_found(stage: Stage) -> None:
    """The gateway hangs and grows."""
    verdicts = Verdicts()
    try:
        prove(
            stage,
            verdicts,
            NAME,
            lambda: hung(stage.gateway),
            seconds=DEADLINE_S + 1.5,
            back_s=0.0,
            unaffected=["follow"],
        )
    finally:
        for more in reversed(range(ROUNDS)):
            stage.gateway.process.signal(signal.SIGTTOU)
            wait_until(lambda more=more: len(stage.gateway.process.workers) == 2 + more, timeout_s=60)  # type: ignore[misc]
    assert verdicts.of("no request takes longer") is False, verdicts.measured
    assert verdicts.of("left over") is False, verdicts.measured


def change(number: int, due_s: float, status: int) -> Request:
    """A change of the first member that takes a second."""
    return Request(due_s, b"", number=number, kind="change", subject="1", status=status, ended_s=due_s + 1)


@pytest.mark.parametrize(
    ("last", "undone"),
    [
        (0, ["change 2 of member 1 by the older 0"]),
        (1, []),  # was not acknowledged: nobody can tell when it took effect
        (2, []),
        (3, []),  # was under way with the one before it
    ],
)
def test_an_older_change_must_not_win(last: int, undone: list[str]) -> None:
    """Of acknowledged changes the last one is there, or one that was under way with it."""
    changes = [change(0, 0, 200), change(1, 2, 503), change(2, 4, 200), change(3, 4.5, 200)]
    found = History()
    check_member("1", changes[: last + 1] if last == 3 else changes[:3], times=3, last=changes[last], found=found)
    assert (found.undone, found.lost, found.doubled) == (undone, [], [])
