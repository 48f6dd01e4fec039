"""What failing services do to the rest: a stopped one, one that answers nothing but 503, one with ten times too much.

python -m loadtest.resilience [--seconds 10]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import uvloop
from rich.console import Console
from rich.progress import Progress

from loadtest import machine
from loadtest.errors import BenchError
from loadtest.machine import Cores
from loadtest.openloop import Offer, Outcome, get, offering
from loadtest.report import Limit, limit_record, limits_table
from loadtest.servers import Launch, RunningServer, http_get
from loadtest.subjects import peer, service

TITLE = "The gateway in front of services that fail"
PRODUCTS = "/api/products"
DOCS = "/user/docs"
_THREADS = 4
_SERVICE_MS = 40
_CAPACITY = _THREADS * 1000 / _SERVICE_MS
_OFFERED = 200.0
_CONNECTIONS = 4096
_ROUNDS = 5
"""Of a percentile of some thousand requests one round alone says little."""


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of it."""

    limits: list[Limit]
    record: dict[str, Any]


class _Stage:
    """A gateway with one worker on a core of its own, in front of two services on the other."""

    def __init__(self, directory: Path, cores: Cores) -> None:
        self._directory = directory
        self._cores = cores
        self._servers: list[RunningServer] = []

    def frail(self, name: str, mode: str, *, threads: int = 8) -> RunningServer:
        """A service."""
        env = {"MODE": mode, "SERVICE_MS": str(_SERVICE_MS if mode == "slow" else 0), "THREADS": str(threads)}
        return self._run(peer(name, "frail:create_app()", observed=False, alone_on_core=False, **env))

    def gateway(self, name: str, *, catalogue: RunningServer, user: RunningServer) -> RunningServer:
        """The gateway, without cache and rate limits: nothing stands in for the services."""
        env = {"CATALOGUE_URL": catalogue.url, "USER_URL": user.url, "CACHE_BYTES": "0", "RATE_LIMITS": "off"}
        return self._run(service(name, application="asgi:app", LOG_LEVEL="WARNING", **env))

    def _run(self, launch: Launch) -> RunningServer:
        server = RunningServer(launch, directory=self._directory, cores=self._cores)
        self._servers.append(server)
        server.wait_ready("/health/live")
        return server

    def stop(self) -> None:
        """End all servers."""
        while self._servers:
            self._servers.pop().stop()


def measure(*, directory: Path, cores: Cores, progress: Progress, seconds: float = 10.0) -> Measured:
    """Take all the figures."""
    limits: list[Limit] = []
    record: dict[str, Any] = {"seconds": seconds}
    parts = (("a stopped service", _stopped), ("nothing but 503", _failing), ("ten times too much", _overloaded))
    task = progress.add_task("resilience", total=len(parts))
    for title, part in parts:
        progress.update(task, description=f"resilience: {title}")
        stage = _Stage(directory, cores)
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found, figures = runner.run(part(stage, seconds))
        finally:
            stage.stop()
        limits += found
        record[title] = figures
        progress.advance(task)
    return Measured(limits=limits, record=record)


async def _stopped(stage: _Stage, seconds: float) -> tuple[list[Limit], dict[str, Any]]:
    """A service that stops in the middle of everything: what the other one's clients notice."""
    good, bad = stage.frail("good", "ok"), stage.frail("bad", "ok")
    gateway = stage.gateway("gateway-stopped", catalogue=good, user=bad)

    async def both() -> tuple[Outcome, Outcome]:
        offered = (_offered(gateway, path, per_second=_OFFERED, seconds=seconds) for path in (PRODUCTS, DOCS))
        return tuple(await asyncio.gather(*offered))  # type: ignore[return-value]

    processes = [psutil.Process(bad.pid), *psutil.Process(bad.pid).children()]
    await both()
    rounds, ratios, errors = [], [], 0
    for _ in range(_ROUNDS):
        before, _of_running = await both()
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        try:
            after, of_stopped = await both()
        finally:
            for process in processes:
                process.send_signal(signal.SIGCONT)
        ratios.append(after.p(99, 200) / before.p(99, 200))
        errors += after.count - after.statuses[200]
        found = {"before": _figures(before), "after": _figures(after), "of the stopped one": _figures(of_stopped)}
        rounds.append(found)
        await both()  # until it is in use again
    limits = [
        Limit(name="a service is stopped: the other's p99, against before", value=median(ratios), at_most=1.2),
        Limit(name="a service is stopped: the other's errors", value=errors, at_most=0),
    ]
    return limits, {"ratios": [round(ratio, 3) for ratio in ratios], "rounds": rounds}


