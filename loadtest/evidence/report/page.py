"""The report as one HTML file that needs nothing else: no script, no font, no network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape

from loadtest.evidence.numbers import demand, figure, interval, number
from loadtest.evidence.report.overview import SYMBOLS, counts, duration, noise, reasons
from loadtest.evidence.report.pictures import draw
from loadtest.evidence.report.raw import Anchors, Link, Runs, clean
from loadtest.evidence.report.strip import strip
from loadtest.evidence.report.svg import Styles

_HERE = Path(__file__).parent
_POINTS = 60
"""Rows of the table beside a picture, at most."""
_MACHINE = {
    "processor": "Processor",
    "cores": "Cores",
    "pinned": "A core set aside for the server",
    "system": "System",
    "architecture": "Architecture",
    "python": "Python",
}


class Cell(NamedTuple):
    """A cell of a table: its text, and whether it is a number."""

    text: str
    numeric: bool


def page(record: Mapping[str, Any], *, data: str) -> str:
    """The whole page.

    Args:
        record: what the run left behind, as it is in the data file.
        data: the name of that file, which lies beside the page.
    """
    record = clean(record)
    styles, anchors = Styles(), Anchors()
    all_runs = sum(len(part["runs"]) for part in record["parts"])
    runs = [Runs(part, anchors, all_runs=all_runs) for part in record["parts"]]
    parts = [
        _part(part, mine, anchors=anchors, styles=styles) for part, mine in zip(record["parts"], runs, strict=True)
    ]
    # Nothing in here begins a tag: declarations are matplotlib's numbers and our own words.
    sheet = "\n" + (_HERE / "page.css").read_text("utf-8") + styles.sheet() + "\n"
    digest = base64.b64encode(hashlib.sha256(sheet.encode()).digest()).decode()
    return _environment().get_template("page.html").render(
        record=record,
        data=f"./{quote(data)}",
        data_name=data,
        parts=parts,
        counts=counts(record),
        noise=noise(record),
        took=duration(record["took_s"]),
        facts=[(name, record["machine"][key]) for key, name in _MACHINE.items() if key in record["machine"]],
        sheet=Markup(sheet),  # noqa: S704 - our own file and matplotlib's numbers
        digest=digest,
    )  # fmt: skip


def _part(part: Mapping[str, Any], runs: Runs, *, anchors: Anchors, styles: Styles) -> dict[str, Any]:
    pictures = []
    for picture in part["pictures"]:
        anchor = anchors.new("picture", f"{part['name']}-{picture['id']}")
        pictures.append(
            {
                "anchor": anchor,
                "svg": draw(picture, anchor=anchor, styles=styles),
                "title": picture["title"],
                "note": picture["note"],
                **_figures(picture),
            }
        )
    return {
        "anchor": anchors.new("part", part["name"]),
        "title": part["title"],
        "claims": [{**claim, "links": runs.links(claim["data"])} for claim in part["claims"]],
        "tables": [_table(table, runs) for table in part["tables"]],
        "pictures": pictures,
        "runs": runs,
    }


def _table(table: Mapping[str, Any], runs: Runs) -> dict[str, Any]:
    numeric = [
        any(_is_number(row[column]) for row in table["rows"] if column < len(row))
        for column in range(len(table["columns"]))
    ]
    rows: list[tuple[list[Cell], list[Link]]] = []
    for index, row in enumerate(table["rows"]):
        cells = [Cell(_text(value), column < len(numeric) and numeric[column]) for column, value in enumerate(row)]
        rows.append((cells, runs.links(table["data"][index : index + 1])))
    return {
        "title": table["title"],
        "note": table["note"],
        "columns": [Cell(name, right) for name, right in zip(table["columns"], numeric, strict=True)],
        "rows": rows,
    }


def _figures(picture: Mapping[str, Any]) -> dict[str, Any]:
    """The figures of a picture as a table: `columns`, `rows` and how many rows there were in `points`."""
    if picture["kind"] == "bars":
        unit = picture["unit"]
        rows = [
            [
                bar["name"],
                *(figure(each(bar["values"]), unit) if bar["values"] else "–" for each in (median, min, max)),
                number(len(bar["values"])),
            ]
            for bar in picture["bars"]
        ]
        return {"columns": ["", "median", "lowest", "highest", "rounds"], "rows": rows, "points": len(rows)}
    lines = [{x: y for x, y in line["points"] if x is not None} for line in picture["lines"]]
    xs = sorted(set().union(*lines))
    step = -(-len(xs) // _POINTS) or 1
    rows = [[_text(x), *(_text(line.get(x)) for line in lines)] for x in xs[::step]]
    return {
        "columns": [picture["x"], *(line["name"] for line in picture["lines"])],
        "rows": rows,
        "points": len(xs),
    }  # fmt: skip


def _text(value: str | float | None) -> str:
    if value is None:
        return "–"
    return value if isinstance(value, str) else number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _words(text: str) -> Markup:
    """Text of a record: escaped, with `names` as code."""
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))  # noqa: S704 - escaped just now


def _environment() -> Environment:
    environment = Environment(
        autoescape=True,
        loader=FileSystemLoader(_HERE),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"words": _words, "reasons": reasons, "number": _text}
    environment.globals |= {
        "symbols": SYMBOLS, "strip": strip, "figure": figure, "interval": interval, "demand": demand
    }  # fmt: skip
    return environment
