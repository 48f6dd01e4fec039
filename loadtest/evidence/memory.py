"""Memory over a million requests: the service as it was, and as it is shipped.

A closed loop (wrk), as fast as the service goes: the question is what requests leave behind, not how long they take.
"""

from __future__ import annotations

import itertools
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

from loadtest import checks
from loadtest.evidence.record import Claim, Curves, Line, Part, Table
from loadtest.evidence.stage import Stage
from loadtest.generator import run_wrk
from loadtest.memory import of_tree
from loadtest.servers import RunningServer, http_get
from loadtest.subjects import USERS_PATH, peer, service

SOURCE = "review of the user service"
WINDOW = 100_000
SLOPE_AT_MOST_MIB = 1.0
"""For each WINDOW of requests (the demand of this project; the document says "constant")."""
_MIB = 2**20
_REQUESTS, _REQUESTS_QUICK = 1_000_000, 20_000
_AFTER_S, _AFTER_QUICK_S = 400.0, 8.0
"""What the million may take at the most."""
_BEFORE_S, _BEFORE_QUICK_S = 6.0, 2.0
_LOOKS = 20
"""How often memory is looked at on the way."""
_CONNECTIONS = 16
_CONNECTIONS_AT_FIRST = 64
"""More than there are threads and pooled connections: all of them are made before growth is counted."""
_FAILED_AT_MOST = 0.001
"""Of the requests between two looks; how many it were, and how they failed, is said. On two cores PostgreSQL shares one
with a worker and the generator, and Linux was seen to let one of its processes that was ready to run wait for 0.35 s
(state R, growing run delay in schedstat): a query that is not answered within its 0.8 s is a 503.
"""
_WORKERS = 2
_USERS = 100_000
_FEWER = 10_000

Point = tuple[float, float]


def expected_s(quick: bool) -> float:
    """Seconds that `measure` takes, about: at the most, if the machine is slow."""
    return (6 if quick else 12) + (_BEFORE_QUICK_S + _AFTER_QUICK_S if quick else _BEFORE_S + _AFTER_S)


def measure(stage: Stage) -> Part:
    """First the service as it was, for some seconds, then ours. Raises BenchError if more than a few of ours fail."""
    began_s = time.monotonic()
    stage.say("memory: starting")
    database = stage.stores.users_database("bench")
    was = stage.run(peer("users-as-was", "users_as_was:create_app()", DATABASE_URL=database, WORKER_CLASS="sync"))
    before = _as_was(stage, was, seconds=_BEFORE_QUICK_S if stage.quick else _BEFORE_S, began_s=began_s)
    was.stop()
    fewer = stage.stores.users_database("fewer", count=_FEWER)
    was = stage.run(peer("users-as-was-fewer", "users_as_was:create_app()", DATABASE_URL=fewer, WORKER_CLASS="sync"))
    before_fewer = _as_was(stage, was, seconds=1.5, began_s=began_s)
    was.stop()
    ours = stage.run(
        service("user", DATABASE_URL=database, REDIS_URL=stage.stores.redis_url, WEB_CONCURRENCY=str(_WORKERS))
    )
    ours.wait_until(lambda: len(ours.workers) == _WORKERS, "does not start its workers")
    stage.cores.share_out(ours.workers)  # a million takes minutes
    after, rss, failures = _loaded(
        stage,
        ours,
        wanted=_REQUESTS_QUICK if stage.quick else _REQUESTS,
        within_s=_AFTER_QUICK_S if stage.quick else _AFTER_S,
        began_s=began_s,
    )
    return part(before, before_fewer, after, rss, failures=failures, quick=stage.quick)


def _as_was(stage: Stage, server: RunningServer, *, seconds: float, began_s: float) -> list[Point]:
    points = [(0.0, of_tree(server.pid).once / _MIB)]
    end_s = time.monotonic() + seconds
    while time.monotonic() < end_s:
        stage.say(f"memory: as it was, {len(points)} requests")
        http_get(server.url + USERS_PATH)
        points.append((float(len(points)), of_tree(server.pid).once / _MIB))
        stage.keep_time(began_s)
    return points


def _loaded(
    stage: Stage, server: RunningServer, *, wanted: int, within_s: float, began_s: float
) -> tuple[list[Point], list[Point], Counter[str]]:
    """Memory counted once, and RSS summed, over the number of requests so far, in MiB; and what failed."""
    once: list[Point] = []
    summed: list[Point] = []

    def look(sent: int) -> None:
        seen = of_tree(server.pid)
        once.append((float(sent), seen.once / _MIB))
        summed.append((float(sent), seen.rss_sum / _MIB))

    look(0)
    end_s = time.monotonic() + within_s
    sent, seconds, failures = 0, 2.0, Counter[str]()
    while sent < wanted and (left_s := end_s - time.monotonic()) >= 1:
        stage.say(f"memory: {sent:,} requests")
        server.empty_log()
        connections = _CONNECTIONS if sent else _CONNECTIONS_AT_FIRST
        load = run_wrk(server.url, seconds=min(seconds, left_s), connections=connections, paths=mixed_paths())
        checks.require_clean(server.launch.name, load, at_most=_FAILED_AT_MOST)
        if checks.failed(load):
            failures += checks.failures(server, load)
        sent += load.requests
        look(sent)
        seconds = max(1.0, min(wanted / _LOOKS, wanted - sent) / load.per_second)
        stage.keep_time(began_s)
    return once, summed, failures


