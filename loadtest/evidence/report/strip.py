"""The rounds of one claim against what is wanted, as a picture of a line's height."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup

from loadtest.evidence.numbers import demand, figure

_WIDTH, _HEIGHT = 150, 22
_HALF = 68
_FURTHEST = 1.0
"""Decades from what is wanted: ten times better or worse is the edge, and so is all beyond."""


def strip(claim: Mapping[str, Any]) -> Markup:
    """Dots for rounds, a bar for the interval, a line for what is wanted; right of it is good, whatever `better` says.

    Empty without rounds.
    """
    if not claim["values"]:
        return Markup("")
    middle, height = _WIDTH / 2, _HEIGHT / 2
    shapes = [f'<path class="axis" d="M{middle - _HALF} {height}H{middle + _HALF}M{middle} 2V{_HEIGHT - 2}"/>']
    if claim["interval"]:
        low, high = sorted(_x(end, claim) for end in claim["interval"])
        box = f'x="{low - 2:.1f}" y="{height - 4}" width="{high - low + 4:.1f}" height="8"'
        shapes.append(f'<rect class="interval" {box} rx="4"/>')
    shapes += [f'<circle cx="{_x(value, claim):.1f}" cy="{height}" r="3"/>' for value in claim["values"]]
    rounds = ", ".join(figure(value, claim["unit"], wanted=claim["wanted"]) for value in claim["values"])
    wanted = demand(claim["wanted"], claim["unit"], claim["better"])
    return Markup('<svg class="strip" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
        _WIDTH, _HEIGHT, f"Rounds: {rounds}; wanted {wanted}", Markup("").join(map(Markup, shapes))
    )


def _x(value: float, claim: Mapping[str, Any]) -> float:
    """The root of decades: a few per cent can be seen, and ten times still has its place."""
    wanted, more = claim["wanted"], claim["better"] == "more"
    if value > 0 and wanted > 0:
        decades = math.log10(value / wanted) * (1 if more else -1)
    else:
        decades = _FURTHEST if (value >= wanted if more else value <= wanted) else -_FURTHEST
    share = math.copysign(math.sqrt(min(abs(decades) / _FURTHEST, 1.0)), decades)
    return _WIDTH / 2 + _HALF * share
