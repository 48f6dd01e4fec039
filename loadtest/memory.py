"""Memory of each service with two workers, under mixed traffic: how much, and whether it grows.

Two figures, because "resident" has two meanings:

* RSS summed over master and workers, as `process_resident_memory_bytes` reports it. Pages that the processes share
  (the interpreter, libraries, what was loaded before the fork) count once for each of them.
* PSS, the proportional set size: each shared page is divided among those who share it, so that the sum is what the
  machine really spends and about what a container is charged for.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from rich.progress import Progress

from loadtest import traffic
from loadtest.errors import BenchError
from loadtest.machine import Cores
from loadtest.report import Limit, growth
from loadtest.servers import Launch, RunningServer
from loadtest.stores import Stores
from loadtest.subjects import service

TITLE = "Memory of two workers and their master after 100,000 mixed requests"
_MARKS = (50_000, 100_000)
_MIB = 2**20
_AT_MOST_MIB = 128.0
_GROWTH_AT_MOST = 0.02
_REST_S = 2.0
"""Requests in flight and the sampling threads come to rest; not a condition that could be awaited."""

_Maker = Callable[[random.Random, int], traffic.Request]


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Of a process tree, in bytes."""

    rss: int
    pss: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of all services."""

    limits: list[Limit]
    record: dict[str, Any]


def of_tree(pid: int) -> Memory:
    """The memory of a process and all its descendants. Raises BenchError where the kernel does not tell (not Linux)."""
    root = psutil.Process(pid)
    infos = [process.memory_full_info() for process in (root, *root.children(recursive=True))]
    if not all(hasattr(info, "pss") for info in infos):
        raise BenchError("the memory part needs Linux: no other system tells the proportional set size")
    return Memory(rss=sum(info.rss for info in infos), pss=sum(info.pss for info in infos))


def measure(stores: Stores, *, directory: Path, cores: Cores, progress: Progress) -> Measured:
    """Start each service with two workers, send the traffic, look at the marks. Raises BenchError on any 5xx."""
    limits: list[Limit] = []
    record: dict[str, Any] = {}
    catalogue = _two_workers(service("catalogue-memory"))
    user = _two_workers(
        service("user-memory", DATABASE_URL=stores.users_database("memory"), REDIS_URL=stores.redis_url)
    )
    running: list[RunningServer] = []

    def start(launch: Launch) -> RunningServer:
        server = RunningServer(launch, directory=directory, cores=cores)
        running.append(server)
        server.wait_ready("/health/live")
        return server

    try:
        behind = {"catalogue": start(catalogue), "user": start(user)}
        makers: dict[str, _Maker] = {"catalogue": traffic.catalogue_request, "user": traffic.user_request}
        for name, server in behind.items():
            _one(name, server, makers[name], limits=limits, record=record, progress=progress)
        gateway = service(
            "gateway-memory",
            application="asgi:app",
            CATALOGUE_URL=behind["catalogue"].url,
            USER_URL=behind["user"].url,
        )
        _one(
            "gateway",
            start(_two_workers(gateway)),
            traffic.gateway_request,
            limits=limits,
            record=record,
            progress=progress,
        )
    finally:
        for server in reversed(running):
            server.stop()
    return Measured(limits=limits, record=record)


def _one(
    name: str, server: RunningServer, make: _Maker, *, limits: list[Limit], record: dict[str, Any], progress: Progress
) -> None:
    task = progress.add_task(f"memory: {name}", total=_MARKS[-1])
    seen = {0: of_tree(server.pid)}
    statuses: dict[str, int] = {}
    sent = 0
    # Numbers make users: those that the gateway creates must differ from those that the user service created before.
    offset = 10_000_000 if name == "gateway" else 0
    for mark in _MARKS:
        counted = traffic.send(
            server.url,
            make,
            count=mark - sent,
            first_number=offset + sent,
            on_done=lambda: progress.advance(task),
        )
        sent = mark
        for status, times in counted.items():
            statuses[str(status)] = statuses.get(str(status), 0) + times
        server.empty_log()
        time.sleep(_REST_S)
        seen[mark] = of_tree(server.pid)
    half, full = (seen[mark] for mark in _MARKS)
    limits += [
        Limit(name=f"{name}: RSS, summed", value=full.rss / _MIB, at_most=_AT_MOST_MIB, unit="MiB"),
        Limit(name=f"{name}: PSS", value=full.pss / _MIB, at_most=_AT_MOST_MIB, unit="MiB"),
        Limit(name=f"{name}: growth of RSS", value=growth(half.rss, full.rss), at_most=_GROWTH_AT_MOST, unit="%"),
        Limit(name=f"{name}: growth of PSS", value=growth(half.pss, full.pss), at_most=_GROWTH_AT_MOST, unit="%"),
    ]
    record[name] = {
        "mib_after": {
            str(mark): {"rss_sum": round(memory.rss / _MIB, 1), "pss": round(memory.pss / _MIB, 1)}
            for mark, memory in seen.items()
        },
        "statuses": dict(sorted(statuses.items())),
    }


def _two_workers(launch: Launch) -> Launch:
    return Launch(name=launch.name, command=launch.command, env={**launch.env, "WEB_CONCURRENCY": "2"})
