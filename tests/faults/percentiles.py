"""The p99 of what a fault does not concern, as a multiple of what it was before: with an interval, and without the
moments in which the machine itself had nothing left.

A p99 is made of a handful of requests, and slow ones come together: it is rough, and a ratio of two is rougher.
"""

from __future__ import annotations

import random
import statistics
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from tests.faults.busyness import BLOCK_S
from tests.faults.course import Course

BUSY = 0.95
"""Of all processors' time in a block. Then who waits, waits for the machine: on two cores, whatever is started or
repaired takes its time from those that are not concerned.
"""
FEWEST = 8
"""Blocks, before and during. Fewer decide nothing. Blocks are drawn whole: requests that were due together share their
luck.
"""
DRAWN = 400
_ENDS = 0.05, 0.95


@dataclass(frozen=True, kw_only=True)
class Ratio:
    """How many times the p99 before a p99 is.

    Attributes:
        median: over the rounds.
        low, high: where it lies at 90 %; None: too few blocks say anything.
        left_out: the part of blocks in which the machine was busy.
    """

    median: float
    low: float | None
    high: float | None
    left_out: float

    def at_most(self, limit: float) -> bool | None:
        """Whether it is; None if that cannot be said."""
        if self.low is None or self.high is None:
            return None
        return True if self.high <= limit else False if self.low > limit else None

    def __str__(self) -> str:
        ends = "too few seconds to say" if self.low is None else f"{self.low:.2f} to {self.high:.2f}"
        busy = f"; {self.left_out:.0%} of the time no processor was free, and is left out" if self.left_out else ""
        return f"{self.median:.2f} times ({ends}){busy}"


def p99(took_s: Sequence[float]) -> float:
    """The 99th percentile."""
    return sorted(took_s)[max(0, -(-len(took_s) * 99 // 100) - 1)]


def ratio(courses: Sequence[Course], kinds: Collection[str]) -> Ratio | None:
    """The p99 of those kinds while the fault lasts, of that before it; None if nothing was asked in one of both."""
    whole = [_blocks(course, kinds) for course in courses]
    left_out = statistics.mean(share for _, _, share in whole)
    rounds = [(before, met) for before, met, _ in whole if before and met]
    if not rounds:
        return None
    median = statistics.median(_of(before, met) for before, met in rounds)
    if any(sum(map(len, side)) < FEWEST for side in zip(*rounds, strict=True)):
        return Ratio(median=median, low=None, high=None, left_out=left_out)
    dice = random.Random(1)
    drawn = sorted(
        statistics.median(
            _of(dice.choices(before, k=len(before)), dice.choices(met, k=len(met)))
            for before, met in dice.choices(rounds, k=len(rounds))
        )
        for _ in range(DRAWN)
    )
    low, high = (drawn[int(end * DRAWN)] for end in _ENDS)
    return Ratio(median=median, low=low, high=high, left_out=left_out)


def _of(before: Sequence[Sequence[float]], met: Sequence[Sequence[float]]) -> float:
    return p99([took_s for block in met for took_s in block]) / p99([took_s for block in before for took_s in block])


def _blocks(course: Course, kinds: Collection[str]) -> tuple[list[list[float]], list[list[float]], float]:
    """Times before and during the fault, in blocks; and the part of blocks that was left out."""
    before: dict[int, list[float]] = {}
    met: dict[int, list[float]] = {}
    left_out: set[int] = set()
    for one in course.requests:
        if one.kind not in kinds:
            continue
        block = int(one.due_s / BLOCK_S)
        if one.ended_s < course.cut_s:
            side = before
        elif course.lasts(one.due_s):
            side = met
        else:
            continue
        if course.busy.get(block, 0.0) > BUSY:
            left_out.add(block)
        else:
            side.setdefault(block, []).append(one.took_s)
    share = len(left_out) / max(1, len(left_out) + len(before) + len(met))
    return list(before.values()), list(met.values()), share