async def _failing(stage: _Stage, seconds: float) -> tuple[list[Limit], dict[str, Any]]:
    """A service that answers nothing but 503: how many requests it sees of those that clients send."""
    bad = stage.frail("failing", "fail")
    gateway = stage.gateway("gateway-failing", catalogue=bad, user=bad)
    outcome = await _offered(gateway, PRODUCTS, per_second=_OFFERED, seconds=seconds)
    seen = int(http_get(bad.url + "/seen").data)
    limits = [Limit(name="nothing but 503: requests it sees, of those sent", value=seen / outcome.count, at_most=1.2)]
    return limits, {"sent": outcome.count, "seen": seen, **_figures(outcome)}


async def _overloaded(stage: _Stage, seconds: float) -> tuple[list[Limit], dict[str, Any]]:
    """A service of known capacity, offered less than that, all of it, and ten times as much."""
    slow = stage.frail("slow", "slow", threads=_THREADS)
    gateway = stage.gateway("gateway-overloaded", catalogue=slow, user=slow)
    calm = await _offered(gateway, PRODUCTS, per_second=0.7 * _CAPACITY, seconds=seconds)
    full = await _offered(gateway, PRODUCTS, per_second=1.1 * _CAPACITY, seconds=seconds)
    over = await _offered(gateway, PRODUCTS, per_second=10 * _CAPACITY, seconds=2 * seconds)
    lost = 1 - over.per_second(200) / max(calm.per_second(200), full.per_second(200))
    limits = [
        Limit(name="ten times too much: answers lost, of the most there were", value=lost, at_most=0.2, unit="%"),
        Limit(
            name="ten times too much: p99 of what is turned away", value=1000 * over.p(99, 503), at_most=20, unit="ms"
        ),
        Limit(
            name="ten times too much: median of what is answered", value=1000 * over.p(50, 200), at_most=None, unit="ms"
        ),
    ]
    return limits, {"at 0.7": _figures(calm), "at 1.1": _figures(full), "at 10": _figures(over)}


async def _offered(server: RunningServer, path: str, *, per_second: float, seconds: float) -> Outcome:
    """Requests at that rate. Many connections: what they wait for is to be the server's doing."""
    offer = Offer(
        port=server.port, requests=(get(path),), per_second=per_second, seconds=seconds, connections=_CONNECTIONS,
        timeout_s=15.0,
    )  # fmt: skip
    return await offering(offer)


def _figures(outcome: Outcome) -> dict[str, Any]:
    statuses = {str(status): count for status, count in sorted(outcome.statuses.items())}
    times = {
        f"p{percent}_ms of {status}": round(1000 * outcome.p(percent, status), 1)
        for status in sorted(outcome.took)
        for percent in (50, 99)
    }
    return {"statuses": statuses, **times}


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print. 0: everything demanded holds; 1: something is missed; 2: it could not be measured."""
    parser = argparse.ArgumentParser(prog="resilience")
    parser.add_argument("--seconds", type=float, default=10.0, help="of each load (10)")
    options = parser.parse_args(arguments)
    console = Console(width=None if os.isatty(1) else 150)
    try:
        with (
            tempfile.TemporaryDirectory(prefix="storefront-bench-") as directory,
            Progress(console=console) as progress,
        ):
            cores = machine.split_cores()
            found = measure(directory=Path(directory), cores=cores, progress=progress, seconds=options.seconds)
    except BenchError as error:
        console.print(f"resilience: {error}", style="red", markup=False, highlight=False)
        return 2
    console.print(limits_table(found.limits, title=TITLE))
    console.print_json(data={"limits": [limit_record(limit) for limit in found.limits], **found.record})
    return 0 if all(limit.holds is not False for limit in found.limits) else 1


if __name__ == "__main__":
    sys.exit(main())
