"""Pooling, the rate, and what a connection costs: the user page as it was, in steps, to the service as it is.

Every server has one worker on one core, the same database of 100,000 users, and one after the other in each round the
same kind of load: half as many requests again as it can answer, so that what it answers is what it can do.
"""

from __future__ import annotations

import statistics
import time
from typing import Any

from loadtest.evidence.knee import WITHIN_S, Step, knee
from loadtest.evidence.record import Bar, Bars, Claim, Curves, Line, Part, Table
from loadtest.evidence.rounds import (
    AS_WAS,
    OVERLOAD,
    POOLED,
    ROUNDS,
    SHIPPED,
    SLOW_ROUNDS,
    STEPS,
    SYNC,
    UNCACHED,
    UNPOOLED,
    Side,
    one_round,
    paired,
    saved,
    started,
    swept,
)
from loadtest.evidence.stage import Stage

SOURCE = "review of the user service"


def expected_s(quick: bool) -> float:
    """Seconds that `measure` takes, about."""
    return 45 if quick else 185


def measure(stage: Stage) -> Part:
    """All of them in turn, then two of them at rising rates. Raises BenchError if one answers wrongly."""
    began_s = time.monotonic()
    database = stage.stores.users_database("bench")
    sides = started(stage, database)
    runs: dict[str, Any] = {}
    for number in range(1, (stage.rounds if stage.quick else ROUNDS) + 1):
        for side in sides.values():
            if side.name == AS_WAS and number > SLOW_ROUNDS:
                continue
            stage.say(f"claims: round {number}, {side.name}")
            one_round(stage, side, database, number)
            runs[f"{side.name}-{number}"] = {**side.outcomes[-1].record(), "connections": side.spent[-1].record()}
            stage.keep_time(began_s)
    rising = {name: swept(stage, sides[name], runs, began_s) for name in (SYNC, SHIPPED)}
    return Part(
        name="claims",
        title="Pooling, requests a second, and the cost of a connection",
        claims=_claims(sides),
        tables=[_steps_table(sides), _connections_table(sides), _latency_table(rising)],
        pictures=[_steps_picture(sides), _latency_picture(rising)],
        runs=runs,
    )


def _ratios(before: Side, after: Side) -> tuple[list[float], list[str]]:
    good, void = paired(before.outcomes, after.outcomes)
    return [
        after.outcomes[number].answered_per_second / before.outcomes[number].answered_per_second for number in good
    ], void


def _claims(sides: dict[str, Side]) -> list[Claim]:
    pooling, pooling_void = _ratios(sides[SYNC], sides[UNCACHED])
    alone, alone_void = _ratios(sides[UNPOOLED], sides[POOLED])
    rate, rate_void = _ratios(sides[SYNC], sides[SHIPPED])
    good, less_void = paired(sides[UNPOOLED].outcomes, sides[UNCACHED].outcomes)
    less = saved(*([sides[name].spent[number] for number in good] for name in (UNPOOLED, UNCACHED)))
    return [
        Claim(
            id="pooling",
            sentence="Connection pooling: 10 to 50 times the requests a second under load",
            source=SOURCE,
            measured=(
                "A page of 50 users, no cache on either side. Before, as the document describes it: a new PostgreSQL "
                "connection for each request, on a sync worker. After: the shipped service without its cache. Answers "
                f"a second when {OVERLOAD:g} times as much is asked for."
            ),
            wanted=10,
            values=pooling,
            data=_keys(sides[SYNC], sides[UNCACHED]),
            void=pooling_void,
        ),
        Claim(
            id="pooling-alone",
            sentence="The pool by itself, with nothing else changed: 10 times",
            source=SOURCE,
            measured=(
                "The stricter reading of the claim before: the same Flask application with 8 threads, with a "
                "connection for each request and with a pool."
            ),
            wanted=10,
            values=alone,
            data=_keys(sides[UNPOOLED], sides[POOLED]),
            void=alone_void,
        ),
        Claim(
            id="rate",
            sentence="From about 100 requests a second to more than 1,000",
            source=SOURCE,
            measured=(
                "A page of 50 users. Before: a connection for each request and a sync worker, but already in pages: "
                "with 100,000 users in an answer it is nowhere near the 100 a second that the document starts from "
                "(the table has it), and the ratio would be about the size of the answer. After: the shipped service, "
                "cached."
            ),
            wanted=10,
            values=rate,
            data=_keys(sides[SYNC], sides[SHIPPED]),
            void=rate_void,
        ),
        Claim(
            id="connection-overhead",
            sentence="90 % less connection overhead",
            source=SOURCE,
            measured=(
                "Time of a request until it has a connection to PostgreSQL, by the servers' own metrics over the same "
                "rounds, with 8 threads and no cache on both sides. Before: in psycopg2.connect. After: waiting for a "
                "pooled one, or making it."
            ),
            wanted=0.9,
            values=less,
            unit="%",
            data=_keys(sides[UNPOOLED], sides[UNCACHED]),
            void=less_void,
        ),
    ]


