"""The runbook as its tests read it: sections, their parts, and the commands and names in them."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from tests.observability.promtool import ROOT, alert_files

PATH = ROOT / "observability" / "runbook.md"
PARTS = ("Meaning", "Impact", "Diagnosis", "Mitigation")

_SHELL = re.compile(r"^```sh\n(.*?)^```", re.DOTALL | re.MULTILINE)
_FENCE = re.compile(r"^```.*?^```\n?", re.DOTALL | re.MULTILINE)
_INLINE = re.compile(r"`([^`]+)`")
_WORD = re.compile(r"^(\w+)\(\) \{", re.MULTILINE)


@dataclass(frozen=True)
class Section:
    """What stands below a heading of the second level."""

    title: str
    text: str

    @property
    def of_alert(self) -> bool:
        """Whether its title is one word, as an alert's name is."""
        return " " not in self.title

    @property
    def parts(self) -> dict[str, str]:
        """The paragraphs that begin with a bold word, by that word, in their order."""
        words = re.split(r"^\*\*(\w+)\.\*\* ?", self.text, flags=re.MULTILINE)[1:]
        return dict(zip(words[::2], map(str.strip, words[1::2]), strict=True))

    @property
    def shell(self) -> list[str]:
        """The text of its fences of shell commands."""
        return _SHELL.findall(self.text)

    @property
    def inline(self) -> list[str]:
        """What is set as code in its running text."""
        return _INLINE.findall(_FENCE.sub("", self.text))

    def commands(self) -> Iterator[str]:
        """The lines of its fences of shell commands, without comments, and its running text's code."""
        for block in self.shell:
            yield from (line.partition("  #")[0].strip() for line in block.splitlines() if line.strip())
        yield from self.inline


def sections() -> list[Section]:
    """All of them, in their order."""
    pieces = re.split(r"^## (.+)\n", PATH.read_text("utf-8"), flags=re.MULTILINE)[1:]
    return [Section(title, text) for title, text in zip(pieces[::2], pieces[1::2], strict=True)]


def introduction() -> Section:
    """The first section, which defines the words that the others use."""
    return sections()[0]


def words_of(block: str) -> set[str]:
    """The shell functions that a block defines."""
    return set(_WORD.findall(block))


def alerts() -> list[dict[str, Any]]:
    """Every alerting rule, as it stands in its file."""
    return [
        rule
        for path in alert_files()
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
        if "alert" in rule
    ]