def mixed_paths() -> list[str]:
    """Pages by number and by id, most of which come from the cache, and single users, which do not. Always the same.

    Eighteen to one: with more single users there is no time for a million.
    """
    dice = random.Random(1)
    users = [f"/api/v1/users/{dice.randint(1, _USERS)}" for _ in range(10)]
    pages = [f"/api/v1/users?page={number}&per_page=20" for number in range(1, 61)]
    walks = [f"/api/v1/users?after={dice.randint(0, _USERS - 100)}&per_page=20" for _ in range(30)]
    paths = users + 2 * (pages + walks)
    dice.shuffle(paths)
    return paths


def at(points: Sequence[Point], x: float) -> float:
    """The height of the line through the points at `x`, which must not lie outside them."""
    for (left, low), (right, high) in itertools.pairwise(points):
        if left <= x <= right:
            return low + (high - low) * (x - left) / (right - left)
    raise ValueError(f"{x} lies outside the points")


def slopes(points: Sequence[Point], *, window: int = WINDOW) -> list[float]:
    """By how much the line rises over each whole window, but for the first one, in which a service warms up."""
    marks = range(window, int(points[-1][0]) + 1, window)
    heights = [at(points, mark) for mark in marks]
    return [high - low for low, high in itertools.pairwise(heights)]


def part(
    before: Sequence[Point],
    before_fewer: Sequence[Point],
    after: Sequence[Point],
    rss: Sequence[Point],
    *,
    failures: Mapping[str, int] = MappingProxyType({}),
    quick: bool,
) -> Part:
    """What those points say; `failures` are numbers of requests to the shipped service that failed, by how."""
    runs: dict[str, Any] = {
        name: [[int(sent), round(mib, 3)] for sent, mib in points]
        for name, points in (
            ("before", before),
            ("before-fewer", before_fewer),
            ("after", after),
            ("after-rss-summed", rss),
        )
    }
    sent = int(after[-1][0])
    wanted = _REQUESTS_QUICK if quick else _REQUESTS
    short = "" if sent >= wanted else f" The machine did not do {wanted:,} in the time that there was."
    if failures:
        short += " Not answered 200: " + ", ".join(f"{count:,} ({how})" for how, count in failures.items()) + "."
    too_few = "" if sent >= 2 * WINDOW else f" {sent:,} requests are too few for a slope: it takes a longer run."
    return Part(
        name="memory",
        title="Memory over many requests",
        claims=[
            Claim(
                id="memory",
                sentence="Memory usage: from unbounded growth to constant",
                source=SOURCE,
                measured=(
                    f"{sent:,} requests (pages, cached and not, and single users) to the shipped service with two "
                    f"workers, as fast as it takes them. Growth over each {WINDOW:,} requests after the first "
                    f"{WINDOW:,}: master and workers, shared pages counted once.{short}{too_few}"
                ),
                wanted=SLOPE_AT_MOST_MIB,
                values=slopes(after),
                better="less",
                unit="MiB",
                data=["after"],
            )
        ],
        tables=[
            Table(
                id="memory",
                title="Memory, MiB",
                columns=("service", "requests", "at the start", "after the first request", "most", "at the end"),
                rows=[
                    [f"as it was, one sync worker, {_FEWER:,} users", *_row(before_fewer)],
                    [f"as it was, one sync worker, {_USERS:,} users", *_row(before)],
                    ["shipped, two workers, counted once", *_row(after)],
                    ["shipped, two workers, RSS summed", *_row(rss)],
                ],
                data=["before-fewer", "before", "after", "after-rss-summed"],
                note=(
                    "As it was, every answer holds all users at once: memory grows with their number, and is looked at "
                    "between answers, when the most is over. It gets few requests, since each takes about a second. "
                    f"For the shipped service the third figure is that of the first look.{short}"
                ),
            )
        ],
        pictures=[
            Curves(
                id="memory",
                title="Memory over requests, as shipped",
                x="requests",
                y="MiB, two workers and their master",
                lines=[Line(name="counted once", points=after), Line(name="RSS summed", points=rss)],
            ),
            Curves(
                id="memory-before",
                title="Memory over requests, as it was",
                x="requests",
                y="MiB, one worker and its master",
                lines=[Line(name="counted once", points=before)],
            ),
        ],
        runs=runs,
    )


def _row(points: Sequence[Point]) -> list[float | int]:
    heights = [mib for _, mib in points]
    return [int(points[-1][0]), heights[0], heights[min(1, len(heights) - 1)], max(heights), heights[-1]]