def _keys(*sides: Side) -> list[str]:
    return [f"{side.name}-{number}" for number in range(1, len(sides[0].outcomes) + 1) for side in sides]


def _steps_table(sides: dict[str, Side]) -> Table:
    rows: list[list[str | float | None]] = []
    last = None
    for name, text in STEPS.items():
        side = sides[name]
        rate = statistics.median(side.rates) if side.rates else None
        p50_ms = statistics.median(outcome.p(50) * 1000 for outcome in side.outcomes)
        rows.append([text, rate, rate / last if rate and last else None, len(side.rates), p50_ms])
        last = rate
    return Table(
        id="steps",
        title="What each change brings",
        columns=("server", "answers a second", "times the one above", "rounds that count", "p50 in this overload, ms"),
        rows=rows,
        data=[f"{name}-1" for name in STEPS],
        note=(
            "One worker on one core each. An answer with all 100,000 users is two thousand times a page: the first "
            "step is about that, and no claim is made of it. Where 8 threads are no faster than one, the core was "
            "busy already."
        ),
    )


def _connections_table(sides: dict[str, Side]) -> Table:
    names = (AS_WAS, SYNC, UNPOOLED, UNCACHED, SHIPPED)
    return Table(
        id="connections",
        title="What requests spend on their connections to PostgreSQL",
        columns=("server", "µs a request until it has one", "sessions opened for 1,000 requests"),
        rows=[
            [
                STEPS[name],
                statistics.median(spent.us_per_request for spent in sides[name].spent),
                statistics.median(spent.sessions_per_thousand for spent in sides[name].spent),
            ]
            for name in names
        ],
        data=[f"{name}-1" for name in names],
        note="Sessions by PostgreSQL's own count (pg_stat_database). A page from the cache needs no connection.",
    )


def _steps_picture(sides: dict[str, Side]) -> Bars:
    return Bars(
        id="steps",
        title="Answers a second, step by step",
        unit="1/s",
        bars=[Bar(name=STEPS[name], values=sides[name].rates) for name in STEPS],
        log=True,
    )


def _latency_table(rising: dict[str, list[Step]]) -> Table:
    steps = [(name, step) for name, found in rising.items() for step in found]
    return Table(
        id="latency",
        title="Latency against rate",
        columns=(
            "server", "offered a second", "answered a second", "p50, ms", "p99, ms", "failed", "missed",
            "generator's core, %", "void",
        ),
        rows=[
            [
                STEPS[name], step.rate, step.outcome.answered_per_second, step.p_ms(50), step.p_ms(99),
                step.outcome.failed, step.outcome.missed, 100 * step.outcome.generator_cpu, step.outcome.void or None,
            ]
            for name, step in steps
        ],
        data=[step.key for _, step in steps],
    )  # fmt: skip


def _latency_picture(rising: dict[str, list[Step]]) -> Curves:
    ends = {name: knee(found) for name, found in rising.items()}
    words = {SYNC: "before", SHIPPED: "after"}
    return Curves(
        id="latency",
        title="Latency against rate, up to the knee",
        x="requests offered a second",
        y="ms from the intended time to the answer",
        lines=[
            Line(
                name=f"{words[name]}, p{percent}",
                points=[(step.rate, step.p_ms(percent)) for step in found if step.counts],
            )
            for name, found in rising.items()
            for percent in (50, 99)
        ],
        log_x=True,
        log_y=True,
        marks=[(end, f"knee {words[name]}") for name, end in ends.items() if end],
        note=(
            "Open loop: latency counts from the time at which a request was due, so waiting in a queue is in it. "
            "Before: pages, a connection for each request, sync worker; after: the shipped service. The knee is the "
            f"highest rate at which 99 % are answered within {WITHIN_S * 1000:.0f} ms."
        ),
    )
