"""How the gateway bears clients that stay connected: a set rate with so many open, and all of them at once."""

from __future__ import annotations

import resource
import statistics
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace

from loadtest import memory
from loadtest.evidence.growth import Series
from loadtest.evidence.sequential import connected
from loadtest.evidence.sizes import Grown, add
from loadtest.evidence.stage import Stage, rounds
from loadtest.generator import Load, run_wrk
from loadtest.openloop import Offer, Outcome, get
from loadtest.servers import RunningServer
from loadtest.subjects import PRODUCTS_PATH

SIZES = (10, 100, 500, 2_000)
QUICK_SIZES = (10, 500)
PER_SECOND = 200.0
"""A modest rate: what is asked is what waiting connections cost, not what a queue does."""
_ACTIVE = 10
_FILES = 8_192
_MIB = 2**20
_SATURATED_S = 1.0
_WARM_UP_S = 0.2
_REST_WITHIN_S, _LOOK_S = 5.0, 0.1


def sizes(quick: bool) -> tuple[int, ...]:
    """The numbers of connections."""
    return QUICK_SIZES if quick else SIZES


def offered_s(quick: bool) -> float:
    """Seconds of the set rate in one round."""
    return 0.3 if quick else 0.5


def expected_s(quick: bool) -> float:
    """Seconds that `measure` takes, about."""
    opening = (rounds(quick) * sum(sizes(quick)) + sizes(quick)[-1]) / 2_000
    return 4 + opening + rounds(quick) * len(sizes(quick)) * (offered_s(quick) + _WARM_UP_S + _SATURATED_S + 0.3)


def measure(stage: Stage) -> Grown:
    """Ask one gateway over so many connections, in turn.

    Raises:
        BenchError: the gateway does not answer.
    """
    found = Grown()
    with files(_FILES):
        upstream = stage.fleet.upstream()
        # As many requests may be in flight as there are clients: by default 512, and those above are turned away.
        server = stage.fleet.gateway(
            "gateway-clients",
            catalogue=upstream,
            user=upstream,
            CACHE_BYTES="0",
            MAX_IN_FLIGHT="10000",
            UPSTREAM_MAX_CONNECTIONS="10000",
        )
        request = get(PRODUCTS_PATH)
        outcomes: dict[int, list[Outcome]] = {size: [] for size in sizes(stage.quick)}
        loads: dict[int, list[Load]] = {size: [] for size in sizes(stage.quick)}
        held = _held(server, request, sizes(stage.quick))
        for _ in range(stage.rounds):
            for size in outcomes:
                stage.say(f"scale: {size:,} clients")
                began_s = time.monotonic()
                outcomes[size].append(_at_rate(stage, server, request, size))
                loads[size].append(_saturated(server, size))
                _await_rest(server)
                spent_s = time.monotonic() - began_s - offered_s(stage.quick) - _WARM_UP_S
                stage.progress.advance(stage.task, max(spent_s, 0.0))
            server.empty_log()
    for size in outcomes:
        whole = [outcome for outcome in outcomes[size] if not outcome.void]
        if len(whole) < len(outcomes[size]):
            found.notes.append(f"{size:,} clients: {len(outcomes[size]) - len(whole)} rounds at a set rate were void.")
        if whole:
            add(found, "clients-rate", f"a request at {PER_SECOND:.0f} a second", "clients", size, whole)
            found.series["clients-rate"].cost = "median time of requests that come at a set rate, most clients idle"
        _add_saturated(found, size, loads[size])
        found.facts[size] = _facts(loads[size], held[size])
    return found


@contextmanager
def files(wanted: int) -> Iterator[None]:
    """Let this process and its children have so many files open, or as many as they may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def _held(server: RunningServer, request: bytes, sizes: Sequence[int]) -> dict[int, float]:
    """Memory in MiB with so many connections open that have had an answer, before the gateway was ever busy."""
    found = {}
    with ExitStack() as wires:
        there = 0
        for size in sizes:
            for _ in range(size - there):
                wires.enter_context(connected(server.port)).ask(request)
            there = size
            found[size] = memory.of_tree(server.pid).once / _MIB
    return found


def _await_rest(server: RunningServer) -> None:
    """Return once the gateway has done with what wrk left in its hands, after some seconds at the latest."""
    end_s = time.monotonic() + _REST_WITHIN_S
    while time.monotonic() < end_s:
        before_s = server.cpu_s()
        time.sleep(_LOOK_S)  # the time over which its work is looked at
        if server.cpu_s() - before_s < _LOOK_S / 5:
            return


def _at_rate(stage: Stage, server: RunningServer, request: bytes, size: int) -> Outcome:
    """A set rate over a few connections, while the others are open: each has had an answer."""
    with ExitStack() as idle:
        for _ in range(size - _ACTIVE):
            idle.enter_context(connected(server.port)).ask(request)
        offered = Offer(
            port=server.port,
            requests=[request],
            per_second=PER_SECOND,
            seconds=offered_s(stage.quick),
            warm_up_s=_WARM_UP_S,
            connections=_ACTIVE,
        )
        return stage.offer(offered)


def _saturated(server: RunningServer, size: int) -> Load:
    """All of them as fast as they are answered, for a second."""
    before_s = server.cpu_s()
    load = run_wrk(server.url + PRODUCTS_PATH, seconds=_SATURATED_S, connections=size)
    return replace(load, server_cpu_s=server.cpu_s() - before_s)


def _add_saturated(found: Grown, size: int, loads: list[Load]) -> None:
    series = found.series.setdefault(
        "clients-cpu",
        Series(
            id="clients-cpu",
            name="CPU time of a request, all of them asking",
            n="clients",
            cost="CPU time of the gateway for an answer, saturated",
        ),
    )
    series.costs[size] = [load.server_cpu_us / 1000 for load in loads]
    found.runs.setdefault(series.id, {})[str(size)] = {"rounds": [asdict(load) for load in loads]}


def _facts(loads: list[Load], held_mib: float) -> dict[str, float | int]:
    return {
        "per_second": round(statistics.median(load.per_second for load in loads), 1),
        "p50_ms": statistics.median(load.p50_ms for load in loads),
        "p99_ms": statistics.median(load.p99_ms for load in loads),
        "not_200": sum(load.bad_status + load.socket_errors for load in loads),
        "memory_mib": round(held_mib, 1),
    }
