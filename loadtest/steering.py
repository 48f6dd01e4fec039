"""Lets locust follow a Shape, and looks at each step of a ramp. Imports locust, so no test may import this."""

from __future__ import annotations

import time
from dataclasses import dataclass

from locust import LoadTestShape
from locust.runners import Runner
from locust.stats import RequestStats

from loadtest.histogram import minus, percentile
from loadtest.knee import Knee, Step, find
from loadtest.shapes import Shape, spawn_rate
from loadtest.slo import Limits

SETTLING = 0.4
"""The share of a step in which users still come, and pools and caches get used to them. It is not measured."""


@dataclass(frozen=True)
class Look:
    """All that was asked until then."""

    at_s: float
    requests: int
    failures: int
    times_ms: dict[int, int]


def look(stats: RequestStats) -> Look:
    """The statistics at this moment; in a distributed run as the workers reported them, up to 3 s ago."""
    total = stats.total
    return Look(time.monotonic(), total.num_requests, total.num_failures, dict(total.response_times))


class Steering(LoadTestShape):
    """A Shape as locust asks for it. The locustfile makes it; `abstract` keeps locust from making another.

    Attributes:
        steps: of a ramp, those that were seen to their end.
        knee: where it bent.
    """

    abstract = True

    def __init__(
        self, shape: Shape, *, runner: Runner, peak_users: int | None, seconds: float | None, limits: Limits
    ) -> None:
        super().__init__()
        self.runner: Runner = runner
        self.shape = shape
        self.peak_users = peak_users or shape.peak_users
        self.seconds = seconds or shape.seconds
        self.limits = limits
        self.steps: list[Step] = []
        self.knee: Knee | None = None
        self._stage: int | None = None
        self._stage_began_s = 0.0
        self._settled: Look | None = None

    def tick(self) -> tuple[int, float] | None:
        """(users, users a second that come or go), or None at the end. Called about once a second."""
        elapsed_s = self.get_run_time()
        users = self.shape.users_at(elapsed_s, peak_users=self.peak_users, seconds=self.seconds)
        if self.shape.seeks_knee:
            self._watch(elapsed_s)
            if self.knee:
                return None
        return None if users is None else (users, spawn_rate(self.peak_users))

    def _watch(self, elapsed_s: float) -> None:
        """Measure the later part of each step, and judge the step at its end."""
        stage = self.shape.stage_at(elapsed_s, seconds=self.seconds)
        if stage != self._stage:
            if self._stage is not None and self._settled is not None:
                self.steps.append(self._step(self._settled, look(self.runner.stats)))
                self.knee = find(self.steps, self.limits)
            self._stage, self._stage_began_s, self._settled = stage, elapsed_s, None
        elif self._settled is None and stage is not None:
            share = self.shape.stages[stage][0]
            if elapsed_s - self._stage_began_s >= SETTLING * share * self.seconds:
                self._settled = look(self.runner.stats)

    def _step(self, begin: Look, end: Look) -> Step:
        requests = end.requests - begin.requests
        return Step(
            users=self.get_current_user_count(),
            per_second=requests / (end.at_s - begin.at_s),
            p99_ms=percentile(minus(end.times_ms, begin.times_ms), 99),
            error_rate=(end.failures - begin.failures) / requests if requests else 0.0,
        )
