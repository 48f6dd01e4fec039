"""The raw data as the page shows it: an anchor for every run, and JSON that a person can read."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

_ALL_RUNS_CHARACTERS = 1_200_000
"""Of the page's 3 MB. What is cut is complete in the data file."""
_RUN_CHARACTERS = 12_000
_STRING_CHARACTERS = 120
_ITEMS = 40
_LINE = 110
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ufffe\uffff]")
"""Neither HTML nor XML has a way to say these, and a lone surrogate cannot be written to a file."""


class Run(NamedTuple):
    """One run: its key in the data file, its anchor in the page, its JSON."""

    key: str
    anchor: str
    text: str


class Link(NamedTuple):
    """A link within the page."""

    anchor: str
    text: str
    label: str


def clean(value: Any) -> Any:
    """The same record, with U+FFFD for characters that no page can have. Keys as well as values."""
    if isinstance(value, str):
        return _UNFIT.sub("\ufffd", value)
    if isinstance(value, Mapping):
        return {clean(str(key)): clean(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [clean(each) for each in value]
    return value


class Anchors:
    """Names of places in the page, each once."""

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def new(self, prefix: str, name: str) -> str:
        """An anchor for `name`: letters, digits, dots and dashes only."""
        wanted = anchor = f"{prefix}-{re.sub(r'[^A-Za-z0-9_.]+', '-', name).strip('-') or 'x'}"
        again = 1
        while anchor in self._taken:
            again += 1
            anchor = f"{wanted}.{again}"
        self._taken.add(anchor)
        return anchor


class Runs:
    """The runs of one part."""

    def __init__(self, part: Mapping[str, Any], anchors: Anchors, *, all_runs: int) -> None:
        """`all_runs` of all parts share what the page has room for."""
        self.anchor = anchors.new("run", part["name"])
        limit = max(400, min(_RUN_CHARACTERS, _ALL_RUNS_CHARACTERS // max(all_runs, 1)))
        self.runs = [
            Run(key, anchors.new("run", f"{part['name']}-{key}"), _cut(pretty(value), limit))
            for key, value in part["runs"].items()
        ]
        self._anchors = {run.key: run.anchor for run in self.runs}

    def links(self, keys: Sequence[str]) -> list[Link]:
        """To these runs; to all of the part where none of them is there."""
        there = [key for key in dict.fromkeys(keys) if key in self._anchors]
        if not there:
            return [Link(self.anchor, "all", "all raw data of this part")]
        if len(there) == 1:
            return [Link(self._anchors[there[0]], "data", f"raw data: {there[0]}")]
        return [Link(self._anchors[key], str(n), f"raw data: {key}") for n, key in enumerate(there, start=1)]


def pretty(value: Any, indent: str = "") -> str:
    """JSON with what belongs together on one line, long strings (histograms) and long lists shortened."""
    if isinstance(value, str) and len(value) > _STRING_CHARACTERS:
        return f"{json.dumps(value[:24], ensure_ascii=False)}… ({len(value):,} characters in the data file)"
    if not isinstance(value, Mapping | list) or not value:
        return json.dumps(value, ensure_ascii=False)
    deeper = indent + "  "
    if isinstance(value, Mapping):
        items = [f"{json.dumps(str(key), ensure_ascii=False)}: {pretty(each, deeper)}" for key, each in value.items()]
        opening, closing = "{}"
    else:
        items = [pretty(each, deeper) for each in value[:_ITEMS]]
        if len(value) > _ITEMS:
            items.append(f"… ({len(value) - _ITEMS:,} more in the data file)")
        opening, closing = "[]"
    line = f"{opening}{', '.join(items)}{closing}"
    if len(indent) + len(line) <= _LINE and "\n" not in line:
        return line
    if isinstance(value, list) and not any("\n" in item for item in items):
        return line  # a long row of figures: the page wraps it
    return f"{opening}\n" + ",\n".join(deeper + item for item in items) + f"\n{indent}{closing}"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[:limit]}\n… ({len(text) - limit:,} more characters in the data file)"
