"""The course of a fault: calm traffic, the fault, its end, calm again; then what it did to data and processes."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from chassis.testing.calls import metric
from tests.faults import history, leaks
from tests.faults.busyness import Busyness
from tests.faults.history import History
from tests.faults.stage import Stage
from tests.faults.traffic import Request, Traffic

LONG = bool(os.environ.get("LONG"))
"""Whether this is the long form: faults as long as the issue says, several times, and percentiles are judged."""
ROUNDS = int(os.environ.get("ROUNDS") or 3) if LONG else 1
CALM_S = 15.0 if LONG else 1.0
AFTER_S = 1.0
"""Of traffic, beyond the time in which everything must be back."""
SURE_S = 0.5
"""After everybody has said that all is well, it is: in the short form, which has no time to wait any longer."""
BUSY_MACHINE_S = 0.75
"""What a machine may add that runs all of this, its load and other tests on two cores. In `services/*/tests`, where
one service alone is tested against the same promises, it is 0.25 s.
"""
P99_RATIO = 1.2
MOMENT_S = 0.1
"""A fault that lasts no longer is over when it is done."""
FALLBACK_S = 5.0
"""In which the catalogue, which has a file to answer from, must have found its database again."""
PER_SECOND = 150.0 if LONG else 100.0
"""Requests. What they leave of the processors is for what is cut, and for what it costs."""


@dataclass(frozen=True)
class Course:
    """What happened. Moments are monotonic.

    Attributes:
        requests: all that were sent, from the first calm second to the last.
        cut_s, struck_s: just before and just after it was done.
        lifted_s: just before its end was begun.
        ended_s: when its cause had ended: PostgreSQL accepts connections again.
        healthy_s: how long after that each program said of itself that it is entirely well; inf: it did not.
        back_s: in which everything must be as before.
        until_s: from then on everything had to be: that time was over, or (in the short form) all had said it is.
        cache_losses: how often an instance of links had lost Valkey, be it for a moment.
        sent_again: how often the gateway asked links once more, as there was no answer: both may have been asked.
        busy: how busy the machine was, by block (busyness.BLOCK_S).
        history, leaks: what was found afterwards.
        void: why times say little here.
    """

    requests: Sequence[Request]
    cut_s: float
    struck_s: float
    lifted_s: float
    ended_s: float
    healthy_s: Mapping[str, float]
    back_s: float
    until_s: float
    cache_losses: int
    sent_again: int
    busy: Mapping[int, float]
    history: History
    leaks: Sequence[str]
    void: str

    def during(self, kinds: Collection[str]) -> list[Request]:
        """Requests of these kinds that the fault, or its end, may have met: that were under way then, or began before
        everything had to be back.
        """
        return [
            one for one in self.requests if one.kind in kinds and one.ended_s >= self.cut_s and one.due_s < self.until_s
        ]

    def calm(self, kinds: Collection[str]) -> list[Request]:
        """Requests of these kinds that were answered before the fault, or began after everything had to be back."""
        met = set(self.during(kinds))
        return [one for one in self.requests if one.kind in kinds and one not in met]

    def lasts(self, moment_s: float) -> bool:
        """Whether it was in effect then. What it takes to do and to undo it does not count: a hundred connections are
        opened, or PostgreSQL recovers, on the cores that all share. Unless that is all there is of it, as in a restart.
        """
        if self.lifted_s - self.struck_s < MOMENT_S:
            return self.cut_s <= moment_s < self.ended_s
        return self.struck_s <= moment_s < self.lifted_s

    def back_after_s(self, kinds: Collection[str]) -> float:
        """How long after the end of its cause the last request of these kinds was due that failed."""
        failed = [one.due_s for one in self.requests if one.kind in kinds and not one.fine]
        return max(0.0, max(failed, default=0.0) - self.ended_s)


def under_fault(
    stage: Stage,
    fault: AbstractContextManager[object],
    *,
    seconds: float,
    back_s: float,
    per_second: float = PER_SECOND,
    seed: int = 1,
) -> Course:
    """Let traffic flow, and enter `fault` for `seconds`; it has ended when it is left. Then traffic flows on until
    everything must be back, and what was written and what is left over is looked at.

    Args:
        back_s: how long after its end everything must be as before.
    """
    stage.wait_whole()
    before, stored = leaks.census(stage), history.now(stage)
    losses, again = _cache_losses(stage), _sent_again(stage)
    with Busyness() as busyness, Traffic(stage, per_second=per_second, seed=seed) as traffic:
        time.sleep(CALM_S)  # the length of a phase, not a wait for anything
        cut_s = time.monotonic()
        with fault:
            struck_s = time.monotonic()
            time.sleep(seconds)
            lifted_s = time.monotonic()
        ended_s = time.monotonic()
        healthy_s = _wait_healthy(stage, ended_s, ended_s + max(back_s, FALLBACK_S) + BUSY_MACHINE_S)
        until_s = ended_s + back_s + BUSY_MACHINE_S
        if not LONG:
            until_s = min(until_s, ended_s + max(healthy_s.values()) + SURE_S)
        time.sleep(max(0.0, until_s + AFTER_S - time.monotonic()))
    stage.wait_whole()
    return Course(
        requests=[one for one in traffic.requests if one.status is not None],
        cut_s=cut_s,
        struck_s=struck_s,
        lifted_s=lifted_s,
        ended_s=ended_s,
        healthy_s=healthy_s,
        back_s=back_s,
        until_s=until_s,
        cache_losses=_cache_losses(stage) - losses,
        sent_again=_sent_again(stage) - again,
        busy=busyness.blocks,
        history=history.check(stage, traffic, stored),
        leaks=leaks.leaks(stage, before),
        void=traffic.void,
    )


def _cache_losses(stage: Stage) -> int:
    """How often the instances of links have said so. What one said before it was started anew does not count."""
    return sum("Cache is unavailable" in line for one in stage.instances["links"] for line in one.process.lines)


def _sent_again(stage: Stage) -> int:
    """How often the gateway has asked links again. One that was started anew has forgotten it."""
    return int(metric(stage.gateway.process, 'gateway_retries_total{outcome="answered",upstream="links"}'))


def _wait_healthy(stage: Stage, ended_s: float, give_up_s: float) -> dict[str, float]:
    """When each program was first entirely well, after `ended_s`; returns once all are, or it is too late."""
    found = dict.fromkeys((program.name for program in stage.programs), math.inf)
    while math.inf in found.values() and time.monotonic() < give_up_s:
        ailing = stage.ailing()
        for name in found:
            if found[name] == math.inf and not ailing[name]:
                found[name] = time.monotonic() - ended_s
        time.sleep(0.05)
    return found
