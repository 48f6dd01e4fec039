"""The claims for the terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from loadtest.evidence.numbers import demand, figure, interval
from loadtest.evidence.report.overview import SYMBOLS, claims_of, counts, noise, reasons
from loadtest.evidence.report.raw import clean

_STYLES = {
    "holds": "green",
    "does not hold": "bold red",
    "too noisy to say": "yellow",
    "too few rounds": "dim",
    "not measured": "dim",
}


def summary(record: Mapping[str, Any]) -> RenderableType:
    """A table of all claims, and a line for each that does not hold or about which nothing can be said."""
    record = clean(record)
    table = Table(title="Claims: a look, not a result" if record["quick"] else "Claims")
    for heading in ("claim", "wanted", "median", "interval", "verdict"):
        table.add_column(heading, justify="left" if heading in ("claim", "verdict") else "right")
    notes: list[Text] = []
    for _, claim in claims_of(record):
        verdict, unit, wanted = claim["verdict"], claim["unit"], claim["wanted"]
        median = "–" if claim["median"] is None else figure(claim["median"], unit, wanted=wanted)
        between = interval(claim["interval"], unit, wanted=wanted)
        asked = demand(wanted, unit, claim["better"])
        word = Text(f"{SYMBOLS[verdict]} {verdict}", style=_STYLES[verdict])
        # As Text: a unit in brackets is no markup.
        table.add_row(*map(Text, (claim["sentence"], asked, median, between)), word)
        if verdict not in ("holds", "too few rounds"):
            why = "; ".join(reasons(claim["void"])) or _why(verdict, len(claim["values"]), median, between, asked)
            notes.append(Text.assemble((verdict.capitalize(), _STYLES[verdict]), f": {claim['sentence']}: {why}"))
    numbers = ", ".join(f"{times} {verdict}" for verdict, times in counts(record).items())
    return Group(table, *notes, Text(f"{numbers}.{_noise(record)}"))


def _why(verdict: str, rounds: int, median: str, between: str, asked: str) -> str:
    if verdict == "does not hold":
        return f"{median} ({between}), wanted {asked}"
    if verdict == "not measured":
        return "no round of it"
    return f"{rounds} rounds, {between}; wanted {asked}"


def _noise(record: Mapping[str, Any]) -> str:
    seen = noise(record)
    if seen.spread is None or seen.quiet:
        return ""
    return f" Rounds differed by {seen.spread:.0%}; above 10% the machine was busy."
