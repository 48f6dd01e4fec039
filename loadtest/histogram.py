"""Response times as locust keeps them: how often each was seen, in ms, rounded to two digits."""

from __future__ import annotations

from collections.abc import Mapping


def minus(later: Mapping[int, int], earlier: Mapping[int, int]) -> dict[int, int]:
    """What came between two looks at a histogram that only grows."""
    return {time_ms: count - earlier.get(time_ms, 0) for time_ms, count in later.items()}


def percentile(counts: Mapping[int, int], percent: float) -> float:
    """The time that `percent` of the requests did not exceed, ms; 0 of none."""
    wanted = sum(counts.values()) * percent / 100
    seen = 0
    for time_ms in sorted(counts):
        seen += counts[time_ms]
        if counts[time_ms] and seen >= wanted:
            return float(time_ms)
    return 0.0
