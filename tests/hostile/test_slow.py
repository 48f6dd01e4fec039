"""Clients that say what they want byte by byte: others are served meanwhile, and the slow are shown the door."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest

from chassis.testing import wait_until
from tests.hostile.stage import Stage, Watch
from tests.promises import Promise

pytestmark = pytest.mark.hostile

SLOW = 500
"""Slow clients of each kind."""
SLOW_AT_GATEWAY = SLOW if not os.environ.get("LONG") else 2000
"""The gateway takes 4,096 connections a worker; a service 1,000, and more wait at its door."""
LIMIT_S = 12.0
"""What the gateway gives a head (CLIENT_HEAD_TIMEOUT_MS), or a body (REQUEST_TIMEOUT_MS), and 2 s in which it reads on
after the answer."""
SLACK_S = 5.0
"""What is added to every time that is promised: this machine runs other tests, and these clients, as well."""
SERVED_S = 1.0
"""How long anybody else may wait."""
MEMORY_BYTES = 96 * 1024 * 1024
"""What a service may take more for all of them."""


@dataclass
class Ended:
    """How a slow client's connection ended: the status it got (0: none), and after how long."""

    status: int
    took_s: float


async def slow(port: int, begin: bytes, piece: bytes, *, give_up_s: float) -> Ended:
    """Send `begin`, then a piece every second until the server ends it."""
    began_s = time.monotonic()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(begin)
    got = b""

    async def trickle() -> None:
        with contextlib.suppress(OSError):
            while True:
                await asyncio.sleep(1)
                writer.write(piece)
                await writer.drain()

    sending = asyncio.create_task(trickle())
    try:
        async with asyncio.timeout(give_up_s):
            while data := await reader.read(65536):
                got += data
        took_s = time.monotonic() - began_s
    except TimeoutError:
        took_s = float("inf")
    except ConnectionError:
        took_s = time.monotonic() - began_s
    finally:
        sending.cancel()
        writer.transport.abort()
    return Ended(int(got[9:12]) if got[9:12].isdigit() else 0, took_s)


