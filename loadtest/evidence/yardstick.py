"""How noisy this machine is now: what a bare function does in short runs, again and again, with nothing of ours in it.

Two kinds of run in turn, as in the other parts: a closed loop as fast as it goes, which shows how much of a core there
is, and an open loop at half that rate, which shows how long a core is sometimes away.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from typing import Any

from loadtest.evidence.record import Bar, Bars, Part, Table
from loadtest.evidence.stage import Stage
from loadtest.generator import Load, run_wrk
from loadtest.openloop import Offer, Outcome, get
from loadtest.report import spread
from loadtest.subjects import peer

QUIET_UP_TO = 0.1
"""Highest less lowest, as a part of the median. Above it, figures are about the machine (loadtest/README.md)."""
NOISY_UP_TO = 0.3
_CONNECTIONS = 32
_OPEN_AT = 2000.0
"""Requests a second: a fifth of what the function does on a usual core; the generator is to be at ease."""
_PATH = "/anything"


def expected_s(quick: bool) -> float:
    """Seconds that `measure` takes, about."""
    return 2 * _pairs(quick) + 1.5


def measure(stage: Stage) -> Part:
    """Closed, open, closed, open … against a function that answers four kilobytes that lie ready."""
    began_s = time.monotonic()
    stage.say("yardstick: starting")
    server = stage.run(peer("yardstick", "bare_wsgi:create_app()", observed=False), ready="/")
    closed: list[Load] = []
    opened: list[Outcome] = []
    for number in range(1, _pairs(stage.quick) + 1):
        stage.say(f"yardstick: pair {number}")
        closed.append(run_wrk(server.url + _PATH, seconds=1, connections=_CONNECTIONS))
        opened.append(
            stage.offer(
                Offer(port=server.port, requests=(get(_PATH),), per_second=_OPEN_AT, seconds=0.8, warm_up_s=0.1)
            )
        )
        stage.keep_time(began_s)
    return part(closed, opened)


def word(spread: float) -> str:
    """What the machine is, in a word."""
    return "quiet" if spread <= QUIET_UP_TO else "noisy" if spread <= NOISY_UP_TO else "very noisy"


def part(closed: Sequence[Load], opened: Sequence[Outcome]) -> Part:
    """What those runs, in pairs, say about the machine."""
    rates = [load.per_second for load in closed]
    halves_ms = [outcome.p(50) * 1000 for outcome in opened]
    tails_ms = [outcome.p(99) * 1000 for outcome in opened]
    voids = sum(1 for outcome in opened if outcome.void)
    verdict = word(spread(rates))
    meaning = {
        "quiet": "The machine is quiet: a difference of a tenth between two figures of this report means something.",
        "noisy": "The machine is noisy: other programs run on it, or its cores are shared. Ratios taken within a round "
        "stand; do not read absolute figures too closely.",
        "very noisy": "The machine is very noisy: what it does alone changes by more than 30 % within seconds. Take "
        "figures that are near a limit as unknown.",
    }[verdict]
    runs: dict[str, Any] = {f"open-{number}": outcome.record() for number, outcome in enumerate(opened, 1)}
    runs["closed"] = [{"per_second": round(load.per_second, 1), "p99_ms": load.p99_ms} for load in closed]
    return Part(
        name="yardstick",
        title=f"The machine: {verdict}",
        tables=[
            Table(
                id="yardstick",
                title="A bare function, again and again",
                columns=("what", "median", "lowest", "highest", "spread, %"),
                rows=[
                    _row("answers a second, closed loop", rates),
                    _row(f"p50 at {_OPEN_AT:.0f} a second, ms", halves_ms),
                    _row(f"p99 at {_OPEN_AT:.0f} a second, ms", tails_ms),
                    ["open loops whose generator had no core", voids, None, None, None],
                ],
                data=["closed", "open-1", "open-1", "open-1"],
                note=(
                    f"{meaning} The word goes by the spread of the first row: up to {QUIET_UP_TO:.0%} quiet, up to "
                    f"{NOISY_UP_TO:.0%} noisy."
                ),
            )
        ],
        pictures=[
            Bars(
                id="yardstick",
                title="The same function, run after run",
                unit="1/s",
                bars=[Bar(name=f"run {number}", values=[rate]) for number, rate in enumerate(rates, 1)],
            )
        ],
        runs=runs,
    )


def _row(what: str, values: Sequence[float]) -> list[str | float | int | None]:
    return [what, statistics.median(values), min(values), max(values), 100 * spread(values)]


def _pairs(quick: bool) -> int:
    return 3 if quick else 8
