"""What a run of the evidence leaves behind: claims with their rounds, tables, pictures as data, and every raw run.

Each part of the evidence returns one Part; the report shows Parts and knows no part by name. All of it becomes JSON.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

Verdict = Literal["holds", "does not hold", "too noisy to say", "too few rounds", "not measured"]

CONFIDENCE = 0.9
"""That the true median lies within the interval on which a verdict rests. Five rounds reach 0.94 with all of them."""


@dataclass(frozen=True, kw_only=True)
class Claim:
    """A sentence that can be wrong.

    Attributes:
        id: `pooling`; unique over all parts.
        sentence: the claim, as a reader knows it.
        source: where it is made: the document, or `contract` for a demand of our own.
        measured: what was measured, in a sentence: before, after, load.
        wanted: the value from which on (`more`) or up to which (`less`) it holds.
        values: one a round, in the order of the rounds; rounds that were void are not among them.
        unit: "x" (times), "%" (values are fractions), "MiB" and the like.
        data: keys of `runs` of the same part.
        void: why rounds were left out, a sentence each.
        headline: whether the README has it although it holds; of those that do not hold it has every one.
    """

    id: str
    sentence: str
    source: str
    measured: str
    wanted: float
    values: Sequence[float]
    better: Literal["more", "less"] = "more"
    unit: str = "x"
    data: Sequence[str] = ()
    void: Sequence[str] = ()
    headline: bool = True

    @property
    def verdict(self) -> Verdict:
        """Decided only if the interval of the median lies on one side of what is wanted."""
        if not self.values:
            return "too noisy to say" if self.void else "not measured"
        interval = median_interval(self.values)
        if interval is None:
            return "too noisy to say" if self.void else "too few rounds"
        low, high = interval
        if self.better == "more":
            return "holds" if low >= self.wanted else "does not hold" if high < self.wanted else "too noisy to say"
        return "holds" if high <= self.wanted else "does not hold" if low > self.wanted else "too noisy to say"


@dataclass(frozen=True, kw_only=True)
class Line:
    """One line of a picture: points as (x, y), in order; `low` and `high` are the spread of y, if there is one."""

    name: str
    points: Sequence[tuple[float, float]]
    low: Sequence[float] = ()
    high: Sequence[float] = ()


@dataclass(frozen=True, kw_only=True)
class Curves:
    """A picture of lines. `marks`: vertical lines at x with a word."""

    id: str
    title: str
    x: str
    y: str
    lines: Sequence[Line]
    log_x: bool = False
    log_y: bool = False
    marks: Sequence[tuple[float, str]] = ()
    note: str = ""
    kind: Literal["curves"] = "curves"


@dataclass(frozen=True, kw_only=True)
class Bar:
    """One bar: the median of `values`, with their spread."""

    name: str
    values: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Bars:
    """A picture of bars."""

    id: str
    title: str
    unit: str
    bars: Sequence[Bar]
    log: bool = False
    note: str = ""
    kind: Literal["bars"] = "bars"


@dataclass(frozen=True, kw_only=True)
class Table:
    """Rows of cells: a float is shown with three significant digits, an int in full, None as a dash.

    `data`: a key of `runs` a row.
    """

    id: str
    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str | float | int | None]]
    data: Sequence[str] = ()
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Part:
    """What one part of the evidence found.

    Attributes:
        runs: raw data by key: what an Outcome or a load records, or whatever else was read, as JSON.
    """

    name: str
    title: str
    claims: Sequence[Claim] = ()
    tables: Sequence[Table] = ()
    pictures: Sequence[Curves | Bars] = ()
    runs: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """For the results file."""
        found = asdict(self)
        for claim, shown in zip(self.claims, found["claims"], strict=True):
            interval = median_interval(claim.values)
            shown["verdict"] = claim.verdict
            shown["median"] = statistics.median(claim.values) if claim.values else None
            shown["interval"] = list(interval) if interval else None
        return found


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Between which two of the values the true median lies, with CONFIDENCE at least; None: there are too few.

    By order statistics: of n independent rounds the number below the median is binomial, whatever their distribution.
    The narrowest pair, equally far from both ends, that is sure enough.
    """
    ordered, n = sorted(values), len(values)
    best = None
    outside = 0.0
    for k in range(n // 2):
        outside += 2 * math.comb(n, k) / 2**n
        if 1 - outside < CONFIDENCE:
            break
        best = (ordered[k], ordered[n - 1 - k])
    return best
