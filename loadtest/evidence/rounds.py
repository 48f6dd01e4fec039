"""The rounds of the claims: each server in turn under more than it can answer, and some of them at rising rates."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest import checks
from loadtest.evidence import scrape
from loadtest.evidence.knee import Step
from loadtest.evidence.scrape import Spent
from loadtest.evidence.stage import Stage
from loadtest.generator import run_wrk
from loadtest.openloop import Offer, Outcome, get
from loadtest.servers import RunningServer, http_get
from loadtest.subjects import USERS_PATH, peer, service

OVERLOAD = 1.5
"""Of what a server is thought to do."""
SATURATED_AT_MOST = 0.9
"""Of what is offered. A server that answers more than this had time left: what it can do is not known."""
FAILED_AT_MOST = 0.01
ROUNDS = 8
"""More than elsewhere, and shorter: of eight, one outlier on each side decides nothing (order statistics)."""
SLOW_ROUNDS = 1
"""Of the service as it was, whose answers take a second or more each; nothing is claimed of it."""
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


def started(stage: Stage, database: str) -> dict[str, Side]:
    """All servers, ready, each of which was seen to answer the same page. Raises BenchError if one does not."""
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


def one_round(stage: Stage, side: Side, database: str, number: int) -> None:
    """One round of one side. If nearly all was answered, the guess was too low: once more, with more."""
    outcome, spent = _overloaded(stage, side, database, number)
    if outcome.answered_per_second > SATURATED_AT_MOST * outcome.offered:
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
            seconds=min(6, (1 if stage.quick else 4) / side.capacity) if slow else 0.8 if stage.quick else 1.5,
            warm_up_s=0.3 if stage.quick else 0.5,
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
    text = checks.exposition(side.server)
    return Spent(
        requests=scrape.requests(text),
        seconds=scrape.total(text, "db_connect_seconds_sum") + scrape.total(text, "db_pool_wait_seconds_sum"),
        sessions=scrape.sessions(database),
    )


def swept(stage: Stage, side: Side, runs: dict[str, Any], began_s: float) -> list[Step]:
    """A side at rising rates, parts of what it can do, until answers come late. Adds to `runs`."""
    capacity = statistics.median(side.rates) if side.rates else side.capacity
    found: list[Step] = []
    parts = list(_SWEEP_QUICK if stage.quick else _SWEEP)
    for part in parts:
        stage.say(f"claims: {side.name} at {part:.0%} of what it can do")
        side.server.empty_log()
        outcome = stage.offer(
            Offer(
                port=side.server.port, requests=(get(USERS_PATH),), per_second=part * capacity,
                seconds=0.8 if stage.quick else 1.5, warm_up_s=0.2, connections=64,
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


def saved(before: Sequence[Spent], after: Sequence[Spent]) -> list[float]:
    """How much less of a request's time goes into its connection, as a part of what it was, round by round."""
    return [1 - new.us_per_request / old.us_per_request for old, new in zip(before, after, strict=True)]
