"""Runbook: observability/runbook.md, where the alerts' links lead. One panel for each of its sections."""

import re
from dataclasses import dataclass
from pathlib import Path

from observability.grafana.generator.model import Board
from observability.grafana.generator.panels import text

SOURCE = Path(__file__).parents[3] / "runbook.md"
ALONE = "/d/storefront-runbook?viewPanel=panel-{number}"
"""A panel seen alone. Grafana gives headings in texts no anchors, so this is how to get to a section."""

_HEADING = re.compile(r"^## (.+)$")
_FENCE = re.compile(r"^\s*```")
_TO_SECTION = re.compile(r"\[([^\]]+)\]\(#([\w-]+)\)")
_TO_FILE = re.compile(r"\[([^\]]+)\]\((?:\.\./)+([^)#]+)(?:#[^)]*)?\)")
_CELLS_OF_A_LINE = 0.7
_LETTERS_OF_A_LINE = 180
_FIRST = 2
"""Number of the first section's panel; the contents have 1."""


@dataclass(frozen=True)
class Section:
    """A part of the runbook: its heading, and the Markdown below."""

    title: str
    body: str


def board(markdown: str) -> Board:
    """The dashboard of a runbook."""
    introduction, sections = split(markdown)
    numbers = {section.title.lower().replace(" ", "-"): number for number, section in enumerate(sections, _FIRST)}
    contents = " · ".join(
        f"[{section.title}]({ALONE.format(number=number)})" for number, section in enumerate(sections, _FIRST)
    )
    top = f"{linked(introduction, numbers)}\n\n{contents}"
    return Board(
        uid="storefront-runbook",
        title="Runbook",
        description="What each alert means, whom it hurts, how to find the cause and what to do. The same text as "
        "observability/runbook.md.",
        folder="storefront",
        items=(
            text(
                "What to do",
                top,
                description="Every alert has a section. A link opens it alone; Escape comes back here.",
                height=_height(top),
            ),
            *(
                text(
                    section.title,
                    linked(section.body, numbers),
                    description=f"The runbook on {section.title}. Contents are at the top.",
                    height=_height(section.body),
                )
                for section in sections
            ),
        ),
        refresh="",
    )


def split(markdown: str) -> tuple[str, list[Section]]:
    """What stands before the first `##`, without the title, and the sections."""
    introduction: list[str] = []
    found: list[tuple[str, list[str]]] = []
    lines, fenced = introduction, False
    for line in markdown.splitlines():
        fenced ^= bool(_FENCE.match(line))
        heading = None if fenced else _HEADING.match(line)
        if heading is None:
            lines.append(line)
        else:
            lines = []
            found.append((heading[1], lines))
    before = re.sub(r"\A# .+\n", "", "\n".join(introduction)).strip()
    return before, [Section(title, "\n".join(body).strip()) for title, body in found]


def linked(markdown: str, numbers: dict[str, int]) -> str:
    """The text with links that lead somewhere from Grafana: to panels; a file of the tree is only named."""

    def to_panel(found: re.Match[str]) -> str:
        number = numbers.get(found[2])
        return f"[{found[1]}]({ALONE.format(number=number)})" if number else found[1]

    return _TO_FILE.sub(r"\1 (`\2`)", _TO_SECTION.sub(to_panel, markdown))


def _height(markdown: str) -> int:
    lines = sum(1 + len(line) // _LETTERS_OF_A_LINE for line in markdown.splitlines())
    return max(5, round(2 + lines * _CELLS_OF_A_LINE))
