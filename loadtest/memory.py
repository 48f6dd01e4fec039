"""Memory of each service with two workers, under mixed traffic: how much, and whether it grows.

"Resident" has two meanings, and both are shown:

* Counted once: the physical pages that master and workers have together, as if nothing else ran on the machine; what a
  container with this service alone is charged for. The demand is on this. Anonymous pages (shared since the fork) by
  their proportional size; pages of files (the interpreter, libraries) once for the service, whoever else maps them.
  The proportional size of all pages would flatter: it gives away a part of libpython for each other Python process.
* RSS summed: what `ps` says of each process, added up. Shared pages count once for each of the three processes.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
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
from loadtest.subjects import KEY_HEADER, gateway, service, write_admin_key

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

    once: int
    rss_sum: int


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What came of all services."""

    limits: list[Limit]
    record: dict[str, Any]


def of_tree(pid: int) -> Memory:
    """The memory of a process and all its descendants. Raises BenchError where the kernel does not tell (not Linux)."""
    root = psutil.Process(pid)
    anonymous = rss_sum = 0
    of_files: dict[str, int] = {}
    for process in (root, *root.children(recursive=True)):
        directory = Path("/proc", str(process.pid))
        try:
            anonymous += _pss_anonymous(directory.joinpath("smaps_rollup").read_text())
            mapped = file_bytes(directory.joinpath("smaps").read_text())
        except FileNotFoundError:
            raise BenchError("the memory part needs Linux: no other system tells which pages are shared") from None
        for name, size in mapped.items():
            of_files[name] = max(of_files.get(name, 0), size)
        rss_sum += process.memory_info().rss
    return Memory(once=anonymous + sum(of_files.values()), rss_sum=rss_sum)


def file_bytes(smaps: str) -> dict[str, int]:
    """Resident bytes of each mapped file, without the pages that the process has written to (those are anonymous)."""
    found: dict[str, int] = {}
    name = ""
    for line in smaps.splitlines():
        fields = line.split(maxsplit=5)
        if not fields[0].endswith(":"):  # the head of a mapping: addresses, mode, offset, device, inode, name
            name = fields[5] if len(fields) > 5 and fields[4] != "0" else ""
        elif name and fields[0] == "Rss:":
            found[name] = found.get(name, 0) + int(fields[1]) * 1024
        elif name and fields[0] == "Anonymous:":
            found[name] -= int(fields[1]) * 1024
    return found


def _pss_anonymous(rollup: str) -> int:
    return sum(
        int(line.split()[1]) * 1024 for line in rollup.splitlines() if line.startswith(("Pss_Anon:", "Pss_Shmem:"))
    )


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
        urls = {"CATALOGUE_URL": behind["catalogue"].url, "USER_URL": behind["user"].url}
        key_file = directory / "admin-key-memory"
        key = {KEY_HEADER: write_admin_key(key_file)}
        launch = gateway(
            "gateway-memory",
            catalogue=urls["CATALOGUE_URL"],
            user=urls["USER_URL"],
            admin_key=key_file,
            DATABASE_URL=stores.registry_database("memory_registry", **urls),
            REDIS_URL=stores.redis_url,
        )
        _one(
            "gateway",
            start(_two_workers(launch)),
            partial(traffic.gateway_request, key=key),
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
        Limit(name=f"{name}: resident, counted once", value=full.once / _MIB, at_most=_AT_MOST_MIB, unit="MiB"),
        Limit(name=f"{name}: growth", value=growth(half.once, full.once), at_most=_GROWTH_AT_MOST, unit="%"),
        Limit(name=f"{name}: RSS, summed", value=full.rss_sum / _MIB, at_most=None, unit="MiB"),
        Limit(
            name=f"{name}: growth of it", value=growth(half.rss_sum, full.rss_sum), at_most=_GROWTH_AT_MOST, unit="%"
        ),
    ]
    record[name] = {
        "mib_after": {
            str(mark): {"once": round(memory.once / _MIB, 1), "rss_sum": round(memory.rss_sum / _MIB, 1)}
            for mark, memory in seen.items()
        },
        "statuses": dict(sorted(statuses.items())),
    }


def _two_workers(launch: Launch) -> Launch:
    return Launch(name=launch.name, command=launch.command, env={**launch.env, "WEB_CONCURRENCY": "2"})
