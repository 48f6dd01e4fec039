"""How many users there are, and when. Nothing here knows locust."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Shape:
    """How load goes over time.

    Attributes:
        stages: (share of the time, share of the peak) of each, in order; the shares of the time make 1.
        peak_users, seconds: unless `--users` and `--run-time` say otherwise.
        judged: whether slo.yml decides the exit code. Ramp and stress go beyond what it promises, to see where and how.
        seeks_knee: whether it ends where throughput does.
    """

    meaning: str
    peak_users: int
    seconds: float
    stages: tuple[tuple[float, float], ...]
    judged: bool = True
    seeks_knee: bool = False

    def users_at(self, elapsed_s: float, *, peak_users: int, seconds: float) -> int | None:
        """How many users there should be, at least one; None when it is over."""
        number = self.stage_at(elapsed_s, seconds=seconds)
        return None if number is None else max(1, round(self.stages[number][1] * peak_users))

    def stage_at(self, elapsed_s: float, *, seconds: float) -> int | None:
        """The number of the stage, from 0; None when it is over."""
        end_s = 0.0
        for number, (share, _) in enumerate(self.stages):
            end_s += share * seconds
            if elapsed_s < end_s:
                return number
        return None


def spawn_rate(peak_users: int) -> float:
    """Users that come or go a second: a step is there after a few seconds; locust advises against more than 100."""
    return float(min(100, max(5, peak_users // 4)))


RAMP_STEPS = 12

SHAPES = {
    "smoke": Shape("an ordinary minute", 100, 60, ((1.0, 1.0),)),
    "ramp": Shape(
        "ever more, to the knee",
        960,
        240,
        tuple((1 / RAMP_STEPS, step / RAMP_STEPS) for step in range(1, RAMP_STEPS + 1)),
        judged=False,
        seeks_knee=True,
    ),
    "soak": Shape("an ordinary half hour: what leaks or fills up", 100, 1800, ((1.0, 1.0),)),
    "spike": Shape("five times as many for a while, and back", 250, 120, ((0.4, 0.2), (0.2, 1.0), (0.4, 0.2))),
    "stress": Shape(
        "far beyond the knee, and back: is it well again?",
        2000,
        180,
        ((0.15, 0.05), (0.15, 0.25), (0.2, 0.5), (0.25, 1.0), (0.25, 0.05)),
        judged=False,
    ),
}
"""By the name that `--shape` takes."""
