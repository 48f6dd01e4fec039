"""When a claim holds, when it does not, and when nobody can tell."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Literal

import pytest

from loadtest.evidence.record import Claim, Part, Verdict, median_interval


def claim(values: Sequence[float], *, better: Literal["more", "less"] = "more", void: Sequence[str] = ()) -> Claim:
    """A claim of ten."""
    return Claim(
        id="x", sentence="Ten times as fast", source="d", measured="m",
        wanted=10, values=values, better=better, void=void,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("values", "interval"),
    [
        ([], None),
        ([1, 2, 3], None),
        ([3, 1, 2, 5, 4], (1, 5)),
        ([1, 2, 3, 4, 5, 6, 7, 8], (2, 7)),
        ([9, 1, 2, 3, 4, 5, 6, 7, 8], (2, 8)),
        ([*range(1, 21)], (6, 15)),
    ],
)
def test_the_interval_of_a_median(values: list[float], interval: tuple[float, float] | None) -> None:
    """As tables of the sign test have it (n = 5: both ends, 93.75 %; n = 8: 2nd and 7th, 92.97 %; n = 20: 6th and 15th,
    95.86 %); fewer than five say nothing.
    """
    assert median_interval(values) == interval


@pytest.mark.parametrize(
    ("values", "better", "verdict"),
    [
        ([11, 12, 13, 14, 15], "more", "holds"),
        ([9, 12, 13, 14, 15], "more", "too noisy to say"),
        ([5, 6, 7, 8, 9.9], "more", "does not hold"),
        ([5, 6, 7, 8, 10], "less", "holds"),
        ([11, 12, 13, 14, 15], "less", "does not hold"),
        ([9, 12, 13, 14, 15], "less", "too noisy to say"),
        ([11, 12], "more", "too few rounds"),
    ],
)
def test_a_verdict_needs_every_doubt_on_one_side(
    values: list[float], better: Literal["more", "less"], verdict: Verdict
) -> None:
    """A median on the right side is not enough: the interval has to be there."""
    assert claim(values, better=better).verdict == verdict


def test_nothing_measured_is_no_verdict() -> None:
    """Neither is a run whose every round was void, which is noise."""
    assert claim([]).verdict == "not measured"
    assert claim([], void=["the generator used 90% of its core"]).verdict == "too noisy to say"


def test_the_record_is_json_with_the_verdicts() -> None:
    """What the report reads is what was judged."""
    part = Part(name="p", title="P", claims=[claim([11, 12, 13, 14, 15])], runs={"a": {"b": 1}})
    found = json.loads(json.dumps(part.record()))
    assert found["claims"][0] | {"verdict": "holds", "median": 13, "interval": [11, 15]} == found["claims"][0]
    assert found["runs"] == {"a": {"b": 1}}
