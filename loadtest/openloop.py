"""An open loop: requests at a set rate, as clients send them who do not know of one another.

A closed loop (wrk, locust) asks for less when the server slows down, and so hides an overload: its percentiles leave
out the requests that it would have sent (coordinated omission). Here each request has its time, drawn before the run;
latency counts from that time, whatever kept the request from being sent: the wait for a free connection, or this
program itself. What could not be sent at all is reported as missed, never left out.
"""

from __future__ import annotations

import asyncio
import gc
import math
import random
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import uvloop
from hdrh.histogram import HdrHistogram

CPU_AT_MOST = 0.8
"""Of one core. A generator that is busier measures itself: the run is void."""
BEHIND_AT_MOST_MS = 10.0
"""Arrivals noticed later than this, on the average: something took the generator's core from it. Void, too."""
TIMELINE_S = 0.1
"""The width of a step of the timeline."""
_MOST_US = 120_000_000
_DIGITS = 3
_SWEEP_S = 0.05


@dataclass(slots=True, eq=False)
class Arrival:
    """A request, body included, and its time. Whoever has more to say of one makes a subclass.

    Attributes:
        due_s: when it was to be sent, monotonic.
        sent_s: when it was, the last time; None: never, as no connection could be had.
    """

    due_s: float
    request: bytes
    sent_s: float | None = None


