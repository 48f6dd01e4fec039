"""How the report, the terminal and the README write a number: one way for all three."""

from __future__ import annotations

import math
from collections.abc import Sequence

_DIGITS = 3
_MOST_DIGITS = 9
_TINY = 1e-6


def number(value: float, *, apart_from: Sequence[float] = ()) -> str:
    """Three significant digits and thousands separators. A whole number (int) is a count, in full.

    More digits where rounding would bring it onto or over one of `apart_from`, so that what just misses a limit does
    not read as if it met it.
    """
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if not math.isfinite(value):
        return "not a number" if math.isnan(value) else "∞" if value > 0 else "-∞"
    digits = _DIGITS
    while digits < _MOST_DIGITS and not all(_same_side(value, _rounded(value, digits), each) for each in apart_from):
        digits += 1
    rounded = _rounded(value, digits)
    if rounded == 0:
        return "0"
    if abs(rounded) < _TINY:
        return f"{rounded:.{digits - 1}e}"
    decimals = max(0, digits - 1 - math.floor(math.log10(abs(rounded))))
    return f"{rounded:,.{decimals}f}"


def figure(value: float, unit: str, *, wanted: float | None = None) -> str:
    """A value with its unit: `26.0×` for "x", `4.20 %` for a fraction with "%", else `87.3 MiB`.

    It stays on its side of `wanted`, and a share that is not the whole is never 100 %.
    """
    apart = [] if wanted is None else [wanted]
    if unit == "%":
        return with_unit(number(100.0 * value, apart_from=[100.0 * each for each in (*apart, 1.0)]), unit)
    return with_unit(number(float(value), apart_from=apart), unit)


def interval(ends: Sequence[float] | None, unit: str, *, wanted: float | None = None) -> str:
    """`11.0× to 15.0×`; a dash without one."""
    return "–" if ends is None else " to ".join(figure(end, unit, wanted=wanted) for end in ends)


def demand(wanted: float, unit: str, better: str) -> str:
    """`≥ 10×` or `≤ 2 %`. What is demanded is never rounded."""
    exact = f"{100 * wanted if unit == '%' else wanted:,.10g}"
    return f"{'≥' if better == 'more' else '≤'} {with_unit(exact, unit)}"


def with_unit(text: str, unit: str) -> str:
    """The number as text with its unit behind it."""
    return f"{text}×" if unit == "x" else f"{text} {unit}".rstrip()


def _rounded(value: float, digits: int) -> float:
    return float(f"{value:.{digits - 1}e}")


def _same_side(value: float, rounded: float, limit: float) -> bool:
    return (value > limit) == (rounded > limit) and (value < limit) == (rounded < limit)
