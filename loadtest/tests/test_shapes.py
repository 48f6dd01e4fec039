"""How many users there are and when; what is read from response times; where a ramp bends."""

from __future__ import annotations

import pytest

from loadtest.histogram import minus, percentile
from loadtest.knee import Knee, Step, find
from loadtest.shapes import SHAPES, Shape, spawn_rate
from loadtest.slo import Limits

LIMITS = Limits(p99_ms=500, error_rate=0.001)


def users(shape: Shape, *, peak_users: int = 100, seconds: int = 100) -> list[int | None]:
    """The users of each second, and of the one after the end."""
    return [shape.users_at(second, peak_users=peak_users, seconds=seconds) for second in range(seconds + 1)]


def test_there_are_five_shapes() -> None:
    """Each has a time of its own, reaches its peak, always has users, and ends when its time is over."""
    assert set(SHAPES) == {"smoke", "ramp", "soak", "spike", "stress"}
    for shape in SHAPES.values():
        assert sum(share for share, _ in shape.stages) == pytest.approx(1)
        *during, after = users(shape)
        assert after is None
        assert max(filter(None, during)) == 100
        assert all(during)


def test_a_shape_goes_by_its_shares() -> None:
    """Peak and time are whatever is asked for."""
    shape = Shape("", 10, 10, ((0.5, 0.2), (0.5, 1.0)))
    assert users(shape, peak_users=50, seconds=4) == [10, 10, 50, 50, None]
    assert users(shape, peak_users=1, seconds=4) == [1, 1, 1, 1, None]


def test_smoke_and_soak_are_steady() -> None:
    """They differ in how long they take."""
    assert set(users(SHAPES["smoke"])) == set(users(SHAPES["soak"])) == {100, None}
    assert SHAPES["smoke"].seconds == 60
    assert SHAPES["soak"].seconds >= 1800


def test_a_ramp_only_climbs() -> None:
    """In even steps; it alone ends where throughput does."""
    during = list(filter(None, users(SHAPES["ramp"])))
    assert during == sorted(during)
    assert len(set(during)) == 12
    assert [name for name, shape in SHAPES.items() if shape.seeks_knee] == ["ramp"]


def test_spike_and_stress_come_back() -> None:
    """The end shows whether all is as it was before."""
    for name in ("spike", "stress"):
        during = list(filter(None, users(SHAPES[name])))
        assert during[0] == during[-1] < max(during) / 4


def test_what_goes_beyond_the_limits_is_not_judged_by_them() -> None:
    """Ramp and stress are there to break limits; the others are promises."""
    assert {name for name, shape in SHAPES.items() if not shape.judged} == {"ramp", "stress"}


def test_users_come_within_seconds() -> None:
    """Few at once for few, and never more than locust advises."""
    assert [spawn_rate(peak) for peak in (1, 100, 10_000)] == [5, 25, 100]


def test_a_percentile_is_the_time_that_so_many_did_not_exceed() -> None:
    """Of counted times; of none it is 0."""
    times_ms = {1: 50, 2: 45, 30: 4, 400: 1}
    assert [percentile(times_ms, percent) for percent in (50, 50.1, 95, 99, 99.5, 100)] == [1, 2, 2, 30, 400, 400]
    assert percentile({}, 99) == 0
    assert percentile({7: 0}, 99) == 0


def test_what_came_between_two_looks() -> None:
    """Old times do not count for a step of a ramp, however many they are."""
    assert percentile(minus({1: 1000, 90: 10}, {1: 1000}), 50) == 90


def step(number: int, per_second: float, *, p99_ms: float = 20, error_rate: float = 0) -> Step:
    """A step of a ramp."""
    return Step(number, per_second, p99_ms, error_rate)


def test_a_ramp_without_a_bend_has_no_knee() -> None:
    """As many more answers as users, or a little fewer, is no bend; nor is nothing."""
    assert find([step(100, 50), step(200, 100), step(300, 140), step(400, 190)], LIMITS) is None
    assert find([], LIMITS) is None


def test_the_knee_is_the_last_step_before_throughput_stands_still() -> None:
    """Twice the users that bring 2 % more answers wait in a queue."""
    steps = [step(100, 50), step(200, 98), step(400, 100), step(800, 90)]
    assert find(steps, LIMITS) == Knee(steps[1], "100 % more users (400) brought 2 % more requests")


def test_the_knee_is_the_last_step_that_keeps_its_limits() -> None:
    """Also while throughput still grows."""
    slow = [step(100, 50), step(200, 98, p99_ms=501)]
    assert find(slow, LIMITS) == Knee(slow[0], "p99 was 501 ms at 200 users (at most 500 ms)")
    failed = [step(100, 50), step(200, 98, error_rate=0.02)]
    assert find(failed, LIMITS) == Knee(failed[0], "2.00 % failed at 200 users (at most 0.1 %)")


def test_a_first_step_beyond_the_limits_says_so() -> None:
    """There is no figure to give then."""
    knee = find([step(100, 50, p99_ms=900)], LIMITS)
    assert str(knee) == "knee: below the first step: p99 was 900 ms at 100 users (at most 500 ms)"


def test_no_limit_ends_no_ramp() -> None:
    """Without limits a ramp goes on to where throughput stands still."""
    assert find([step(100, 50), step(200, 98, p99_ms=9000, error_rate=0.5)], Limits()) is None
