"""From rounds to ratios to verdicts, and the table that shows them. Pure: nothing here measures anything."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from loadtest.generator import Load


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A demand: `subject` reaches `wanted` times what `reference` does in the same round. None: shown, not demanded."""

    subject: str
    reference: str
    wanted: float | None


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What came of a comparison. `ratio` is the median over rounds of subject / reference within one round."""

    comparison: Comparison
    ratio: float
    lowest: float
    highest: float

    @property
    def holds(self) -> bool | None:
        """Whether the ratio reaches what is wanted; None where nothing is."""
        if self.comparison.wanted is None:
            return None
        return self.ratio >= self.comparison.wanted


@dataclass(frozen=True, kw_only=True)
class Limit:
    """A figure that must not be exceeded: memory, growth, the deep walk. `at_most` None: shown, not demanded."""

    name: str
    value: float
    at_most: float | None
    unit: str = ""

    @property
    def holds(self) -> bool | None:
        """Whether the value stays at or below the limit; None where there is none."""
        return None if self.at_most is None else self.value <= self.at_most


def judge(comparison: Comparison, rounds: Mapping[str, Sequence[Load]]) -> Verdict:
    """Compare round by round: both sides of one round saw the same state of the machine.

    Raises ValueError when the two have not the same number of rounds, or none.
    """
    own, reference = rounds[comparison.subject], rounds[comparison.reference]
    if not own or len(own) != len(reference):
        raise ValueError(f"{comparison.subject} has {len(own)} rounds, {comparison.reference} {len(reference)}")
    ratios = [mine.per_second / theirs.per_second for mine, theirs in zip(own, reference, strict=True)]
    return Verdict(comparison=comparison, ratio=statistics.median(ratios), lowest=min(ratios), highest=max(ratios))


def spread(values: Sequence[float]) -> float:
    """Highest less lowest, as a part of the median."""
    return (max(values) - min(values)) / statistics.median(values)


def growth(before: float, after: float) -> float:
    """How much `after` exceeds `before`, as a part of it; negative when it shrank."""
    return after / before - 1


def all_hold(verdicts: Sequence[Verdict], limits: Sequence[Limit]) -> bool:
    """Whether nothing that is demanded is missed."""
    return all(verdict.holds is not False for verdict in verdicts) and all(limit.holds is not False for limit in limits)


def rates_table(rounds: Mapping[str, Sequence[Load]], verdicts: Sequence[Verdict]) -> Table:
    """One row a subject; a subject with several comparisons has a row for each."""
    table = Table(title="Requests a second, one worker on one core")
    for heading in (
        "subject",
        "req/s",
        "spread",
        "p50 ms",
        "p99 ms",
        "CPU us",
        "against",
        "ratio",
        "(from - to)",
        "wanted",
        "",
    ):
        table.add_column(heading, justify="left" if heading in ("subject", "against") else "right")
    for name, loads in rounds.items():
        own = [verdict for verdict in verdicts if verdict.comparison.subject == name]
        rates = [load.per_second for load in loads]
        figures = [
            name,
            f"{statistics.median(rates):,.0f}",
            f"{spread(rates):.0%}",
            f"{statistics.median(load.p50_ms for load in loads):.2f}",
            f"{statistics.median(load.p99_ms for load in loads):.2f}",
            f"{statistics.median(load.server_cpu_us for load in loads):,.0f}",
        ]
        if not own:
            table.add_row(*figures)
        for verdict in own:
            wanted = verdict.comparison.wanted
            table.add_row(
                *figures,
                verdict.comparison.reference,
                f"{verdict.ratio:.2f}",
                f"({verdict.lowest:.2f} - {verdict.highest:.2f})",
                "" if wanted is None else f">= {wanted}",
                _mark(verdict.holds),
            )
            figures = [""] * len(figures)
    return table


def limits_table(limits: Sequence[Limit], *, title: str) -> Table:
    """One row a limit."""
    table = Table(title=title)
    for heading in ("what", "value", "at most", ""):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for limit in limits:
        at_most = "" if limit.at_most is None else _with_unit(limit.at_most, limit)
        table.add_row(limit.name, _with_unit(limit.value, limit), at_most, _mark(limit.holds))
    return table


def verdict_record(verdict: Verdict) -> dict[str, Any]:
    """For the results file."""
    return {
        "subject": verdict.comparison.subject,
        "reference": verdict.comparison.reference,
        "wanted": verdict.comparison.wanted,
        "ratio": round(verdict.ratio, 3),
        "lowest": round(verdict.lowest, 3),
        "highest": round(verdict.highest, 3),
        "holds": verdict.holds,
    }


def limit_record(limit: Limit) -> dict[str, Any]:
    """For the results file."""
    return {
        "name": limit.name,
        "value": round(limit.value, 4),
        "at_most": limit.at_most,
        "unit": limit.unit,
        "holds": limit.holds,
    }


def rounds_record(rounds: Mapping[str, Sequence[Load]]) -> dict[str, Any]:
    """For the results file: every round of every subject."""
    return {
        name: {
            "median_per_second": round(statistics.median(load.per_second for load in loads), 1),
            "spread": round(spread([load.per_second for load in loads]), 3),
            "rounds": [
                {
                    "per_second": round(load.per_second, 1),
                    "requests": load.requests,
                    "p50_ms": load.p50_ms,
                    "p99_ms": load.p99_ms,
                    "max_ms": load.max_ms,
                    "server_cpu_us": round(load.server_cpu_us, 1),
                }
                for load in loads
            ],
        }
        for name, loads in rounds.items()
    }


def _with_unit(value: float, limit: Limit) -> str:
    if limit.unit == "%":
        return f"{value:.1%}"
    return f"{value:.2f} {limit.unit}".rstrip()


def _mark(holds: bool | None) -> str:
    if holds is None:
        return ""
    return "[green]holds[/green]" if holds else "[bold red]MISSED[/bold red]"
