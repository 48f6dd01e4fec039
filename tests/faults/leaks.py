"""What a fault leaves behind in the processes: slots of pools, threads, files, connections, children.

Counted while nothing is asked of anybody, before the fault and after it. What may be more afterwards are things that
are made when they are first needed and then kept: threads and connections of pools, up to the pools' sizes.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Set
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil

from chassis.testing.calls import metric
from tests.faults.stage import POOL_SIZE, Program, Stage

THREADS = POOL_SIZE
"""Threads of a worker's pool. One is made when a request comes and none is idle: most requests so far may have been
alone, until the fault kept all of them waiting. One that leaked with every failed request would be hundreds.
"""
CONNECTIONS = POOL_SIZE + 4
"""Of a worker, to one store, at the most: those of the pool, and those that have one task each, such as health."""
FILES = 2
"""Files that somebody just happens to have open."""
KAFKA = {"threads": 8, "files": 8, "others": 3}
"""What a client of Kafka has: threads, pipes to wake them, connections. The worker of the gateway that sends events has
one; it may be another worker afterwards, and the first one keeps its own.
"""
SCRAPED = 1
"""Prometheus, where one looks on, keeps a connection to each program; to one that has just started it has none yet."""
_SOCKET = "socket"
SETTLE_S = 8.0
"""In which idle connections are closed: UPSTREAM_IDLE_S, and whatever is only looked at every few seconds."""


@dataclass(frozen=True)
class Count:
    """Of one program: master and workers together.

    Attributes:
        starts: as the program's; with another number it is another process, and can be compared with nothing.
        files: descriptors that are no connections, by what they are.
        dead: connections that are gone from the system's tables: the other side has reset them. Keepalives find that
            out within two minutes for those that a pool has not used since PostgreSQL ended their sessions.
        postgres, valkey: connections to them; `others` all other ones but listeners.
        half_closed: of `others`, those that the other side has closed, and we have not. A pool finds out that a
            connection was closed when it is to be used again.
        in_use: slots of the pool, as /metrics has them.
    """

    starts: int
    processes: int
    threads: int
    files: Counter[str]
    dead: int
    postgres: int
    valkey: int
    others: int
    half_closed: int
    in_use: float


def census(stage: Stage) -> dict[str, Count]:
    """A Count of every program, by its name."""
    return {program.name: _count(stage, program) for program in stage.programs}


def _count(stage: Stage, program: Program) -> Count:
    processes = program.processes
    threads = others = half_closed = 0
    files: Counter[str] = Counter()
    stores = dict.fromkeys((stage.postgres.port, stage.redis_wire.port), 0)
    for process in processes:
        connections = process.net_connections(kind="tcp")
        files += _files(process.pid, {connection.fd for connection in connections})
        threads += process.num_threads()
        for one in connections:
            port = one.raddr.port if len(one.raddr) else None  # of a listener
            if port in stores:
                stores[port] += 1
            elif port is not None:
                others += 1
                half_closed += one.status == psutil.CONN_CLOSE_WAIT
    dead = files.pop(_SOCKET, 0)
    return Count(
        starts=program.starts,
        processes=len(processes),
        threads=threads,
        files=files,
        dead=dead,
        postgres=stores[stage.postgres.port],
        valkey=stores[stage.redis_wire.port],
        others=others,
        half_closed=half_closed,
        in_use=metric(program.process, 'db_pool_connections{state="in_use"}'),
    )


def _files(pid: int, connections: Set[int]) -> Counter[str]:
    found: Counter[str] = Counter()
    for file in Path(f"/proc/{pid}/fd").iterdir():
        if int(file.name) not in connections:
            with suppress(FileNotFoundError):  # it has been closed meanwhile
                found[str(file.readlink()).partition(":[")[0]] += 1  # the number of a socket or a pipe says nothing
    return found


def leaks(stage: Stage, before: dict[str, Count]) -> list[str]:
    """What there is more of than before, a line each; waits SETTLE_S for it to go."""
    give_up_s = time.monotonic() + SETTLE_S
    while (found := _found(stage, before)) and time.monotonic() < give_up_s:
        time.sleep(0.25)
    return found


def _found(stage: Stage, before: dict[str, Count]) -> list[str]:
    return [line for name, now in census(stage).items() for line in _more(name, before[name], now)]


def _more(name: str, before: Count, now: Count) -> Iterator[str]:
    workers = before.processes - 1
    kafka = KAFKA if name == "gateway" else {}
    if now.half_closed or now.in_use:
        yield f"{name}: {now.half_closed} connections half closed, {now.in_use:g} slots in use"
    if now.starts != before.starts:
        return
    if now.processes != before.processes:
        yield f"{name}: {before.processes} processes, now {now.processes}"
    if now.files.total() > before.files.total() + workers * (FILES + kafka.get("files", 0)):
        new = ", ".join(f"{count} {what}" for what, count in (now.files - before.files).items())
        yield f"{name}: {before.files.total()} files, now {now.files.total()}; new are {new}"
    for what, most in (
        ("threads", before.threads + workers * THREADS),
        ("others", before.others + SCRAPED),
        ("dead", before.dead + workers * POOL_SIZE),
        ("postgres", workers * CONNECTIONS),
        ("valkey", workers * CONNECTIONS),
    ):
        if getattr(now, what) > most + workers * kafka.get(what, 0):
            yield f"{name}: {getattr(before, what)} {what}, now {getattr(now, what)}"
