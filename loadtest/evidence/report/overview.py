"""What page and terminal say before the details: how many claims hold, and how far the machine can be believed."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, get_args

from loadtest.evidence.record import Verdict

SYMBOLS: dict[str, str] = {
    "holds": "✓",
    "does not hold": "✗",
    "too noisy to say": "≈",
    "too few rounds": "…",
    "not measured": "–",
}
"""Beside the word and the colour, never instead of the word."""
VERDICTS: tuple[str, ...] = get_args(Verdict)
_SPREAD_AT_MOST = 0.1
"""As in the bench: rounds that differ by more say something about the machine."""


@dataclass(frozen=True, kw_only=True)
class Noise:
    """How quiet the machine was.

    Attributes:
        spread: highest less lowest round, as a part of the median: of the claim in the middle. None: no rounds.
        widest: the same of the worst claim.
        void_rounds: rounds that were left out of claims.
        loads: recorded loads that say whether they were void.
        void_loads: those that were.
        noisy: claims without a verdict as their rounds differ too much, or were void.
        few: claims without one as there were too few rounds, as in a quick run.
    """

    spread: float | None
    widest: float | None
    void_rounds: int
    loads: int
    void_loads: int
    noisy: int
    few: int

    @property
    def quiet(self) -> bool:
        """Whether the claim in the middle has no more spread than a quiet machine gives."""
        return self.spread is not None and self.spread <= _SPREAD_AT_MOST


def claims_of(record: Mapping[str, Any]) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Every claim with its part."""
    for part in record["parts"]:
        for claim in part["claims"]:
            yield part, claim


def counts(record: Mapping[str, Any]) -> dict[str, int]:
    """How many claims have each verdict, those with none included."""
    found = Counter(claim["verdict"] for _, claim in claims_of(record))
    return {verdict: found[verdict] for verdict in VERDICTS}


def noise(record: Mapping[str, Any]) -> Noise:
    """From the spread of rounds and from what loads say of themselves."""
    spreads = [
        (max(values) - min(values)) / abs(statistics.median(values))
        for values in (claim["values"] for _, claim in claims_of(record))
        if len(values) > 1 and statistics.median(values)
    ]
    loads = [void for part in record["parts"] for void in _voids(part["runs"])]
    verdicts = counts(record)
    return Noise(
        spread=statistics.median(spreads) if spreads else None,
        widest=max(spreads, default=None),
        void_rounds=sum(len(claim["void"]) for _, claim in claims_of(record)),
        loads=len(loads),
        void_loads=sum(1 for void in loads if void),
        noisy=verdicts["too noisy to say"],
        few=verdicts["too few rounds"],
    )


def reasons(void: Sequence[str]) -> list[str]:
    """Why rounds were left out, each reason once, with how often it came."""
    return [f"{reason} ({times} rounds)" if times > 1 else reason for reason, times in Counter(void).items()]


def duration(seconds: float) -> str:
    """`14 min 3 s`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _voids(value: Any) -> Iterator[str]:
    """What every load somewhere in the raw data says of being void: "" if it was not (Outcome.record has it)."""
    if isinstance(value, Mapping):
        if isinstance(value.get("void"), str):
            yield value["void"]
        for each in value.values():
            yield from _voids(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _voids(each)
