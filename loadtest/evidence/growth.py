"""How a cost grows with n: the exponent, a word for it, and whether it grows faster than log n. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.evidence.record import Claim, Curves, Line

NOISE_MS = 0.1
"""A difference of less than this is none: two runs of the same differ by as much."""
FLAT_UP_TO = 1.5
"""A cost that is less than this many times the first, over the whole range, is called flat."""
END_BELOW, ROOT_BELOW, LINE_BELOW = 0.2, 0.75, 1.5
"""Exponents between the words."""
RULE = (
    "Judged by, round by round: the cost at the greatest size over that at the smallest, divided by the ratio of the "
    f"logarithms of the two sizes; up to 1 is no faster than log n. A difference below {NOISE_MS} ms counts as none."
)


@dataclass(kw_only=True)
class Series:
    """Costs of one kind of request at growing sizes.

    Attributes:
        id, name: `users-first`, which is also the key of its runs, "first page".
        n: what it grows with: "users".
        costs: by size, one a round, in milliseconds; sizes in growing order.
        p99: by size, over all rounds, in milliseconds.
        beside: by size, one a round, in milliseconds: the cost of the same at something that stays as it is.
        why: what explains it if it grows faster than log n.
        cost: what the milliseconds are.
    """

    id: str
    name: str
    n: str
    costs: dict[int, list[float]] = field(default_factory=dict)
    p99: dict[int, float] = field(default_factory=dict)
    beside: dict[int, list[float]] = field(default_factory=dict)
    why: str = ""
    cost: str = "median time of requests, one after another over one connection"

    def scale(self) -> None:
        """Let costs and percentiles be those of a machine that is as fast at all sizes, by `beside`."""
        usual = statistics.median(cost for costs in self.beside.values() for cost in costs)
        for size, beside in self.beside.items():
            self.costs[size] = [cost * usual / other for cost, other in zip(self.costs[size], beside, strict=True)]
            self.p99[size] *= usual / statistics.median(beside)
        self.cost += ", scaled by what the same took at the same time where nothing grows"

    @property
    def points(self) -> list[tuple[float, float]]:
        """(size, median cost)."""
        return [(float(size), statistics.median(costs)) for size, costs in self.costs.items()]

    @property
    def exponent(self) -> float:
        """As `exponent`, at the end of the range."""
        return exponent(self.points[-2:])

    @property
    def word(self) -> str:
        """How it grows."""
        return word(self.points)

    def _first(self) -> list[float]:
        """The costs at the smallest size, one a round. Scaled ones are of no common round: then it is their median."""
        first = next(iter(self.costs.values()))
        return [statistics.median(first)] * len(first) if self.beside else first

    def claim(self) -> Claim:
        """That it grows no faster than log n."""
        sizes = list(self.costs)
        values = []
        if len(sizes) > 1:
            pairs = zip(self._first(), self.costs[sizes[-1]], strict=False)  # rounds that were void are in neither
            values = [faster_than_log(sizes[0], first, sizes[-1], last) for first, last in pairs]
        span = f"{sizes[0]:,} to {sizes[-1]:,} {self.n}" if sizes else self.n
        return Claim(
            id=f"scale-{self.id}",
            sentence=f"{self.name[0].upper()}{self.name[1:]}: the cost grows no faster than log n with {self.n}",
            source="contract",
            measured=f"From {span}: {self.cost}. {RULE}" + (f" {self.why}" if self.why else ""),
            wanted=1.0,
            values=values,
            better="less",
            unit="x log n",
            data=(self.id,),
            headline=False,
        )

    def line(self) -> Line:
        """Its line in a picture: medians of the rounds, with their spread."""
        return Line(
            name=self.name,
            points=self.points,
            low=[min(costs) for costs in self.costs.values()],
            high=[max(costs) for costs in self.costs.values()],
        )


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """The slope of log cost over log n by least squares: 0 is flat, 1 is linear; 0.0 for fewer than two points."""
    logs = [(math.log(n), math.log(cost)) for n, cost in points]
    if len(logs) < 2:
        return 0.0
    x_mean, y_mean = (statistics.fmean(values) for values in zip(*logs, strict=True))
    return sum((x - x_mean) * (y - y_mean) for x, y in logs) / sum((x - x_mean) ** 2 for x, _ in logs)


def word(points: Sequence[tuple[float, float]]) -> str:
    """How a cost grows, in a word.

    A cost that does not reach FLAT_UP_TO times the first is flat, and one that grows no faster than the logarithm is
    like log n. Of anything else the exponent is asked of what comes on top of the first, at the last sizes: beside a
    constant that is large, a line looks like a root.
    """
    if len(points) < 2:
        return "one size"
    (first_n, first), (last_n, last) = points[0], points[-1]
    if last <= max(FLAT_UP_TO * first, first + NOISE_MS):
        return "flat"
    if faster_than_log(first_n, first, last_n, last) <= 1:
        return "like log n"
    on_top = [(n, cost - first) for n, cost in points[1:] if cost - first >= NOISE_MS][-2:]
    if len(on_top) < 2:
        return "faster than log n"
    steepness = exponent(on_top)
    if steepness < END_BELOW:
        return "no more at the end"
    return "like n^0.5" if steepness < ROOT_BELOW else "linear" if steepness < LINE_BELOW else "worse than linear"


def faster_than_log(first_n: float, first: float, last_n: float, last: float) -> float:
    """How many times what the logarithm allows the cost has grown; costs in milliseconds, sizes above 1."""
    grown = 1.0 if last - first < NOISE_MS else last / first
    return grown / (math.log(last_n) / math.log(first_n))


def picture(id: str, title: str, series: Sequence[Series], *, note: str = "") -> Curves:  # noqa: A002 - the report's word
    """The series of one kind of n as lines, both axes by powers of ten."""
    return Curves(
        id=id,
        title=title,
        x=series[0].n,
        y="ms",
        lines=[one.line() for one in series],
        log_x=True,
        log_y=True,
        note=note,
    )


def rows(series: Sequence[Series], sizes: Sequence[int]) -> list[list[Any]]:
    """A row a series: its name, the cost in milliseconds and the p99 at each size, the exponent, the word."""
    found = []
    for one in series:
        cells: list[Any] = [one.name]
        for size in sizes:
            there = one.costs.get(size)
            cells += [statistics.median(there) if there else None, one.p99.get(size)]
        found.append([*cells, one.exponent, one.word])
    return found


def columns(n: str, sizes: Sequence[int]) -> list[str]:
    """What stands above `rows`."""
    found = ["cost"]
    for size in sizes:
        found += [f"{size:,} {n}, ms", "p99"]
    return [*found, "exponent", "it grows"]
