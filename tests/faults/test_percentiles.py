"""What is said of a p99, and when nothing is."""

from __future__ import annotations

import os
import random
import time
from collections.abc import Mapping
from dataclasses import replace

import pytest

from chassis.testing import wait_until
from tests.faults.busyness import BLOCK_S, Busyness
from tests.faults.course import Course
from tests.faults.history import History
from tests.faults.percentiles import p99, ratio
from tests.faults.traffic import Request

pytestmark = pytest.mark.faults

CUT_S, ENDED_S = 15.0, 25.0


def course(*, times: float, ended_s: float = ENDED_S, busy: Mapping[int, float] | None = None, seed: int = 1) -> Course:
    """Fifty requests a second of some 10 ms, and `times` that during a fault from CUT_S on."""
    dice, due_s, requests = random.Random(seed), 0.0, []
    while due_s < ended_s:
        took_s = dice.lognormvariate(0, 0.3) * 0.01 * (times if due_s >= CUT_S else 1)
        requests.append(Request(due_s, b"", kind="user", status=200, ended_s=due_s + took_s))
        due_s += 0.02
    return Course(
        requests=requests, cut_s=CUT_S, struck_s=CUT_S, lifted_s=ended_s, ended_s=ended_s, healthy_s={}, back_s=0,
        until_s=ended_s, cache_losses=0, sent_again=0, busy=busy or {}, history=History(), leaks=[], void="",
    )  # fmt: skip


def test_a_p99_is_the_greatest_of_all_but_one_in_a_hundred() -> None:
    """Of 100 it is the last but one; of a few it is the greatest."""
    assert p99([number / 1 for number in range(1, 101)]) == 99
    assert p99([3.0, 1.0, 2.0]) == 3.0


@pytest.mark.parametrize(("times", "holds"), [(0.8, True), (2.0, False), (1.2, None)])
def test_a_verdict_wants_the_whole_interval_on_one_side(times: float, holds: bool | None) -> None:
    """As fast as before: it holds. Twice as slow: it does not. On the limit: nobody can say."""
    found = ratio([course(times=times, seed=seed) for seed in (1, 2, 3)], ["user"])
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    assert found.low < times < found.high
    assert found.at_most(1.2) is holds


def test_a_moment_decides_nothing() -> None:
    """A fault of a second is not long enough for a p99."""
    found = ratio([course(times=5, ended_s=CUT_S + 1) for _ in range(3)], ["user"])
    assert found is not None
    assert found.median > 2
    assert found.at_most(1.2) is None


def test_what_it_takes_to_do_it_and_to_undo_it_is_left_out() -> None:
    """A second of each, in which all is slow: nothing is said of it, unless there is nothing else."""
    strike_s, lift_s = CUT_S + 1, ENDED_S - 1

    def around(course: Course, struck_s: float, lifted_s: float) -> Course:
        def slower(one: Request) -> Request:
            calm = one.due_s < CUT_S or struck_s <= one.due_s < lifted_s
            return replace(one, ended_s=one.due_s + one.took_s * (1 if calm else 9))

        requests = [slower(one) for one in course.requests]
        return replace(course, requests=requests, struck_s=struck_s, lifted_s=lifted_s)

    lasting = ratio([around(course(times=0.8, seed=seed), strike_s, lift_s) for seed in (1, 2, 3)], ["user"])
    assert lasting is not None
    assert lasting.at_most(1.2) is True
    brief = ratio([around(course(times=1, seed=seed), ENDED_S, ENDED_S) for seed in (1, 2, 3)], ["user"])
    assert brief is not None
    assert brief.at_most(1.2) is False


def test_what_the_machine_did_is_left_out() -> None:
    """Where no processor was free, times say nothing; and it is said for how long that was."""
    all_of_it = range(int(CUT_S / BLOCK_S), int(ENDED_S / BLOCK_S))
    assert ratio([course(times=3, busy=dict.fromkeys(all_of_it, 1.0))], ["user"]) is None
    found = ratio([course(times=3, busy={all_of_it[0]: 1.0}), course(times=3)], ["user"])
    assert found is not None
    assert found.at_most(1.2) is False
    assert "1% of the time no processor was free" in str(found)


def test_a_busy_machine_is_seen() -> None:
    """One processor that does nothing but this."""

    def seen() -> bool:
        end_s = time.monotonic() + 3 * BLOCK_S
        with Busyness() as busyness:
            while time.monotonic() < end_s:
                pass
        one = 1 / (os.cpu_count() or 1)
        return bool(busyness.blocks) and all(one / 2 < part <= 1 for part in busyness.blocks.values())

    wait_until(seen, timeout_s=20)
