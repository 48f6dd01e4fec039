"""The rounds behind every curve of growth: kinds of requests at several sizes, one after another, A B C … A B C."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from loadtest.evidence.growth import Series
from loadtest.evidence.sequential import ask_for
from loadtest.evidence.stage import Stage
from loadtest.openloop import Outcome
from loadtest.servers import RunningServer


@dataclass(frozen=True)
class Kind:
    """One kind of request.

    Attributes:
        id, name: "first", "first page".
        requests: for a size, its requests, without end or as many as there may be; called once a size.
        at_most: requests in one round.
    """

    id: str
    name: str
    requests: Callable[[int], Iterator[bytes]]
    status: int = 200
    at_most: int = 100_000


@dataclass(kw_only=True)
class Grown:
    """What was seen to grow.

    Attributes:
        series: by id.
        facts: by size, what else was seen there.
        runs: raw data, by series and size.
        notes: what was left out, and why.
    """

    series: dict[str, Series] = field(default_factory=dict)
    facts: dict[int, dict[str, Any]] = field(default_factory=dict)
    runs: dict[str, Any] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


def measure_rounds(
    stage: Stage,
    found: Grown,
    kinds: Sequence[Kind],
    servers: Mapping[int, RunningServer],
    *,
    seconds: float,
    prefix: str,
    n: str,
    beside: tuple[RunningServer, Sequence[Kind]] | None = None,
) -> None:
    """Ask every server, by its size, for every kind, in `stage.rounds` rounds; what is seen is added to `found`.

    Args:
        beside: a server that stays as it is, and the same kinds for it: asked in the same rounds (`Series.scale`).

    Raises:
        BenchError: an answer is not what it should be.
    """
    requests = {(kind.id, size): kind.requests(size) for kind in kinds for size in servers}
    seen: dict[tuple[str, int], list[Outcome]] = {key: [] for key in requests}
    fixed: dict[str, list[Outcome]] = {kind.id: [] for kind in kinds}
    fixed_requests = {} if beside is None else {kind.id: kind.requests(0) for kind in beside[1]}

    def ask(kind: Kind, server: RunningServer, these: Iterator[bytes]) -> Outcome:
        outcome = ask_for(server.port, these, seconds=seconds, status=kind.status, at_most=kind.at_most)
        stage.progress.advance(stage.task, outcome.seconds)
        return outcome

    for _ in range(stage.rounds):
        for kind in kinds:
            if beside is not None:
                fixed[kind.id].append(ask(kind, beside[0], fixed_requests[kind.id]))
            for size, server in servers.items():
                seen[kind.id, size].append(ask(kind, server, requests[kind.id, size]))
    for server in servers.values():
        server.empty_log()
    for kind in kinds:
        for size in servers:
            add(found, f"{prefix}-{kind.id}", kind.name, n, size, seen[kind.id, size], beside=fixed[kind.id])


def add(
    found: Grown,
    series_id: str,
    name: str,
    n: str,
    size: int,
    outcomes: Sequence[Outcome],
    *,
    beside: Sequence[Outcome] = (),
) -> None:
    """Put the rounds of one kind at one size into its series, and their raw data into the runs."""
    series = found.series.setdefault(series_id, Series(id=series_id, name=name, n=n))
    together = merged(outcomes)
    series.costs[size] = [outcome.p(50) * 1000 for outcome in outcomes]
    series.p99[size] = together.p(99) * 1000
    runs = found.runs.setdefault(series_id, {})
    runs[str(size)] = {**together.record(), "round_p50_ms": [round(cost, 4) for cost in series.costs[size]]}
    if beside:
        series.beside[size] = [outcome.p(50) * 1000 for outcome in beside]
        runs[str(size)]["round_p50_ms_of_what_stays_as_it_is"] = [round(cost, 4) for cost in series.beside[size]]


def merged(outcomes: Sequence[Outcome]) -> Outcome:
    """One outcome of several that were alike."""
    whole = Outcome(sum(outcome.seconds for outcome in outcomes))
    for outcome in outcomes:
        whole.completed += outcome.completed
        for status, histogram in outcome.took.items():
            if status in whole.took:
                whole.took[status].add(histogram)
            else:
                whole.took[status] = histogram
    whole.offered = whole.count / whole.seconds
    return whole
