"""Pooling, the rate, and what a connection costs: the user page as it was, in steps, to the service as it is.

Every server has one worker on one core, the same database of 100,000 users, and one after the other in each round the
same kind of load: half as many requests again as it can answer, so that what it answers is what it can do.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest import checks
from loadtest.evidence import scrape
from loadtest.evidence.knee import WITHIN_S, Step, knee
from loadtest.evidence.record import Bar, Bars, Claim, Curves, Line, Part, Table
from loadtest.evidence.scrape import Spent
from loadtest.evidence.stage import Stage
from loadtest.generator import run_wrk
from loadtest.openloop import Offer, Outcome, get
from loadtest.servers import RunningServer, http_get
from loadtest.subjects import USERS_PATH, peer, service

SOURCE = "003_bfebc698bfd13724.txt"
OVERLOAD = 1.5
"""Of what a server is thought to do."""
SATURATED_AT_MOST = 0.9
"""Of what is offered. A server that answers more than this had time left: what it can do is not known."""
FAILED_AT_MOST = 0.01
_MORE_TRIES = 2
_CONNECTIONS = 32
_SWEEP = (0.2, 0.4, 0.6, 0.75, 0.9, 1.0, 1.1)
_SWEEP_QUICK = (0.3, 0.7, 1.1)
_STEPS_AT_MOST = 10

AS_WAS, SYNC, UNPOOLED, POOLED, UNCACHED, SHIPPED = (
    "as-was", "sync", "unpooled", "only-pooled", "uncached", "shipped",
)  # fmt: skip
STEPS = {
    AS_WAS: "as it was: all 100,000 users in an answer, connects for each, sync worker",
    SYNC: "… with pages: 50 users in an answer",
    UNPOOLED: "… and 8 threads instead of the sync worker",
    POOLED: "… and a pool, nothing else",
    UNCACHED: "the shipped service without its cache",
    SHIPPED: "the shipped service",
}
"""What is measured, in the order of the table: each adds something to the one before."""


@dataclass
class Side:
    """One server and what it has done in each round."""

    name: str
    server: RunningServer
    capacity: float
    """Answers a second, a guess: of a closed loop at first, then of the last round. Offers follow from it."""
    outcomes: list[Outcome] = field(default_factory=list)
    spent: list[Spent] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Answers a second in each round that says something."""
        return [outcome.answered_per_second for outcome in self.outcomes if not useless(outcome)]


def expected_s(quick: bool) -> float:
    """Seconds that `measure` takes, about."""
    return 42 if quick else 195


def measure(stage: Stage) -> Part:
    """All of them in turn, then two of them at rising rates. Raises BenchError if one answers wrongly."""
    began_s = time.monotonic()
    database = stage.stores.users_database("bench")
    sides = _started(stage, database)
    runs: dict[str, Any] = {}
    for number in range(1, stage.rounds + 1):
        for side in sides.values():
            stage.say(f"claims: round {number}, {side.name}")
            _round(stage, side, database, number)
            runs[f"{side.name}-{number}"] = {**side.outcomes[-1].record(), "connections": side.spent[-1].record()}
            stage.keep_time(began_s)
    swept = {name: _swept(stage, sides[name], runs, began_s) for name in (SYNC, SHIPPED)}
    return Part(
        name="claims",
        title="Pooling, requests a second, and the cost of a connection",
        claims=_claims(sides),
        tables=[_steps_table(sides), _connections_table(sides), _latency_table(swept)],
        pictures=[_steps_picture(sides), _latency_picture(swept)],
        runs=runs,
    )


def _started(stage: Stage, database: str) -> dict[str, Side]:
    stage.say("claims: starting")
    launches = {
        AS_WAS: peer("users-as-was", "users_as_was:create_app()", DATABASE_URL=database, WORKER_CLASS="sync"),
        SYNC: peer("users-unpooled-sync", "users_unpooled:create_app()", DATABASE_URL=database, WORKER_CLASS="sync"),
        UNPOOLED: peer("users-unpooled", "users_unpooled:create_app()", DATABASE_URL=database),
        POOLED: peer("users-no-retry", "users_no_retry:create_app()", DATABASE_URL=database),
        UNCACHED: service("user-uncached", DATABASE_URL=database),
        SHIPPED: service("user", DATABASE_URL=database, REDIS_URL=stage.stores.redis_url),
    }
    servers = {name: stage.run(launch) for name, launch in launches.items()}
    checks.require_cache_state(servers[UNCACHED], USERS_PATH, "BYPASS")
    checks.require_cache_state(servers[SHIPPED], USERS_PATH, "HIT")
    ours = checks.answer_body(servers[SHIPPED], USERS_PATH)
    for name in (SYNC, UNPOOLED, POOLED, UNCACHED):
        checks.require_same_answer(ours, checks.answer_body(servers[name], USERS_PATH), name=name)
    return {name: Side(name, server, _capacity(name, server)) for name, server in servers.items()}


def _capacity(name: str, server: RunningServer) -> float:
    if name == AS_WAS:  # wrk would give up before the first answer
        began_s = time.monotonic()
        http_get(server.url + USERS_PATH)
        return 1 / (time.monotonic() - began_s)
    return run_wrk(server.url + USERS_PATH, seconds=1, connections=_CONNECTIONS).per_second


def _round(stage: Stage, side: Side, database: str, number: int) -> None:
    """One round of one side. If nearly all was answered, the guess was too low: once more, with more."""
    outcome, spent = _overloaded(stage, side, database, number)
    for _ in range(_MORE_TRIES):
        if outcome.answered_per_second <= SATURATED_AT_MOST * outcome.offered:
            break
        side.capacity = OVERLOAD * outcome.answered_per_second
        outcome, spent = _overloaded(stage, side, database, number)
    side.capacity = max(outcome.answered_per_second, side.capacity / 2)
    side.outcomes.append(outcome)
    side.spent.append(spent)


