"""How a growth is called, and when it is faster than the logarithm."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest

from loadtest.evidence.growth import Series, exponent, faster_than_log, word

SIZES = (10, 100, 1_000, 10_000, 100_000)


def points(cost: Callable[[int], float]) -> list[tuple[float, float]]:
    """A cost at every size."""
    return [(float(n), cost(n)) for n in SIZES]


@pytest.mark.parametrize(
    ("cost", "slope"),
    [(lambda _: 3.0, 0.0), (lambda n: 0.2 * n, 1.0), (lambda n: n**0.5, 0.5), (lambda n: 7 * n**2, 2.0)],
)
def test_the_exponent_is_the_slope_of_the_logarithms(cost: Callable[[int], float], slope: float) -> None:
    """Whatever the constant in front is; one point has none."""
    assert exponent(points(cost)) == pytest.approx(slope, abs=1e-9)
    assert exponent([(10.0, 2.0)]) == 0.0


@pytest.mark.parametrize(
    ("cost", "called"),
    [
        (lambda n: 1.0 + 0.04 * (n % 7), "flat"),
        (lambda n: 0.02 + 0.09 * (n > 10), "flat"),  # a tenth of a millisecond is no growth
        (lambda n: 0.5 * math.log(n), "like log n"),
        (lambda n: 1 + 0.3 * math.log(n), "like log n"),
        (lambda n: 1 + 0.1 * n**0.5, "like n^0.5"),
        (lambda n: 1 + 0.001 * n, "linear"),  # beside a constant, a line's slope is less than 1
        (lambda n: 0.1 + 0.0001 * n * math.log(n), "linear"),
        (lambda n: 1 + 1e-6 * n**2, "worse than linear"),
        (lambda n: 1 + 0.01 * min(n, 1000), "no more at the end"),
    ],
)
def test_a_growth_has_a_word(cost: Callable[[int], float], called: str) -> None:
    """By what comes on top of the cost at the smallest size."""
    assert word(points(cost)) == called


def test_what_the_logarithm_allows() -> None:
    """From 10 to 100,000 it grows five times; noise below a tenth of a millisecond is no growth at all."""
    assert faster_than_log(10, 1.0, 100_000, 5.0) == pytest.approx(1.0)
    assert faster_than_log(10, 1.0, 100_000, 10.0) == pytest.approx(2.0)
    assert faster_than_log(10, 0.01, 100_000, 0.1) == pytest.approx(0.2)


def series(last: list[float]) -> Series:
    """Five rounds at two sizes, of which the first costs a millisecond."""
    return Series(id="x", name="look-up", n="users", costs={10: [1.0] * 5, 1_000: last})


def test_a_series_makes_a_claim_that_can_be_wrong() -> None:
    """The logarithm allows three times; every round has to be on one side of that."""
    assert series([1.0, 1.2, 0.9, 2.0, 2.9]).claim().verdict == "holds"
    assert series([4.0, 5.0, 6.0, 5.0, 4.0]).claim().verdict == "does not hold"
    assert series([1.0, 5.0, 6.0, 5.0, 4.0]).claim().verdict == "too noisy to say"
    assert Series(id="x", name="look-up", n="users").claim().verdict == "not measured"


def test_a_machine_that_slows_down_is_no_growth() -> None:
    """What stays as it is has slowed down as well: costs are scaled by it, round by round."""
    slowed = series([3.0, 3.3, 6.0, 9.0, 12.0])
    slowed.p99 = {10: 2.0, 1_000: 12.0}
    slowed.beside = {10: [1.0] * 5, 1_000: [3.0, 3.0, 6.0, 9.0, 12.0]}
    slowed.scale()
    assert slowed.p99[1_000] == pytest.approx(slowed.p99[10])
    assert slowed.word == "flat"
    assert slowed.claim().verdict == "holds"
    assert [cost / slowed.costs[1_000][0] for cost in slowed.costs[1_000]] == pytest.approx([1, 1.1, 1, 1, 1])
