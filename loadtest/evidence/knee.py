"""How much a server can be asked before its answers come late."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.openloop import Outcome

WITHIN_S = 0.1
"""What a person takes for at once (Nielsen, Usability Engineering, 1993)."""
IN_TIME = 99.0
"""Percent of the arrivals that have to be answered by then."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """One rate, and what came of it. `key` names the run."""

    key: str
    outcome: Outcome

    @property
    def rate(self) -> float:
        """Arrivals a second that were asked for."""
        return self.outcome.offered

    @property
    def counts(self) -> bool:
        """Whether it says something about the server."""
        return not self.outcome.void

    @property
    def in_time(self) -> bool:
        """Whether IN_TIME percent of all arrivals were answered, and within WITHIN_S."""
        failed = self.outcome.failed
        return failed <= self.outcome.count * (1 - IN_TIME / 100) and self.outcome.p(IN_TIME) <= WITHIN_S

    def p_ms(self, percent: float) -> float:
        """That percentile, of all arrivals, in milliseconds."""
        return self.outcome.p(percent) * 1000


def knee(steps: Sequence[Step]) -> float | None:
    """The highest rate up to which every step that counts is in time; None if the first one is not."""
    found = None
    for step in sorted(steps, key=lambda step: step.rate):
        if not step.counts:
            continue
        if not step.in_time:
            break
        found = step.rate
    return found
