"""Requests that two parsers could read differently, at every service and through the gateway: never a desync."""

from __future__ import annotations

import itertools
import os
import random
import re
from collections.abc import Iterable, Sequence

import pytest

from tests.hostile.framing import CASES, Case
from tests.hostile.stage import Stage, Watch
from tests.hostile.talk import Talk, Way, all_of, talk
from tests.promises import Promise

pytestmark = pytest.mark.hostile

LONG = bool(os.environ.get("LONG"))
_SMUGGLED = re.compile(r"/smuggled/([0-9a-f]{8})")


def ways(stage: Stage) -> tuple[Way, ...]:
    """Straight at every service, and through the gateway to each."""
    gateway = stage.port("gateway")
    return (
        Way("catalogue", "catalogue", stage.port("catalogue"), b"/api/products/hostile"),
        Way("user", "user", stage.port("user"), b"/api/v1/users"),
        Way("links", "links", stage.port("links"), b"/api/v1/links"),
        Way("gateway to catalogue", "gateway", gateway, b"/api/products/hostile"),
        Way("gateway to user", "gateway", gateway, b"/api/v1/users"),
        Way("gateway to links", "gateway", gateway, b"/links", b"application/x-www-form-urlencoded"),
    )


def converse(jobs: Iterable[tuple[Way, Sequence[Case], int | None]]) -> list[tuple[Way, Talk, list[str]]]:
    """Hold these conversations."""

    async def one(job: tuple[Way, Sequence[Case], int | None]) -> tuple[Way, Talk, list[str]]:
        way, cases, split = job
        done, marks = await talk(way, cases, split=split)
        return way, done, marks

    return all_of(one, jobs)


def smuggled(watch: Watch) -> list[str]:
    """Requests that were hidden in others and that a service took for requests."""
    return [
        f"{service}: {record['message']}"
        for service in ("gateway", "catalogue", "user", "links")
        for record in watch.requests(service)
        if _SMUGGLED.search(record["path"]) or record["request_id"].startswith("s-")
    ]


def twice(watch: Watch) -> list[str]:
    """Ids under which one service has seen two requests."""
    found = []
    for service in ("gateway", "catalogue", "user", "links"):
        ids = sorted(record["request_id"] for record in watch.requests(service))
        found += [f"{service}: {a}" for a, b in itertools.pairwise(ids) if a == b and a.startswith(("r-", "canary-"))]
    return found


def judge(
    promise: Promise, stage: Stage, watch: Watch, held: list[tuple[Way, Talk, list[str]]], *, what: str, ways: int
) -> None:
    """The rows that all conversations have."""
    stage.settle()
    faults = [f"{way.name}: {done}: {fault}" for way, done, _ in held if (fault := done.fault())]
    hidden, double = smuggled(watch), twice(watch)
    errors, traces = watch.server_errors(), watch.tracebacks()
    total = f"{len(held)} conversations over {ways} ways"
    promise(what, "every answer belongs to its request", f"{total}: {len(faults)} desyncs", holds=not faults)
    promise(what, "no hidden request is seen by any service", f"{len(hidden)} of {total}", holds=not hidden)
    promise(what, "no request is seen twice", f"{len(double)} of {total}", holds=not double)
    promise(
        what, "client faults are no 5xx and no traceback", f"{len(errors)} 5xx, {len(traces)} tracebacks",
        holds=not errors and not traces,
    )  # fmt: skip
    found = (*faults, *hidden, *double, *errors, *traces)
    assert not found, "\n".join(line[:400] for line in found[:60])


def test_every_request_of_the_corpus(stage: Stage, promise: Promise) -> None:
    """One of them and a canary on a connection: the bad one is the end of it, or both are answered, each as itself."""
    roads = ways(stage)
    watch = stage.watch()
    held = converse((way, (case,), None) for case in CASES for way in roads)
    judge(promise, stage, watch, held, what="ambiguous framing", ways=len(roads))
    cases = {case.name: case for case in CASES}
    wrong, lenient = [], []
    for way, done, _ in held:
        case = cases[done.said[0]]
        first = done.replies[0].status if done.replies else 0
        if way.service == "gateway":
            if case.gateway is not None and case.whole and first != case.gateway:
                wrong.append(f"{way.name}: {done}: want {case.gateway}")
        elif case.service and case.whole and not (400 <= first < 500 and len(done.replies) == 1):
            lenient.append(f"{way.name}: {done}")
    promise(
        "ambiguous framing", "the gateway says what is wrong: 400, 405, 413 or 431",
        f"{len(wrong)} otherwise", holds=not wrong,
    )  # fmt: skip
    promise(
        "ambiguous framing", "a service refuses it as well, and closes",
        f"{len(lenient)} otherwise", holds=not lenient,
    )  # fmt: skip
    assert not wrong + lenient, "\n".join((wrong + lenient)[:60])


def test_split_in_two(stage: Stage, promise: Promise) -> None:
    """The same in two packets: where a packet ends makes no difference. In the long form everywhere, else at random."""
    roads = [way for way in ways(stage) if "user" in way.name]
    random.seed(8)
    jobs = []
    for case in CASES:
        length = len(case.sent)
        if length > 3000:
            continue
        points = range(1, length) if LONG else sorted(random.sample(range(1, length), 2))
        jobs += [(way, (case,), point) for point in points for way in roads]
    watch = stage.watch()
    judge(promise, stage, watch, converse(jobs), what="ambiguous framing in two packets", ways=len(roads))


def test_pipelined_pairs(stage: Stage, promise: Promise) -> None:
    """Two of them behind one another, and a canary. In the long form all pairs, else some at random."""
    roads = [way for way in ways(stage) if "user" in way.name]
    small = [case for case in CASES if case.whole and len(case.sent) < 3000]
    pairs = list(itertools.product(small, small))
    if not LONG:
        random.seed(8)
        # What is refused is the end: more is learnt from the pairs of which the first is taken.
        pairs = random.sample([pair for pair in pairs if pair[0].gateway is None], 500)
    watch = stage.watch()
    held = converse((way, pair, None) for pair in pairs for way in roads)
    judge(promise, stage, watch, held, what="ambiguous framing in pairs", ways=len(roads))
