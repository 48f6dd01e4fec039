"""Runbook: observability/runbook.md, where the alerts' links lead. One panel for each of its sections."""

import re
from dataclasses import dataclass
from pathlib import Path

from observability.grafana.generator.model import Board, Panel, Row
from observability.grafana.generator.panels import text

SOURCE = Path(__file__).parents[3] / "runbook.md"
_HEADING = re.compile(r"^(?P<marks>##|###) (?P<title>.+)$")
_FENCE = re.compile(r"^\s*```")
_LINE_CELLS = 0.75
"""Cells of the grid that a line of text takes."""


@dataclass(frozen=True)
class Section:
    """A part of the runbook: the `##` heading above it, its own, and its text."""

    group: str
    title: str
    body: str


def board(markdown: str) -> Board:
    """The dashboard of a runbook."""
    introduction, sections = split(markdown)
    items: list[Row | Panel] = [
        text(
            "What to do",
            _contents(introduction, sections),
            description="Every alert has a section. A link opens it alone; Escape comes back here.",
            height=max(
                8, round(2 + (introduction.count("\n") + len({one.group for one in sections}) * 2) * _LINE_CELLS) + 4
            ),
        )
    ]
    group = ""
    for section in sections:
        if section.group != group:
            group = section.group
            items.append(Row(group))
        items.append(
            text(
                section.title,
                section.body,
                description=f"What {section.title} means and what to do, from the runbook.",
                height=max(4, round(2 + _lines(section.body) * _LINE_CELLS)),
            )
        )
    return Board(
        uid="storefront-runbook",
        title="Runbook",
        description="What each alert means, whom it hurts, how to find the cause and what to do. The same text as "
        "observability/runbook.md.",
        folder="storefront",
        items=tuple(items),
        refresh="",
    )


def split(markdown: str) -> tuple[str, list[Section]]:
    """The text before the first `##`, and the sections. A `##` with `###` below it is a group of them."""
    introduction: list[str] = []
    found: list[tuple[str, str, list[str]]] = []
    group, lines, fenced = "", introduction, False
    for line in markdown.splitlines():
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.match(line)
        if heading is None:
            lines.append(line)
            continue
        lines = []
        if heading["marks"] == "##":
            group = heading["title"]
        found.append((group, heading["title"], lines))
    sections = [Section(group, title, "\n".join(lines).strip()) for group, title, lines in found]
    return "\n".join(introduction).strip(), [section for section in sections if section.body]


def _contents(introduction: str, sections: list[Section]) -> str:
    """The introduction without its title, and a link to each section: a panel seen alone, by its number."""
    number, group, lines = 1, "", [re.sub(r"^# .+\n*", "", introduction), ""]
    for section in sections:
        if section.group != group:
            group = section.group
            number += 1  # the heading
            lines += ["", f"**{group}:**"]
        number += 1
        lines.append(f"[{section.title}](/d/storefront-runbook?viewPanel=panel-{number})")
    return "\n".join(lines).strip()


def _lines(body: str) -> int:
    """About how many lines the text takes on a screen."""
    return sum(1 + len(line) // 180 for line in body.splitlines())
