"""Requests at a rate of their own, as clients send them who do not know of one another.

A closed loop (wrk) asks for less when the server slows down, and so hides an overload. Here each request has its time;
what it waits for, a free connection included, counts.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import cast


@dataclass
class Outcome:
    """What came of the requests: how often each status (0: no answer), and the seconds that each took, by status."""

    seconds: float
    took_s: dict[int, list[float]] = field(default_factory=dict)

    @property
    def statuses(self) -> Counter[int]:
        """How often each status came."""
        return Counter({status: len(times) for status, times in self.took_s.items()})

    @property
    def count(self) -> int:
        """How many requests there were."""
        return sum(self.statuses.values())

    def p(self, percent: float, status: int) -> float:
        """The seconds within which so many of the requests with that status were answered; 0 if there were none."""
        times = sorted(self.took_s.get(status, ()))
        return times[min(int(len(times) * percent / 100), len(times) - 1)] if times else 0.0

    def per_second(self, status: int) -> float:
        """Answers with that status a second."""
        return self.statuses[status] / self.seconds


class _Wire(asyncio.Protocol):
    """One connection; understands answers with a Content-Length, all that there are here."""

    def __init__(self, free: list[_Wire]) -> None:
        self.transport: asyncio.Transport | None = None
        self._free = free
        self._buffer = b""
        self._answer: asyncio.Future[int] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self.transport = None
        if self._answer is not None and not self._answer.done():
            self._answer.set_result(0)

    def ask(self, head: bytes) -> asyncio.Future[int]:
        """Send a request; the future is its status."""
        self._answer = asyncio.get_running_loop().create_future()
        if self.transport is not None:
            self.transport.write(head)
        return self._answer

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, end, body = self._buffer.partition(b"\r\n\r\n")
        if not end or self._answer is None or self._answer.done():
            return
        lower = head.lower()
        length = int(lower.partition(b"content-length:")[2].partition(b"\r\n")[0] or b"0")
        if len(body) < length:
            return
        self._buffer = b""
        if b"connection: close" not in lower:
            self._free.append(self)
        elif self.transport is not None:
            self.transport.close()
        self._answer.set_result(int(head[9:12]))

    def close(self) -> None:
        """End the connection."""
        if self.transport is not None:
            self.transport.abort()


async def offer(port: int, path: str, *, per_second: float, seconds: float, timeout_s: float = 15.0) -> Outcome:
    """Send `per_second` GETs a second to 127.0.0.1, at random times, for `seconds`; wait for the last answer."""
    outcome = Outcome(seconds)
    head = f"GET {path} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()
    free: list[_Wire] = []
    wires: list[_Wire] = []

    async def one(due_s: float) -> None:
        wire = None
        while free and (wire is None or wire.transport is None):
            wire = free.pop()
        status = 0
        try:
            async with asyncio.timeout(timeout_s):
                if wire is None or wire.transport is None:
                    _, wire = await asyncio.get_running_loop().create_connection(lambda: _Wire(free), "127.0.0.1", port)
                    wires.append(wire)
                status = await wire.ask(head)
        except (TimeoutError, OSError):
            if wire is not None:
                wire.close()
        outcome.took_s.setdefault(status, []).append(time.monotonic() - due_s)

    await _at_their_times(one, per_second=per_second, seconds=seconds)
    for wire in wires:
        wire.close()
    return outcome


async def _at_their_times(
    one: Callable[[float], Coroutine[None, None, None]], *, per_second: float, seconds: float
) -> None:
    dice = random.Random(1)
    now_s = time.monotonic()
    due_s, end_s = now_s, now_s + seconds
    tasks: set[asyncio.Task[None]] = set()
    while due_s < end_s:
        wait_s = due_s - time.monotonic()
        if wait_s > 0:
            await asyncio.sleep(wait_s)
        while due_s <= time.monotonic() and due_s < end_s:
            task = asyncio.create_task(one(due_s))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
            due_s += dice.expovariate(per_second)
    await asyncio.gather(*tasks)
