"""Pictures: Curves and Bars of a record, drawn by matplotlib as SVG. The same record gives the same bytes."""

from __future__ import annotations

import io
import math
import statistics
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter, NullLocator

from loadtest.evidence.numbers import figure
from loadtest.evidence.report.svg import GRID, INK, MUTED, PAPER, Styles, inline, series_colour

_SETTINGS: Any = {
    "svg.fonttype": "none",  # text stays text: smaller, and found by a search
    "svg.hashsalt": "evidence",
    "text.parse_math": False,  # a dollar in a name is a dollar
    "path.simplify": True,
    "font.size": 11,
    "hatch.linewidth": 0.7,
}
_INCHES = 6.4
_MARKERS = "os^DvP"
_DASHES: tuple[Any, ...] = (
    "solid",
    (0, (5, 2)),
    (0, (1, 1.5)),
    (0, (6, 2, 1, 2)),
    (0, (3, 1, 1, 1, 1, 1)),
    (0, (8, 3)),
)
_HATCHES = ("", "////", "....", "\\\\\\\\", "xxxx", "----")
_FEW_POINTS = 40
_MARKERS_ON_LONG_LINES = 12
"""One at each point would make a thick line of it."""


def draw(picture: Mapping[str, Any], *, anchor: str, styles: Styles) -> Markup:
    """A picture of a record (Curves or Bars) as inline SVG."""
    with mpl.rc_context(_SETTINGS), warnings.catch_warnings():
        # The browser has other fonts than matplotlib, which only guesses widths here.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        drawn = _curves(picture) if picture["kind"] == "curves" else _bars(picture)
        out = io.StringIO()
        drawn.savefig(out, format="svg", metadata={"Date": None}, facecolor=PAPER)
    return inline(
        out.getvalue(), anchor=anchor, title=picture["title"], description=describe(picture), styles=styles
    )  # fmt: skip


def describe(picture: Mapping[str, Any]) -> str:
    """What a reader would see, in words."""
    if picture["kind"] == "bars":
        unit = picture["unit"]
        bars = [f"{bar['name']}: {_median(bar['values'], unit)}" for bar in picture["bars"]]
        return f"Bars of medians, with a dot for each round. {'; '.join(bars)}."
    lines = []
    for line in picture["lines"]:
        points = [(x, y) for x, y in line["points"] if _finite(x) and _finite(y)]
        if not points:
            lines.append(f"{line['name']}: no points")
            continue
        (first_x, first_y), (last_x, last_y) = points[0], points[-1]
        top_x, top_y = max(points, key=lambda point: point[1])
        lines.append(
            f"{line['name']}: {figure(first_y, '')} at {figure(first_x, '')}, {figure(last_y, '')} at "
            f"{figure(last_x, '')}, highest {figure(top_y, '')} at {figure(top_x, '')}"
        )
    marks = "".join(f" A line at {figure(x, '')}: {word}." for x, word in picture["marks"])
    return f"Lines of {picture['y']} against {picture['x']}. {'; '.join(lines)}.{marks}"


def _curves(picture: Mapping[str, Any]) -> Figure:
    names = [textwrap.fill(_short(line["name"], 120), 62) for line in picture["lines"]]
    columns = 2 if len(names) > 1 and max(map(len, names)) <= 26 else 1
    rows = math.ceil(sum(1 + name.count("\n") for name in names) / columns)
    drawn = Figure(figsize=(_INCHES, 3.5 + 0.22 * rows), layout="constrained")
    axes = drawn.add_subplot()
    handles = [_line(axes, line, number) for number, line in enumerate(picture["lines"])]
    points = [point for line in picture["lines"] for point in line["points"]]
    _scale(axes.xaxis, [x for x, _ in points] + [x for x, _ in picture["marks"]], log=picture["log_x"])
    _scale(axes.yaxis, [y for _, y in points], log=picture["log_y"])
    if not picture["log_y"] and 0 <= min((y for _, y in points if _finite(y)), default=-1) < 0.6 * axes.get_ylim()[1]:
        axes.set_ylim(bottom=0)
    for number, (x, word) in enumerate(picture["marks"]):
        axes.axvline(x, color=MUTED, linewidth=1, linestyle=(0, (2, 2)), zorder=1)
        axes.annotate(  # above the lines, not on them; two neighbours have a height each
            _short(word, 40), (x, 1), xycoords=("data", "axes fraction"), xytext=(0, 3 + 13 * (number % 2)),
            textcoords="offset points", ha="center", va="bottom", color=MUTED, fontsize=9.5,
        )  # fmt: skip
    axes.set_xlabel(_short(picture["x"], 70), color=INK)
    axes.set_ylabel(_short(picture["y"], 44), color=INK)
    _plain(axes)
    axes.grid(visible=True, color=GRID, linewidth=0.7)
    if not any(_finite(x) and _finite(y) for x, y in points):
        axes.set_xticks([])
        axes.set_yticks([])
        axes.text(0.5, 0.5, "nothing was measured", transform=axes.transAxes, ha="center", color=MUTED)
    if handles:
        drawn.legend(
            handles, [_legible(name) for name in names], loc="outside lower left", ncols=columns, frameon=False,
            labelcolor=INK, handlelength=3.2,
        )  # fmt: skip
    return drawn