async def ask(port: int, head: bytes) -> tuple[int, float]:
    """The status of a request on a connection of its own, 0 for none, and how long it took."""
    began_s = time.monotonic()
    status = 0
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(LIMIT_S + SLACK_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(head + b"Host: a\r\nConnection: close\r\n\r\n")
            answer = await reader.read()
            status = int(answer[9:12] or 0)
            writer.close()
    return status, time.monotonic() - began_s


@dataclass
class Siege:
    """What came of it: how the slow ended, what others got, memory and files at the height of it."""

    ended: list[Ended]
    others: list[tuple[int, float]]
    grown_bytes: int
    files: int


def besiege(
    stage: Stage,
    service: str,
    attacks: Sequence[Callable[[], tuple[bytes, bytes]]],
    heads: Sequence[bytes],
    *,
    count: int,
) -> Siege:
    """Let `count` clients of each kind begin at once, and four others ask for `heads` in turn until all have ended."""
    port, before = stage.port(service), stage.rss_bytes(service)
    most = [0, 0]

    async def others(first: int, done: asyncio.Event) -> list[tuple[int, float]]:
        await asyncio.sleep(1)  # until the slow ones are there
        found, number = [], first
        while not done.is_set():
            found.append(await ask(port, heads[number % len(heads)]))
            number += 1
            await asyncio.sleep(0.05)
        return found

    async def look(done: asyncio.Event) -> None:
        while not done.is_set():
            most[0] = max(most[0], stage.rss_bytes(service) - before)
            most[1] = max(most[1], stage.open_files(service))
            await asyncio.sleep(0.5)

    async def run() -> Siege:
        done = asyncio.Event()
        asking = [asyncio.create_task(others(number, done)) for number in range(4)]
        looking = asyncio.create_task(look(done))
        give_up_s = 2 * LIMIT_S + SLACK_S
        ended = await asyncio.gather(
            *(slow(port, *attack(), give_up_s=give_up_s) for _ in range(count) for attack in attacks)
        )
        done.set()
        got = [found for task in asking for found in await task]
        await looking
        return Siege(ended, got, *most)

    return asyncio.run(run())


def judge(promise: Promise, stage: Stage, service: str, siege: Siege, *, files_before: int) -> None:
    """The rows that every siege has."""
    what = f"{len(siege.ended)} slow clients at {service}"
    times = [took_s for _, took_s in siege.others]
    statuses = Counter(status for status, _ in siege.others)
    promise(
        what, f"others are served, in {SERVED_S:g} s",
        f"{dict(statuses)}, at most {max(times):.2f} s",
        holds=set(statuses) == {200} and max(times) < SERVED_S + SLACK_S,
    )  # fmt: skip
    late = max(ended.took_s for ended in siege.ended)
    refused = Counter(ended.status for ended in siege.ended)
    promise(
        what, f"the slow are ended, in {LIMIT_S:g} s, with 4xx or in silence", f"at most {late:.1f} s, {dict(refused)}",
        holds=late < LIMIT_S + SLACK_S and all(status == 0 or 400 <= status < 500 for status in refused),
    )  # fmt: skip
    promise(
        what, f"no more than {MEMORY_BYTES >> 20} MiB more memory", f"{siege.grown_bytes >> 20} MiB",
        holds=siege.grown_bytes < MEMORY_BYTES,
    )  # fmt: skip
    with contextlib.suppress(TimeoutError):
        wait_until(lambda: stage.open_files(service) <= files_before + 20, timeout_s=SLACK_S)
    left = stage.open_files(service) - files_before
    promise(what, "their files are closed again", f"{siege.files} at most, {left} left", holds=left <= 20)


def judge_afterwards(promise: Promise, stage: Stage, watch: Watch, *, pids_before: dict[str, list[int]]) -> None:
    """Nobody has died of it, and nothing is logged that is no fault of the client's."""
    stage.settle()
    promise(
        "slow clients",
        "no worker dies",
        "none" if pids_before == stage.pids() else "some",
        holds=pids_before == stage.pids(),
    )
    errors, traces = watch.server_errors(), watch.tracebacks()
    promise(
        "slow clients", "no 5xx, no traceback", f"{len(errors)} 5xx, {len(traces)} tracebacks",
        holds=not errors and not traces,
    )  # fmt: skip
    assert not errors + traces, "\n".join((errors + traces)[:20])


def slow_head() -> tuple[bytes, bytes]:
    """A head without end."""
    return b"GET /api/products/slow HTTP/1.1\r\nHost: a\r\nX-Slow: ", b"x"


def silence() -> tuple[bytes, bytes]:
    """A connection, and nothing on it."""
    return b"", b""


def slow_body(path: str) -> Callable[[], tuple[bytes, bytes]]:
    """A body of which one byte comes a second, and that is never whole."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 1000\r\n\r\n"
    return lambda: (head.encode() + b'{"username":"', b"x")


def slow_chunks(path: str) -> Callable[[], tuple[bytes, bytes]]:
    """The same in chunks."""
    head = f"POST {path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    return lambda: (head.encode(), b"1\r\nx\r\n")


def test_slow_clients_at_the_gateway(stage: Stage, promise: Promise) -> None:
    """Heads, and bodies that the user service is to get: nobody else notices, whichever service they ask."""
    code = f"slow-{secrets.token_hex(4)}"
    made = stage.call("POST", "/api/v1/links", {"url": "https://example.com/", "code": code}, key="sharer")
    assert made.status == 201
    reader = stage.keys["reader"].encode()
    heads = [
        b"GET /api/products/1 HTTP/1.1\r\n",
        b"GET /api/v1/users?per_page=5 HTTP/1.1\r\nX-API-Key: " + reader + b"\r\n",
        b"GET /qr/" + code.encode() + b".svg HTTP/1.1\r\nX-API-Key: " + reader + b"\r\n",
        b"GET /health/live HTTP/1.1\r\n",
    ]
    watch, files, pids = stage.watch(), stage.open_files("gateway"), stage.pids()
    attacks = (slow_head, slow_body("/api/v1/users"))
    siege = besiege(stage, "gateway", attacks, heads, count=SLOW_AT_GATEWAY)
    judge(promise, stage, "gateway", siege, files_before=files)
    judge_afterwards(promise, stage, watch, pids_before=pids)


def test_slow_clients_at_a_service(stage: Stage, promise: Promise) -> None:
    """Past the gateway, where only what is inside can be: silence, heads and bodies cost a service no thread."""
    reads = [b"GET /api/v1/users?per_page=5 HTTP/1.1\r\n", b"GET /health/live HTTP/1.1\r\n"]
    watch, files, pids = stage.watch(), stage.open_files("user"), stage.pids()
    siege = besiege(stage, "user", (slow_head, slow_body("/api/v1/users"), silence), reads, count=SLOW)
    judge(promise, stage, "user", siege, files_before=files)
    judge_afterwards(promise, stage, watch, pids_before=pids)
