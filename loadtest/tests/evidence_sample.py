"""A made-up record with every kind of thing in it, for the tests of the report."""

from __future__ import annotations

import random
from typing import Any

from loadtest.evidence.record import Bar, Bars, Claim, Curves, Line, Part, Table
from loadtest.openloop import Outcome

HOSTILE = "<script>alert(1)</script> \"'><img src=x onerror=alert(1)> & ]]> $\\frac$ {{ 7*7 }} \x00 \ud800"
"""Markup, attributes, CDATA, formulas, templates, and what no document can hold."""


def record(*, quick: bool = False) -> dict[str, Any]:
    """As the orchestrator makes it."""
    return {
        "taken_at": "2026-11-30T10:11:12+00:00",
        "commit": "0123456789",
        "quick": quick,
        "complete": True,
        "took_s": 843,
        "machine": {
            "processor": "Some <Processor>",
            "cores": 4,
            "pinned": True,
            "system": "Linux",
            "architecture": "x86_64",
            "python": "3.11.7",
            "packages": {"flask": "3.1.3"},
        },
        "parts": [part.record() for part in (_speed(), _outage(), _hostile())],
    }


def _outcome(dice: random.Random, *, middle_ms: float, failing: float = 0.0, timeline: bool = False) -> dict[str, Any]:
    outcome = Outcome(10.0, 500.0)
    for number in range(5000):
        status = 503 if dice.random() < failing and 1500 < number < 2500 else 200
        outcome.add(status, dice.lognormvariate(0, 0.5) * middle_ms / 1000, at_s=number / 500)
    return outcome.record(timeline=timeline)


def _speed() -> Part:
    dice = random.Random(1)
    runs: dict[str, Any] = {
        f"{subject} round {number}": _outcome(dice, middle_ms=middle_ms)
        for subject, middle_ms in (("before", 20), ("after", 2))
        for number in range(1, 6)
    }
    void = "round 3: the generator used 91% of its core"
    return Part(
        name="speed",
        title="Before and after",
        claims=[
            Claim(
                id="pool", sentence="A pool of connections makes a page of users ten times as fast",
                source="the README", measured="`GET /api/v1/users`, a new connection a request, and a pool",
                wanted=10, values=[11.2, 12.4, 10.9, 13.1, 12.0], data=[*runs],
            ),
            Claim(
                id="edge", sentence="The gateway costs less than a fifth of the rate", source="contract",
                measured="the products through the gateway and without it", wanted=0.8,
                values=[0.71, 0.69, 0.74, 0.70, 0.72], data=["after round 1"],
            ),
            Claim(
                id="p99", sentence="The 99th percentile stays below 50 ms at half of the knee", source="contract",
                measured="an open loop at half of the knee's rate", wanted=50, better="less", unit="ms",
                values=[31.0, 62.0, 44.0, 49.9996, 38.0], data=["after round 1", "after round 2", "no such run"],
            ),
            Claim(
                id="peers", sentence="As fast as its twin", source="contract", measured="both", wanted=1.0, values=[],
                void=[void, void, "round 4: the machine slept"],
            ),
            Claim(
                id="later", sentence="Half a million users fit into 1 GiB", source="the README", measured="nothing yet",
                wanted=1024, better="less", unit="MiB", values=[],
            ),
        ],
        tables=[
            Table(
                id="rates", title="Rates", columns=["subject", "answers/s", "p99, ms", "lost", "clean"],
                rows=[["before", 1234.56, 61.23, 0, True], ["after", 23456.7, 6.123, None, False]],
                data=["before round 1", "after round 1"], note="Five rounds; `before` connects every time.",
            ),
            Table(id="no-data", title="Without runs of its own", columns=["a"], rows=[["b"]]),
        ],
        pictures=[
            Curves(
                id="knee", title="Latency against rate, up to the knee", x="offered, requests/s", y="latency, ms",
                log_y=True, marks=[(3000, "knee before"), (21000, "knee after")], log_x=True,
                note="Every point is the median of five rounds; the band is from the lowest to the highest.",
                lines=[
                    _bent("before: median", 3000, 4), _bent("before: 99th percentile", 3000, 16),
                    _bent("after: median", 21000, 1), _bent("after: 99th percentile", 21000, 4),
                ],
            ),
            Bars(
                id="rate", title="A page of users: answers a second", unit="1/s", log=True,
                bars=[
                    Bar(name="before: a new connection a request", values=[1180, 1230, 1260, 1150, 1240]),
                    Bar(name="after: pooled", values=[12100, 13900, 12800, 13300, 12200]),
                    Bar(name="after: from Redis", values=[22000, 25000, 23456, 24100, 19000]),
                    Bar(name="never measured", values=[]),
                ],
            ),
            Bars(
                id="share", title="Of the whole rate", unit="%",
                bars=[Bar(name="edge", values=[0.71, 0.69, 0.74, 0.70, 0.72]), Bar(name="nothing", values=[0.0])],
            ),
        ],
        runs=runs,
    )  # fmt: skip