def _line(axes: Axes, line: Mapping[str, Any], number: int) -> Line2D:
    colour = series_colour(number)
    xs = [_drawable(x) for x, _ in line["points"]]
    ys = [_drawable(y) for _, y in line["points"]]
    low, high = line["low"], line["high"]
    if len(low) == len(high) == len(xs) and xs:
        lows, highs = [_drawable(each) for each in low], [_drawable(each) for each in high]
        axes.fill_between(xs, lows, highs, color=colour, alpha=0.18, linewidth=0)
    step = math.ceil(len(xs) / _MARKERS_ON_LONG_LINES)
    (drawn,) = axes.plot(
        xs, ys, color=colour, linewidth=2, linestyle=_DASHES[number % len(_DASHES)],
        marker=_MARKERS[number % len(_MARKERS)], markersize=5,
        # Where lines lie on one another, each still has places of its own.
        markevery=(number * 2 % step, step) if len(xs) > _FEW_POINTS else None,
    )  # fmt: skip
    drawn.set_gid(f"series-{number}")
    return drawn


def _bars(picture: Mapping[str, Any]) -> Figure:
    bars, unit = picture["bars"], picture["unit"]
    drawn = Figure(figsize=(_INCHES, 1.0 + 0.62 * max(len(bars), 1)), layout="constrained")
    axes = drawn.add_subplot()
    everything = [value for bar in bars for value in bar["values"] if _finite(value)]
    log = picture["log"] and any(value > 0 for value in everything)
    floor = 10 ** math.floor(math.log10(min(value for value in everything if value > 0)) - 0.3) if log else 0.0
    for number, bar in enumerate(bars):
        values = [value for value in bar["values"] if _finite(value)]
        median = statistics.median(values) if values else 0.0
        _bar(axes, number, median, values, floor=floor, many=len(bars) > len(_HATCHES))
        axes.annotate(
            _short(_median(bar["values"], unit), 24), (max([median, *values, floor]), number), xytext=(7, 0),
            textcoords="offset points", va="center", color=INK,
        )  # fmt: skip
    if log:
        axes.set_xscale("log")
        axes.set_xlim(left=floor, right=max(everything) * (max(everything) / floor) ** 0.3)
    else:
        axes.set_xlim(left=min([0.0, *everything]), right=max([0.0, *everything]) * 1.3 or 1.0)
    _ticks(axes.xaxis, log=log, unit=unit)
    axes.set_ylim(max(len(bars), 1) - 0.5, -0.5)
    axes.set_yticks(range(len(bars)), [textwrap.fill(_short(bar["name"], 60), 24) for bar in bars])
    axes.set_xlabel(_short({"x": "times", "%": "per cent"}.get(unit, unit), 60), color=INK)
    _plain(axes)
    axes.tick_params(axis="y", length=0)
    axes.grid(visible=True, axis="x", color=GRID, linewidth=0.7)
    return drawn


def _bar(axes: Axes, number: int, median: float, values: Sequence[float], *, floor: float, many: bool) -> None:
    """One bar, from `floor`; of `many`, all look alike, as their names tell them apart."""
    kind = 0 if many else number
    (drawn,) = axes.barh(
        [number], [max(median - floor, 0.0) if floor else median], left=floor, height=0.62,
        facecolor=series_colour(kind), edgecolor=PAPER, hatch=_HATCHES[kind % len(_HATCHES)], linewidth=0, zorder=2,
    )  # fmt: skip
    drawn.set_gid(f"series-{number}")
    if len(values) > 1:
        axes.hlines([number], min(values), max(values), color=INK, linewidth=1.2, zorder=3)
        axes.plot(
            values, [number] * len(values), linestyle="none", marker="o", markersize=4.5, markerfacecolor=PAPER,
            markeredgecolor=INK, markeredgewidth=1, zorder=4,
        )  # fmt: skip


def _scale(axis: Axis, values: Sequence[float | None], *, log: bool) -> None:
    log = log and any(_finite(value) and value > 0 for value in values)  # type: ignore[operator]
    if log:
        if axis is axis.axes.xaxis:
            axis.axes.set_xscale("log", nonpositive="mask")
        else:
            axis.axes.set_yscale("log", nonpositive="mask")
    _ticks(axis, log=log, unit="")


def _ticks(axis: Axis, *, log: bool, unit: str) -> None:
    if log:
        low, high = sorted(axis.get_view_interval())
        decades = math.log10(high / low) if low > 0 else 9
        axis.set_major_locator(LogLocator(subs=(1, 2, 5) if decades < 2.5 else (1,), numticks=8))
        axis.set_minor_locator(NullLocator())
        axis.set_minor_formatter(NullFormatter())
    else:
        axis.set_major_locator(MaxNLocator(6))
    factor = 100 if unit == "%" else 1
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value * factor:,.10g}"))


def _plain(axes: Axes) -> None:
    axes.set_facecolor(PAPER)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("bottom", "left"):
        axes.spines[side].set_color(MUTED)
    axes.tick_params(colors=MUTED, labelcolor=INK)


def _median(values: Sequence[float], unit: str) -> str:
    return figure(statistics.median(values), unit) if values else "not measured"


def _finite(value: float | None) -> bool:
    return value is not None and math.isfinite(value)


def _drawable(value: float | None) -> float:
    """NaN is a gap in a line."""
    return value if value is not None and math.isfinite(value) else math.nan


def _short(text: str, characters: int) -> str:
    """A longer one would leave no room for the picture; the page has it in full beside it. Code is plain here."""
    text = text.replace("`", "")
    return text if len(text) <= characters else f"{text[: characters - 1]}…"


def _legible(name: str) -> str:
    """To matplotlib, a name that begins with an underscore is one to leave out."""
    return f"\u200b{name}" if name.startswith("_") else name
