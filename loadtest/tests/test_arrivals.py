"""Requests at a rate of their own."""

from __future__ import annotations

import asyncio
import contextlib

from chassis.testing import free_port
from loadtest.arrivals import Outcome, offer


def test_percentiles_are_of_one_status() -> None:
    """What is turned away must not make what is answered look fast."""
    outcome = Outcome(2.0, {200: [float(number) for number in range(100)], 503: [0.001]})
    assert (outcome.p(50, 200), outcome.p(99, 200), outcome.p(99, 503), outcome.p(99, 504)) == (50.0, 99.0, 0.001, 0.0)
    assert (outcome.count, outcome.per_second(200)) == (101, 50.0)


def test_requests_come_whether_or_not_the_last_one_was_answered() -> None:
    """A server that takes its time is asked as often as a fast one; one that is not there is asked as well."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while await reader.readuntil(b"\r\n\r\n"):
                await asyncio.sleep(0.3)
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        writer.close()

    async def test() -> tuple[Outcome, Outcome]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        answered = await offer(port, "/", per_second=100, seconds=0.5)
        refused = await offer(free_port(), "/", per_second=100, seconds=0.1)
        server.close()
        return answered, refused

    answered, refused = asyncio.run(test())
    assert 20 < answered.statuses[200] == answered.count < 100
    assert answered.p(50, 200) >= 0.3
    assert set(refused.statuses) == {0}
