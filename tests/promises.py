"""What was promised, what was measured, and whether it holds: one table at the end of `make faults` and `make hostile`.

A test asks for `promise` and says what it measured; the row is in the table whether the test passes or not.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from typing import Protocol

import pytest
from rich.console import Console
from rich.table import Table

_KEY = "promise"
_COLUMNS = ("fault", "promise", "measured")
Row = tuple[str, str, str, str]


class Promise(Protocol):
    """Adds a row to the table; fails the test if the promise does not hold, after its other rows were added.

    `holds=None` is for a figure of which nothing is demanded, or which this run is too short or too noisy to judge.
    """

    def __call__(self, fault: str, promise: str, measured: object, *, holds: bool | None) -> None: ...


@pytest.fixture
def promise(record_property: Callable[[str, object], None]) -> Iterator[Promise]:
    """Say what was measured; at the end of the test all promises that were broken are named at once."""
    broken: list[str] = []

    def say(fault: str, promise: str, measured: object, *, holds: bool | None) -> None:
        word = {True: "holds", False: "BROKEN", None: "-"}[holds]
        record_property(_KEY, (fault, promise, str(measured), word))
        if holds is False:
            broken.append(f"{fault}: {promise}: {measured}")

    yield say
    assert not broken, "\n".join(["broken promises:", *broken])


def rows(terminalreporter: pytest.TerminalReporter) -> list[Row]:
    """All rows that tests of this run have added, by the order of their tests' ends; each once."""
    found: dict[Row, None] = {}
    for reports in terminalreporter.stats.values():
        for report in reports:
            for name, value in getattr(report, "user_properties", ()):
                if name == _KEY:
                    found[tuple(value)] = None
    return list(found)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, if there is anything in it."""
    found = rows(terminalreporter)
    if not found:
        return
    table = Table(title="What was promised, and what was measured", title_justify="left", pad_edge=False)
    for column in _COLUMNS:
        table.add_column(column, overflow="fold")
    table.add_column("holds", no_wrap=True)
    before = ""
    for fault, promise_, measured, word in sorted(found, key=lambda row: row[0]):
        table.add_row(fault if fault != before else "", promise_, measured, word, end_section=False)
        before = fault
    width = max(terminalreporter._tw.fullwidth, 140)
    text = io.StringIO()
    Console(file=text, width=width, force_terminal=False).print(table)
    terminalreporter.write_line("")
    terminalreporter.write(text.getvalue())