def go_on() -> bool:
    """To the end."""
    return True


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What is sent to a port.

    Attributes:
        requests: whole requests; one is drawn for each arrival.
        per_second: arrivals a second, at random times (a Poisson process).
        seconds: for so long, after `warm_up_s` at the same rate, which is not counted.
        connections: open at a time, at most; an arrival that finds none free waits, and its wait counts.
        timeout_s: from an arrival's time to the end of its answer; then it has failed.
        seed: of the times and of what is drawn: the same offer twice is the same.
        host: an address, no name: nothing is looked up.
        arrive: makes the arrival that is due then, in the place of one drawn from `requests`.
        over: is told of each arrival, those of the warm-up too: what it was, its status (0: no answer), and all of the
            answer that came, its head first.
        go_on: asked before each arrival; False: there are no more, and the outcome has the seconds until then.
    """

    port: int
    requests: Sequence[bytes] = ()
    per_second: float
    seconds: float
    warm_up_s: float = 0.0
    connections: int = 64
    timeout_s: float = 10.0
    seed: int = 1
    host: str = "127.0.0.1"
    arrive: Callable[[float, random.Random], Arrival] | None = None
    over: Callable[[Arrival, int, bytes], None] | None = None
    go_on: Callable[[], bool] = go_on


def get(path: str, **headers: str) -> bytes:
    """A GET request for an Offer; `X_Name` is the field X-Name."""
    fields = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in headers.items())
    return f"GET {path} HTTP/1.1\r\nHost: bench\r\n{fields}\r\n".encode()


@dataclass
class Outcome:
    """What came of an offer. Only what was due after the warm-up is in it.

    Attributes:
        seconds: the counted ones.
        offered: arrivals a second that were asked for.
        took: a histogram of microseconds from an arrival's time to the end of its answer, by status; 0: no answer,
            at the time at which that was known.
        completed: answers below 500 that ended within the counted seconds, whenever they were due.
        missed: arrivals that were never sent, as no connection was free in time; they are among status 0.
        timeline: for each tenth of a second of arrivals: answered below 500, and not.
        generator_cpu: of one core, while the offer lasted.
        behind_ms: how late this program itself noticed arrivals, on the average.
    """

    seconds: float
    offered: float = 0.0
    took: dict[int, HdrHistogram] = field(default_factory=dict)
    completed: int = 0
    missed: int = 0
    timeline: list[list[int]] = field(default_factory=list)
    generator_cpu: float = 0.0
    behind_ms: float = 0.0

    def add(self, status: int, took_s: float, *, at_s: float = 0.0) -> None:
        """One arrival, due `at_s` after the beginning, was answered `took_s` after it was due."""
        histogram = self.took.get(status)
        if histogram is None:
            histogram = self.took[status] = HdrHistogram(1, _MOST_US, _DIGITS)
        histogram.record_value(min(max(int(took_s * 1e6), 1), _MOST_US))
        step = int(at_s / TIMELINE_S)
        while len(self.timeline) <= step:
            self.timeline.append([0, 0])
        self.timeline[step][status == 0 or status >= 500] += 1

    @property
    def statuses(self) -> Counter[int]:
        """How often each status came."""
        return Counter({status: histogram.get_total_count() for status, histogram in self.took.items()})

    @property
    def count(self) -> int:
        """How many arrivals there were."""
        return self.statuses.total()

    @property
    def failed(self) -> int:
        """Arrivals with no answer, or with one of 500 and above."""
        return sum(times for status, times in self.statuses.items() if status == 0 or status >= 500)

    @property
    def answered_per_second(self) -> float:
        """Answers below 500 that ended within the counted seconds, a second: in an overload, what the server can do."""
        return self.completed / self.seconds

    @property
    def void(self) -> str:
        """Why the run says nothing about the server; "" if it does."""
        if self.generator_cpu > CPU_AT_MOST:
            return f"the generator used {self.generator_cpu:.0%} of its core"
        if self.behind_ms > BEHIND_AT_MOST_MS:
            return f"the generator had no core: it was {self.behind_ms:.0f} ms late"
        return ""

    def p(self, percent: float, status: int | None = None) -> float:
        """The seconds within which so many of the arrivals with that status were answered; 0 if there were none.

        Without a status, of all arrivals, those that failed included.
        """
        if status is not None:
            histogram = self.took.get(status)
        else:
            histogram = HdrHistogram(1, _MOST_US, _DIGITS)
            for one in self.took.values():
                histogram.add(one)
        if histogram is None or not histogram.get_total_count():
            return 0.0
        return float(histogram.get_value_at_percentile(percent)) / 1e6

    def per_second(self, status: int) -> float:
        """Answers with that status a second."""
        return self.statuses[status] / self.seconds

    def record(self, *, timeline: bool = False) -> dict[str, Any]:
        """For the results file, histograms included (HdrHistogram's own compressed form, microseconds)."""
        found: dict[str, Any] = {
            "offered_per_second": round(self.offered, 2),
            "seconds": round(self.seconds, 3),
            "arrivals": self.count,
            "missed": self.missed,
            "failed": self.failed,
            "answered_per_second": round(self.answered_per_second, 2),
            "statuses": {str(status): times for status, times in sorted(self.statuses.items())},
            "ms": {f"p{percent:g}": round(self.p(percent) * 1000, 3) for percent in (50, 90, 95, 99, 99.9, 100)},
            "generator_cpu": round(self.generator_cpu, 3),
            "generator_behind_ms": round(self.behind_ms, 3),
            "void": self.void,
            "histograms": {str(status): histogram.encode().decode() for status, histogram in sorted(self.took.items())},
        }
        if timeline:
            found["timeline"] = {"step_s": TIMELINE_S, "answered_and_failed": self.timeline}
        return found


def offer(what: Offer) -> Outcome:
    """Send it, on an event loop of its own; returns when the last arrival was answered or has failed."""
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(offering(what))


async def offering(what: Offer) -> Outcome:
    """As `offer`, for several at once. Their CPU time cannot be told apart: each has that of all."""
    collecting = gc.isenabled()
    gc.disable()  # a collection is a pause that the server would be blamed for
    try:
        return await _Loop(what).run()
    finally:
        if collecting:
            gc.enable()


class _Loop:
    """One offer under way."""

    def __init__(self, what: Offer) -> None:
        self.what = what
        self.outcome = Outcome(what.seconds, what.per_second)
        self._free: list[_Wire] = []
        self._wires: set[_Wire] = set()
        self._waiting: deque[Arrival] = deque()
        self._opening = 0
        self._open_tasks: set[asyncio.Task[None]] = set()
        self._counted_from_s = self._counted_to_s = math.inf

    async def run(self) -> Outcome:
        what = self.what
        dice = random.Random(what.seed)
        began_s = time.monotonic()
        self._counted_from_s = began_s + what.warm_up_s
        end_s = self._counted_to_s = self._counted_from_s + what.seconds
        cpu_s, cpu_from_s = time.process_time(), began_s
        behind_s, noticed = 0.0, 0
        due_s = began_s + dice.expovariate(what.per_second)
        sweeper = asyncio.create_task(self._sweep())
        while due_s < end_s and what.go_on():
            wait_s = due_s - time.monotonic()
            if wait_s > 0:
                await asyncio.sleep(wait_s)
            else:
                await asyncio.sleep(0)
            now_s = time.monotonic()
            while due_s <= now_s and due_s < end_s:
                behind_s += now_s - due_s
                noticed += 1
                if what.arrive is not None:
                    self._arrive(what.arrive(due_s, dice))
                else:
                    self._arrive(Arrival(due_s, dice.choice(what.requests)))
                due_s += dice.expovariate(what.per_second)
        if due_s < end_s:
            self._counted_to_s = min(end_s, time.monotonic())
            self.outcome.seconds = max(self._counted_to_s - self._counted_from_s, TIMELINE_S)
        self.outcome.generator_cpu = (time.process_time() - cpu_s) / (time.monotonic() - cpu_from_s)
        self.outcome.behind_ms = 1000 * behind_s / max(noticed, 1)
        while self._waiting or self._opening or any(wire.busy for wire in self._wires):  # noqa: ASYNC110 - each ends alone
            await asyncio.sleep(_SWEEP_S / 5)
        sweeper.cancel()
        for wire in tuple(self._wires):
            wire.close()
        return self.outcome

    def _arrive(self, arrival: Arrival) -> None:
        while self._free:
            wire = self._free.pop()
            if wire.send(arrival):
                return
        self._waiting.append(arrival)
        self._open_more()

    def _open_more(self) -> None:
        while self._opening < len(self._waiting) and len(self._wires) + self._opening < self.what.connections:
            self._opening += 1
            task = asyncio.create_task(self._open())
            self._open_tasks.add(task)
            task.add_done_callback(self._open_tasks.discard)

    async def _open(self) -> None:
        try:
            async with asyncio.timeout(self.what.timeout_s):
                _, wire = await asyncio.get_running_loop().create_connection(
                    lambda: _Wire(self.done, self.lost), self.what.host, self.what.port
                )
        except (OSError, TimeoutError):
            self._opening -= 1
            if self._waiting:  # for the one that has waited longest there was no connection
                self._count(0, self._waiting.popleft())
            self._open_more()
            return
        self._opening -= 1
        self._wires.add(wire)
        self._use(wire)

    def _use(self, wire: _Wire) -> None:
        """Let a connection carry the arrival that has waited longest, or rest."""
        while self._waiting:
            if not wire.send(self._waiting[0]):
                return
            self._waiting.popleft()
            return
        self._free.append(wire)

    def done(self, wire: _Wire, status: int, arrival: Arrival) -> None:
        """An answer is complete."""
        self._count(status, arrival, wire.answer)
        if not wire.closing:
            self._use(wire)

    def lost(self, wire: _Wire, arrival: Arrival | None) -> None:
        """A connection has ended, with that request on it."""
        self._wires.discard(wire)
        if arrival is not None:
            self._count(0, arrival, wire.answer)
        self._open_more()

    def _count(self, status: int, arrival: Arrival, answer: bytes = b"") -> None:
        now_s, due_s = time.monotonic(), arrival.due_s
        if due_s >= self._counted_from_s:
            self.outcome.add(status, now_s - due_s, at_s=due_s - self._counted_from_s)
        if 0 < status < 500 and self._counted_from_s <= now_s < self._counted_to_s:
            self.outcome.completed += 1
        if self.what.over is not None:
            self.what.over(arrival, status, answer)

    async def _sweep(self) -> None:
        """Give up what has taken too long."""
        while True:
            await asyncio.sleep(_SWEEP_S)
            too_old_s = time.monotonic() - self.what.timeout_s
            for wire in tuple(self._wires):
                wire.give_up(too_old_s)
            while self._waiting and self._waiting[0].due_s < too_old_s:
                missed = self._waiting.popleft()
                self._count(0, missed)
                self.outcome.missed += missed.due_s >= self._counted_from_s


class _Wire(asyncio.Protocol):
    """One connection, one request at a time; understands Content-Length, chunks, and an answer that ends with it."""

    def __init__(
        self, done: Callable[[_Wire, int, Arrival], None], lost: Callable[[_Wire, Arrival | None], None]
    ) -> None:
        self.closing = False
        self._aborted = False
        self._transport: asyncio.Transport | None = None
        self._done = done
        self._lost = lost
        self._arrival: Arrival | None = None
        self._head_only = False
        self._buffer = b""
        self._wanted: int | None = None  # bytes of the whole answer; None: its head is not here
        self._status = 0

    @property
    def busy(self) -> bool:
        """Whether it carries a request."""
        return self._arrival is not None

    @property
    def answer(self) -> bytes:
        """What has come for the last request, all of it or a beginning."""
        return self._buffer

    def send(self, arrival: Arrival) -> bool:
        """Send a request. False: the connection has ended, and nothing was sent."""
        if self._transport is None or self.closing:
            return False
        self._arrival, self._head_only = arrival, arrival.request.startswith(b"HEAD ")
        self._buffer, self._wanted = b"", None
        arrival.sent_s = time.monotonic()
        self._transport.write(arrival.request)
        return True

    def give_up(self, too_old_s: float) -> None:
        """End the connection if what it carries was due before that."""
        if self._arrival is not None and self._arrival.due_s < too_old_s:
            self.close()

    def close(self) -> None:
        """End it, whatever it carries."""
        self.closing = self._aborted = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        ends_here = self._wanted == -1 and exc is None and not self._aborted
        self.closing = True
        if ends_here:
            self._finish()
        arrival, self._arrival = self._arrival, None
        self._lost(self, arrival)

    def data_received(self, data: bytes) -> None:
        if self._arrival is None:
            return
        self._buffer = buffer = self._buffer + data if self._buffer else data
        if self._wanted is None:
            end = buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            self._read_head(buffer[:end].lower(), end + 4)
        if self._wanted == -2:
            if buffer.endswith(b"\r\n0\r\n\r\n"):
                self._finish()
        elif self._wanted is not None and 0 <= self._wanted <= len(buffer):
            self._finish()

    def _read_head(self, head: bytes, length: int) -> None:
        """`_wanted` becomes the answer's bytes; -1: it ends with the connection; -2: it is in chunks."""
        self._status = int(head[9:12])
        if b"\r\nconnection: close" in head:
            self.closing = True
        if self._head_only or self._status in (204, 304):
            self._wanted = length
        elif (at := head.find(b"\r\ncontent-length:")) >= 0:
            self._wanted = length + int(head[at + 17 :].partition(b"\r\n")[0])
        elif b"\r\ntransfer-encoding: chunked" in head:
            self._wanted = -2
        else:
            self._wanted = -1

    def _finish(self) -> None:
        arrival, self._arrival = self._arrival, None
        if arrival is None:
            return
        if self.closing and self._transport is not None:
            self._transport.close()
        self._done(self, self._status, arrival)
