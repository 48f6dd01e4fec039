"""Where a ramp bends: from there on, more users get no more answers, or wait too long for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from loadtest.slo import Limits

LEAST_GAIN = 0.5
"""Of the growth that as many more users would bring if nothing were full. Half is far from noise and from a queue."""


@dataclass(frozen=True)
class Step:
    """What was seen while there were `users`, after they had all come."""

    users: int
    per_second: float
    p99_ms: float
    error_rate: float

    def __str__(self) -> str:
        failed = f", {100 * self.error_rate:.2f} % failed" if self.error_rate else ""
        return f"{self.users} users, {self.per_second:.1f} requests/s, p99 {self.p99_ms:.0f} ms{failed}"


@dataclass(frozen=True)
class Knee:
    """`last` is the last step that was well, None if the first was not; `why` says what the next one did."""

    last: Step | None
    why: str

    def __str__(self) -> str:
        return f"knee: {self.last}; then {self.why}" if self.last else f"knee: below the first step: {self.why}"


def find(steps: Sequence[Step], limits: Limits) -> Knee | None:
    """The knee, or None if every step was well.

    Args:
        steps: with ever more users.
        limits: those of all requests; what is not limited cannot end a ramp.
    """
    for number, step in enumerate(steps):
        before = steps[number - 1] if number else None
        if why := _beyond(step, limits) or (before and _flat(before, step)):
            return Knee(before, why)
    return None


def _beyond(step: Step, limits: Limits) -> str:
    if limits.error_rate is not None and step.error_rate > limits.error_rate:
        return f"{100 * step.error_rate:.2f} % failed at {step.users} users (at most {100 * limits.error_rate:g} %)"
    if limits.p99_ms is not None and step.p99_ms > limits.p99_ms:
        return f"p99 was {step.p99_ms:.0f} ms at {step.users} users (at most {limits.p99_ms:g} ms)"
    return ""


def _flat(before: Step, step: Step) -> str:
    """Users grew by a share; so should the rate, or half as much."""
    grown = step.users / before.users - 1
    gained = step.per_second / before.per_second - 1 if before.per_second else grown
    if gained >= LEAST_GAIN * grown:
        return ""
    return f"{100 * grown:.0f} % more users ({step.users}) brought {100 * gained:.0f} % more requests"
