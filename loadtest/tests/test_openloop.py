"""Requests at a rate of their own, and how long they really took."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import psutil
import pytest
from hdrh.histogram import HdrHistogram

from chassis.testing import free_port
from loadtest.machine import Cores
from loadtest.openloop import Arrival, Offer, Outcome, get, offer, offering
from loadtest.servers import Launch, RunningServer


def outcome_of(**took_s: list[float]) -> Outcome:
    """An Outcome of two seconds; `s200` are the seconds of answers with 200."""
    outcome = Outcome(2.0)
    for name, times_s in took_s.items():
        for time_s in times_s:
            outcome.add(int(name[1:]), time_s)
    return outcome


def test_percentiles_are_of_one_status_or_of_all() -> None:
    """What is turned away must not make what is answered look fast; what has failed counts among all."""
    outcome = outcome_of(s200=[0.1 * number for number in range(1, 101)], s503=[0.001], s0=[20.0] * 9)
    assert outcome.p(50, 200) == pytest.approx(5.0, rel=0.001)
    assert outcome.p(99, 503) == pytest.approx(0.001, rel=0.001)
    assert outcome.p(99, 504) == 0.0
    assert outcome.p(99) == pytest.approx(20.0, rel=0.001)
    assert (outcome.count, outcome.failed) == (110, 10)


def test_a_busy_generator_makes_a_run_void() -> None:
    """Above four fifths of its core it measures itself, and without a core it measures the machine; it says so."""
    outcome = outcome_of(s200=[0.1])
    outcome.generator_cpu = 0.8
    assert outcome.record()["void"] == ""
    outcome.behind_ms = 30
    assert outcome.record()["void"] == "the generator had no core: it was 30 ms late"
    outcome.generator_cpu = 0.81
    assert outcome.record()["void"] == "the generator used 81% of its core"


def test_the_record_has_every_answer() -> None:
    """From the histogram in the results file any percentile can be taken again."""
    outcome = outcome_of(s200=[0.1] * 99 + [0.9])
    decoded = HdrHistogram.decode(outcome.record()["histograms"]["200"])
    assert decoded.get_total_count() == 100
    assert decoded.get_value_at_percentile(99.9) == pytest.approx(900_000, rel=0.001)


@contextlib.asynccontextmanager
async def serving(answer: bytes, *, after_s: float = 0.0, close: bool = False) -> AsyncIterator[tuple[int, list[int]]]:
    """A server that gives the same answer to everything, and the number of its connections so far; yields both."""
    connections = [0]
    tasks: set[asyncio.Task[None] | None] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections[0] += 1
        tasks.add(asyncio.current_task())
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(after_s)
                writer.write(answer)
                if close:
                    await writer.drain()
                    break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], connections
    finally:
        server.close()
        await asyncio.gather(*filter(None, tasks))


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


def test_requests_come_whether_or_not_the_last_one_was_answered() -> None:
    """A server that takes its time is asked as often as a fast one; one that is not there is asked as well."""

    async def test() -> tuple[Outcome, Outcome]:
        async with serving(OK, after_s=0.3) as (port, _):
            answered = await offering(Offer(port=port, requests=(get("/"),), per_second=100, seconds=0.5))
        refused = await offering(Offer(port=free_port(), requests=(get("/"),), per_second=100, seconds=0.1))
        return answered, refused

    answered, refused = asyncio.run(test())
    assert 20 < answered.statuses[200] == answered.count < 100
    assert answered.p(50, 200) >= 0.3
    assert set(refused.statuses) == {0}


def test_the_wait_for_a_connection_counts() -> None:
    """With one connection to a server that takes 0.1 s, arrivals in a moment wait for each other; what has waited for
    too long is missed, and among what failed.
    """

    async def test() -> Outcome:
        async with serving(OK, after_s=0.1) as (port, _):
            return await offering(
                Offer(port=port, requests=(get("/"),), per_second=400, seconds=0.1, connections=1, timeout_s=0.6)
            )

    outcome = asyncio.run(test())
    assert outcome.statuses[200] <= 7
    assert outcome.p(100, 200) > 0.3
    assert 0 < outcome.missed <= outcome.statuses[0]
    assert outcome.count == outcome.statuses[200] + outcome.statuses[0] > 20


@pytest.mark.parametrize(
    ("answer", "close", "status"),
    [
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", False, 200),
        (b"HTTP/1.1 304 Not Modified\r\nETag: x\r\n\r\n", False, 304),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nok", True, 200),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok", True, 200),
        (b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n", False, 503),
    ],
)
def test_every_form_of_answer_is_understood(answer: bytes, close: bool, status: int) -> None:
    """With a length, in chunks, without a body, or to the end of the connection: each request has its answer, and kept
    connections are used again.
    """

    async def test() -> tuple[Outcome, int]:
        async with serving(answer, close=close) as (port, connections):
            few = Offer(port=port, requests=(get("/"),), per_second=200, seconds=0.3, connections=4)
            return await offering(few), connections[0]

    outcome, connections = asyncio.run(test())
    assert set(outcome.statuses) == {status}
    assert (connections == outcome.count) if close else (connections <= 4)


def test_in_an_overload_the_rate_is_what_the_server_can_do() -> None:
    """Ten times as many requests as it can take: the rate is that of answers within the seconds that count."""

    async def test() -> Outcome:
        async with serving(OK, after_s=0.02) as (port, _):
            return await offering(
                Offer(
                    port=port,
                    requests=(get("/"),),
                    per_second=1000,
                    seconds=1,
                    warm_up_s=0.5,
                    connections=2,
                    timeout_s=2,
                )
            )

    outcome = asyncio.run(test())
    assert outcome.count > 800
    assert 20 < outcome.answered_per_second <= 101


def test_the_warm_up_is_not_counted() -> None:
    """Nor is anything else that was due before its end; the same seed gives the same arrivals."""

    async def test() -> list[int]:
        async with serving(OK) as (port, _):
            what = Offer(port=port, requests=(get("/"),), per_second=300, seconds=0.2, warm_up_s=0.3)
            return [(await offering(what)).count for _ in range(2)]

    first, second = asyncio.run(test())
    assert 0 < first == second < 90


def test_arrivals_of_ones_own_are_told_what_came_of_them() -> None:
    """Each request is made for its arrival, a body included, until there are to be no more; each is over once, with its
    status and the whole answer, or with none and the moment at which it was sent, if it was.
    """
    made: list[Arrival] = []
    over: list[tuple[Arrival, int, bytes]] = []

    def arrive(due_s: float, dice: random.Random) -> Arrival:
        made.append(Arrival(due_s, b"POST /%d HTTP/1.1\r\nContent-Length: 0\r\n\r\n" % len(made)))
        return made[-1]

    async def test(port: int) -> Outcome:
        own = Offer(
            port=port, per_second=300, seconds=30, connections=2, arrive=arrive,
            over=lambda *what: over.append(what), go_on=lambda: len(made) < 20,
        )  # fmt: skip
        return await offering(own)

    async def answered() -> Outcome:
        async with serving(OK, after_s=0.01) as (port, _):
            return await test(port)

    assert asyncio.run(answered()).statuses[200] == len(made) >= 20
    assert [(status, answer) for _, status, answer in over] == [(200, OK)] * len(made)
    assert {id(arrival) for arrival, *_ in over} == {id(arrival) for arrival in made}
    assert all(arrival.due_s <= (arrival.sent_s or 0) for arrival in made)
    made.clear()
    over.clear()
    assert asyncio.run(test(free_port())).statuses[0] == len(made) == len(over)
    assert all((status, answer, arrival.sent_s) == (0, b"", None) for arrival, status, answer in over)


@pytest.fixture
def upstream(tmp_path: Path) -> Iterator[RunningServer]:
    """A real server that answers at once."""
    launch = Launch(
        name="frail",
        command=(
            *(sys.executable, "-m", "gunicorn", "-c", "python:loadtest.baseline.gunicorn_conf"),
            "loadtest.baseline.frail:create_app()",
        ),
        observed=False,
    )
    server = RunningServer(launch, directory=tmp_path, cores=Cores(server=None, others=None))
    try:
        server.wait_ready("/health/live")
        yield server
    finally:
        server.stop()


def test_a_stopped_server_shows(upstream: RunningServer) -> None:
    """The self-test: the server is stopped (SIGSTOP) for 2 s of 6. One in a hundred requests waited for nearly all of
    that, which a closed loop would have sent one request to find out.
    """
    processes = [upstream.pid, *(child.pid for child in psutil.Process(upstream.pid).children())]

    def signal_all(number: signal.Signals) -> None:
        for process in processes:
            os.kill(process, number)

    timers = [threading.Timer(1.0, signal_all, [signal.SIGSTOP]), threading.Timer(3.0, signal_all, [signal.SIGCONT])]
    for timer in timers:
        timer.start()
    try:
        outcome = offer(Offer(port=upstream.port, requests=(get("/"),), per_second=100, seconds=6, connections=512))
    finally:
        for timer in timers:
            timer.cancel()
            timer.join()
        signal_all(signal.SIGCONT)
    assert set(outcome.statuses) == {200}
    assert outcome.missed == 0
    assert outcome.p(99) > 1.7
    assert outcome.p(50) < 1.0


def test_an_offer_ends_when_it_is_told_to() -> None:
    """Nothing more is due then, and rates are of the seconds until then."""

    async def run() -> tuple[Outcome, float]:
        until = threading.Event()
        async with serving(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as (port, _):
            asyncio.get_running_loop().call_later(0.5, until.set)
            began_s = asyncio.get_running_loop().time()
            what = Offer(port=port, requests=[get("/")], per_second=200, seconds=60, go_on=lambda: not until.is_set())
            return await offering(what), asyncio.get_running_loop().time() - began_s

    outcome, took_s = asyncio.run(run())
    assert took_s < 30
    assert outcome.seconds < 30
    assert outcome.failed == 0
    assert outcome.answered_per_second == pytest.approx(outcome.count / outcome.seconds, rel=0.2)