def _overloaded(stage: Stage, side: Side, database: str, number: int) -> tuple[Outcome, Spent]:
    slow = side.name == AS_WAS
    before = _spent_so_far(side, database)
    side.server.empty_log()
    outcome = stage.offer(
        Offer(
            port=side.server.port,
            requests=(get(USERS_PATH),),
            per_second=OVERLOAD * side.capacity,
            seconds=min(10, (2 if stage.quick else 5) / side.capacity) if slow else 1.2 if stage.quick else 2.5,
            warm_up_s=0.5,
            connections=4 if slow else _CONNECTIONS,
            timeout_s=30,  # longer than any queue that can grow here: an answer that is given up is work for nothing
            seed=number,
        )
    )
    after = _spent_so_far(side, database)
    return outcome, Spent(
        requests=after.requests - before.requests,
        seconds=after.seconds - before.seconds,
        sessions=after.sessions - before.sessions - 1,  # our own look
    )


def _spent_so_far(side: Side, database: str) -> Spent:
    connecting, waiting = scrape.of(side.server, "db_connect_seconds_sum", "db_pool_wait_seconds_sum")
    return Spent(
        requests=scrape.requests(side.server),
        seconds=connecting + waiting,
        sessions=scrape.sessions(database),
    )


def _swept(stage: Stage, side: Side, runs: dict[str, Any], began_s: float) -> list[Step]:
    capacity = statistics.median(side.rates) if side.rates else side.capacity
    found: list[Step] = []
    parts = list(_SWEEP_QUICK if stage.quick else _SWEEP)
    for part in parts:
        stage.say(f"claims: {side.name} at {part:.0%} of what it can do")
        side.server.empty_log()
        outcome = stage.offer(
            Offer(
                port=side.server.port, requests=(get(USERS_PATH),), per_second=part * capacity,
                seconds=1 if stage.quick else 2, warm_up_s=0.3, connections=64,
            )
        )  # fmt: skip
        key = f"{side.name}-at-{part:g}"
        runs[key] = outcome.record()
        found.append(Step(key=key, outcome=outcome))
        if part == parts[-1] and found[-1].in_time and len(parts) < _STEPS_AT_MOST:
            parts.append(round(part * 1.3, 2))  # it can do more than was thought: the knee is still to come
        stage.keep_time(began_s)
    return found


def useless(outcome: Outcome) -> str:
    """Why an outcome does not tell what the server can do; "" if it does."""
    if outcome.void:
        return outcome.void
    if outcome.answered_per_second > SATURATED_AT_MOST * outcome.offered:
        return f"it answered {outcome.answered_per_second:.0f} a second of {outcome.offered:.0f}: it could do more"
    if outcome.failed > FAILED_AT_MOST * outcome.count:
        return f"{outcome.failed} of {outcome.count} requests failed"
    return ""


def paired(before: Sequence[Outcome], after: Sequence[Outcome]) -> tuple[list[int], list[str]]:
    """The rounds (from 0) in which both sides say something, and why the others do not."""
    good, void = [], []
    for number, pair in enumerate(zip(before, after, strict=True)):
        reasons = [
            f"{side}: {reason}"
            for side, outcome in zip(("before", "after"), pair, strict=True)
            if (reason := useless(outcome))
        ]
        if reasons:
            void.append(f"round {number + 1}: {'; '.join(reasons)}")
        else:
            good.append(number)
    return good, void


def _ratios(before: Side, after: Side) -> tuple[list[float], list[str]]:
    good, void = paired(before.outcomes, after.outcomes)
    return [
        after.outcomes[number].answered_per_second / before.outcomes[number].answered_per_second for number in good
    ], void


def saved(before: Sequence[Spent], after: Sequence[Spent]) -> list[float]:
    """How much less of a request's time goes into its connection, as a part of what it was, round by round."""
    return [1 - new.us_per_request / old.us_per_request for old, new in zip(before, after, strict=True)]


def _claims(sides: dict[str, Side]) -> list[Claim]:
    pooling, pooling_void = _ratios(sides[UNPOOLED], sides[UNCACHED])
    rate, rate_void = _ratios(sides[SYNC], sides[SHIPPED])
    good, less_void = paired(sides[UNPOOLED].outcomes, sides[UNCACHED].outcomes)
    less = saved(*([sides[name].spent[number] for number in good] for name in (UNPOOLED, UNCACHED)))
    return [
        Claim(
            id="pooling",
            sentence="Connection pooling: 10 to 50 times the requests a second under load",
            source=SOURCE,
            measured=(
                "The same page of 50 users, 8 threads, no cache. Before: a new PostgreSQL connection for each request. "
                f"After: the shipped service. Answers a second when {OVERLOAD:g} times as much is asked for. The step "
                "that changes nothing but the pool is in the table."
            ),
            wanted=10,
            values=pooling,
            data=_keys(sides[UNPOOLED], sides[UNCACHED]),
            void=pooling_void,
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
                "Time of a request until it has a connection to PostgreSQL, by the servers' own metrics over the "
                "rounds of the pooling claim. Before: in psycopg2.connect. After: waiting for a pooled one, or making "
                "it."
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


def _latency_table(swept: dict[str, list[Step]]) -> Table:
    steps = [(name, step) for name, found in swept.items() for step in found]
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


def _latency_picture(swept: dict[str, list[Step]]) -> Curves:
    ends = {name: knee(found) for name, found in swept.items()}
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
            for name, found in swept.items()
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