def _bent(name: str, knee: float, floor_ms: float) -> Line:
    rates = [knee * share for share in (0.1, 0.2, 0.4, 0.6, 0.8, 0.9, 1.0, 1.1)]
    points = [(rate, floor_ms * (1 + 40 * max(0.0, rate / knee - 0.75) + 0.3 * rate / knee)) for rate in rates]
    return Line(
        name=name, points=points, low=[0.8 * y for _, y in points], high=[1.4 * y for _, y in points]
    )  # fmt: skip


def _outage() -> Part:
    dice = random.Random(2)
    runs = {
        "with retry": _outcome(dice, middle_ms=3, timeline=True),
        "without retry": _outcome(dice, middle_ms=3, failing=0.9, timeline=True),
    }

    def share(key: str) -> list[tuple[float, float]]:
        steps = runs[key]["timeline"]["answered_and_failed"]
        return [(n / 10, failed / max(answered + failed, 1)) for n, (answered, failed) in enumerate(steps)]

    return Part(
        name="outage",
        title="The database goes away for two seconds",
        claims=[
            Claim(
                id="retry", sentence="Retries hide it", source="the runbook", measured="errors with retry",
                wanted=0.999, unit="%", values=[0.99996, 0.99999, 0.9999, 0.99995, 1.0], data=["with retry"],
            ),
            Claim(
                id="none", sentence="Nothing is lost", source="contract", measured="lost writes", wanted=0,
                better="less", unit="writes", values=[0, 0, 0, 0, 0, 0, 0, 0], data=["with retry", "without retry"],
            ),
        ],
        pictures=[
            Curves(
                id="errors", title="Share of requests that failed", x="seconds since the beginning", y="failed, share",
                lines=[Line(name=key, points=share(key)) for key in runs],
                marks=[(3.0, "database away"), (5.0, "database back")],
            ),
            Curves(
                id="memory", title="Memory over time", x="requests", y="MiB",
                lines=[
                    Line(name=name, points=[(n * 1000, floor + n * 0.03 + dice.random()) for n in range(100)])
                    for name, floor in (("catalogue", 87), ("user", 122), ("gateway", 131), ("links", 96))
                ],
            ),
        ],
        runs=runs,
    )  # fmt: skip


def _hostile() -> Part:
    return Part(
        name=HOSTILE,
        title=HOSTILE,
        claims=[
            Claim(
                id=HOSTILE, sentence=HOSTILE, source=HOSTILE, measured=HOSTILE, wanted=1, values=[1, 2], unit=HOSTILE,
                data=[HOSTILE], void=[HOSTILE],
            ),
            Claim(
                id="few", sentence="Fast", source="contract", measured="twice", wanted=1, values=[1.5, 1.6],
                data=[HOSTILE],
            ),
        ],
        tables=[Table(id="t", title=HOSTILE, columns=[HOSTILE], rows=[[HOSTILE]], data=[HOSTILE], note=HOSTILE)],
        pictures=[
            Curves(
                id=HOSTILE, title=HOSTILE, x=HOSTILE, y=HOSTILE, note=HOSTILE, marks=[(1, HOSTILE)], log_y=True,
                lines=[Line(name="_" + HOSTILE, points=[(0, 0), (1, -1)]), Line(name="日本語", points=[])],
            ),
            Bars(id=HOSTILE, title=HOSTILE, unit=HOSTILE, bars=[Bar(name=HOSTILE, values=[1])], note=HOSTILE),
            Curves(id="empty", title="No lines", x="x", y="y", lines=[]),
            Bars(id="empty", title="No bars", unit="x", bars=[], log=True),
        ],
        runs={HOSTILE: {HOSTILE: HOSTILE}, HOSTILE.lower(): [], "long": ["x" * 500, *range(1000)]},
    )  # fmt: skip
