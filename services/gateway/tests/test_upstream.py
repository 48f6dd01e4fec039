"""The upstream client, on its own: answers of every shape, and connections kept, dropped and given up."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import pytest

from chassis.testing import free_port, wait_until
from gateway.edge.connection import HIGH_WATER_BYTES, Connection
from gateway.edge.exchange import BadResponse, ConnectionDied, Exchange, OutOfTime
from gateway.edge.instance import Instance, Limits, Refused, Unreachable

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Backend, Message, Wire

GET = b"GET %b HTTP/1.1\r\nHost: a\r\n\r\n"


@asynccontextmanager
async def pool(backend: Backend, limits: Limits | None = None) -> AsyncIterator[Instance]:
    """A pool of connections to `backend`."""
    upstream = Instance("test", "127.0.0.1", backend.port, limits or Limits())
    yield upstream
    upstream.close()
    await eventually(lambda: not upstream.in_use)


async def eventually(condition: Callable[[], object]) -> None:
    """Return when `condition` holds, letting the loop run."""
    while not condition():  # noqa: ASYNC110 - the pool has no event to wait for
        await asyncio.sleep(0.01)


async def begin(upstream: Instance, path: str, *, head_only: bool = False) -> tuple[Connection, Exchange]:
    """Send a GET on an idle connection or a new one."""
    connection = upstream.take_idle(probe=False) or await upstream.connect(1)
    data = GET.replace(b"%b", path.encode())
    if head_only:
        data = data.replace(b"GET", b"HEAD")
    return connection, connection.begin(data, head_only=head_only, whole=True)


async def whole(upstream: Instance, path: str, *, head_only: bool = False) -> tuple[Exchange, bytes]:
    """A GET and all of its answer."""
    _, exchange = await begin(upstream, path, head_only=head_only)
    await exchange.head()
    body = b""
    while piece := await exchange.read():
        body += piece
    return exchange, body


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run `test` with a limit of 10 s."""

    async def limited() -> None:
        async with asyncio.timeout(10):
            await test

    asyncio.run(limited())


def sends(*pieces: bytes, close: bool = False, pause_s: float = 0.0) -> Callable[[Wire, Message], None]:
    """A handler that sends `pieces` as they are."""

    def handler(wire: Wire, message: Message) -> None:
        for piece in pieces:
            wire.send(piece)
            time.sleep(pause_s)
        if close:
            wire.close()

    return handler


OK = b"HTTP/1.1 200 OK\r\n"
CHUNKS = b"2\r\nhe\r\n|3;x=y\r\nllo\r\n|0\r\nX-T: 1\r\n\r\n"


@pytest.mark.parametrize("pause_s", [0.0, 0.02], ids=["together", "apart"])
@pytest.mark.parametrize(
    ("answer", "status", "body", "kept"),
    [
        (OK + b"Content-Length: 5\r\n\r\n|hello", 200, b"hello", True),
        (OK + b"Content-Length: 0\r\n\r\n", 200, b"", True),
        (OK + b"Transfer-Encoding: chunked\r\n\r\n|" + CHUNKS, 200, b"hello", True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b"", True),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 500\r\n\r\n", 304, b"", True),
        (b"HTTP/1.1 100 Continue\r\n\r\n|" + OK + b"Content-Length: 2\r\n\r\nok", 200, b"ok", True),
        (b"HTTP/1.1 103 Early Hints\r\nX: 1\r\n\r\n|" + OK + b"Content-Length: 2\r\n\r\nok", 200, b"ok", True),
        (OK + b"Content-Length: 2\r\nConnection: close\r\n\r\nok", 200, b"ok", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 200, b"ok", False),
    ],
)
def test_answers_of_every_shape(
    backend: Backend, answer: bytes, status: int, body: bytes, kept: bool, pause_s: float
) -> None:
    """Each framing of HTTP/1.1, in one piece and in several; the connection is kept exactly when it may be."""
    backend.on("/x", sends(*answer.split(b"|"), pause_s=pause_s))

    async def test() -> None:
        async with pool(backend) as upstream:
            exchange, received = await whole(upstream, "/x")
            assert (exchange.status, received) == (status, body)
            assert upstream.idle == (1 if kept else 0)

    run(test())


def test_an_answer_without_a_length_ends_with_its_connection(backend: Backend) -> None:
    """HTTP/1.0 style: all that comes until the end is the body."""
    backend.on("/x", sends(b"HTTP/1.1 200 OK\r\n\r\nhel", b"lo", close=True, pause_s=0.02))

    async def test() -> None:
        async with pool(backend) as upstream:
            exchange, body = await whole(upstream, "/x")
            assert (exchange.length, body) == (None, b"hello")
            assert upstream.idle == 0

    run(test())


def test_head_has_no_body_whatever_its_length_says(backend: Backend) -> None:
    """The connection carries the next request after it."""
    backend.on("/x", sends(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"))

    async def test() -> None:
        async with pool(backend) as upstream:
            for _ in range(3):
                exchange, body = await whole(upstream, "/x", head_only=True)
                assert (exchange.length, body) == (5, b"")
        assert backend.connections == 1

    run(test())


def test_header_fields_arrive_in_lower_case_without_those_that_stay_here(backend: Backend) -> None:
    """Also repeated ones, in their order; a trailer is no header field."""
    backend.on(
        "/x",
        sends(
            b"HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nServer: x\r\nConnection: X-Mine\r\nX-Mine: 1\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n0\r\nSet-Cookie: trailer\r\n\r\n"
        ),
    )

    async def test() -> None:
        async with pool(backend) as upstream:
            exchange, _ = await whole(upstream, "/x")
            assert exchange.headers == [(b"set-cookie", b"a"), (b"set-cookie", b"b"), (b"x-mine", b"1")]
            assert exchange.named_by_connection == b"X-Mine"

    run(test())


@pytest.mark.parametrize(
    "answer",
    [
        b"garbage\r\n\r\n",
        b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 20 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nokk",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nBad Name: 1\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\x00b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX-Long: " + b"a" * 70_000,
    ],
)
def test_garbage_is_no_answer(backend: Backend, answer: bytes) -> None:
    """What is not one unambiguous HTTP/1.1 answer is refused, and its connection closed."""
    backend.on("/x", lambda wire, _: wire.send(answer))

    async def test() -> None:
        async with pool(backend) as upstream:
            connection, exchange = await begin(upstream, "/x")
            with pytest.raises(BadResponse):
                await exchange.head()
            assert not connection.open
            assert upstream.idle == 0

    run(test())


@pytest.mark.parametrize(
    ("sent", "unheard"),
    [
        (b"", True),
        (b"HTTP/1.1 20", False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", False),
    ],
)
@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_connection_that_dies_says_whether_it_was_heard(
    backend: Backend, sent: bytes, unheard: bool, how: str
) -> None:
    """Only an answer of which not one byte came may be asked for again."""

    def handler(wire: Wire, message: Message) -> None:
        wire.send(sent)
        time.sleep(0.05 if sent else 0)
        getattr(wire, how)()

    backend.on("/x", handler)

    async def test() -> None:
        async with pool(backend) as upstream:
            with pytest.raises(ConnectionDied) as caught:
                await whole(upstream, "/x")
            assert caught.value.unheard is unheard

    run(test())


def test_an_answer_that_says_more_than_it_may_spoils_its_connection(backend: Backend) -> None:
    """Two answers to one request: the second would be taken for the next request's."""
    once = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    backend.on("/x", sends(once + b"ok" + once + b"no"))

    async def test() -> None:
        async with pool(backend) as upstream:
            _, body = await whole(upstream, "/x")
            assert body == b"ok"
            assert upstream.idle == 0

    run(test())


def test_bytes_that_nobody_asked_for_close_an_idle_connection(backend: Backend) -> None:
    """They came late, but they came: the connection is not used again."""

    def handler(wire: Wire, message: Message) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        time.sleep(0.05)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno")

    backend.on("/x", handler)

    async def test() -> None:
        async with pool(backend) as upstream:
            await whole(upstream, "/x")
            assert upstream.idle == 1
            await eventually(lambda: not upstream.idle)
            assert upstream.take_idle(probe=False) is None

    run(test())


def test_idle_connections_are_used_again_the_last_one_first(backend: Backend) -> None:
    """So that in a lull the others reach their idle time-out."""
    go = threading.Event()

    def later(wire: Wire, message: Message) -> None:
        go.wait(5)
        wire.send(b"HTTP/1.1 204 No Content\r\n\r\n")

    backend.on("/b", later)

    async def test() -> None:
        async with pool(backend) as upstream:
            first, one = await begin(upstream, "/a")
            second, two = await begin(upstream, "/b")
            await one.head()
            go.set()
            await two.head()
            assert upstream.take_idle(probe=False) is second
            assert upstream.take_idle(probe=False) is first
            assert upstream.take_idle(probe=False) is None
            first.abort()
            second.abort()
        assert backend.connections == 2

    run(test())


def test_a_connection_closed_while_idle_is_not_used(backend: Backend) -> None:
    """The loop has seen the close by the time of the next request."""

    async def test() -> None:
        async with pool(backend) as upstream:
            await whole(upstream, "/a")
            backend.close_idle()
            await eventually(lambda: not upstream.idle)
            _, body = await whole(upstream, "/a")
            assert body
        assert backend.connections == 2

    run(test())


def test_the_probe_sees_a_close_before_the_loop_does(backend: Backend) -> None:
    """For a request that must not be sent twice the kernel is asked: the loop may not have got round to it."""

    async def test() -> None:
        async with pool(backend) as upstream:
            await whole(upstream, "/a")
            backend.close_idle()
            time.sleep(0.1)  # noqa: ASYNC251 - the loop must not run: it would see the close itself
            assert upstream.idle == 1
            assert upstream.take_idle(probe=True) is None

    run(test())


def test_what_is_idle_for_too_long_is_closed_from_this_side(backend: Backend) -> None:
    """Before the service does it."""

    async def test() -> None:
        async with pool(backend, Limits(idle_s=5)) as upstream:
            await whole(upstream, "/a")
            now_s = asyncio.get_running_loop().time()
            upstream.sweep(now_s + 4)
            assert upstream.idle == 1
            upstream.sweep(now_s + 6)
            assert upstream.idle == 0
            await eventually(lambda: not upstream.in_use)

    run(test())


def test_a_refused_connection_is_unreachable_at_once() -> None:
    """Nobody listens there, and that is known for sure."""

    async def test() -> None:
        with pytest.raises(Refused):
            await Instance("test", "127.0.0.1", free_port(), Limits()).connect(10)

    run(test())


def test_connecting_has_its_own_limit_and_that_of_the_request(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that does not answer costs the connect time-out; a shorter deadline is reported as such."""

    async def test() -> None:
        async def never(*_args: object, **_options: object) -> None:
            await asyncio.sleep(60)

        monkeypatch.setattr(asyncio.get_running_loop(), "create_connection", never)
        upstream = Instance("test", "127.0.0.1", 9, Limits(connect_timeout_s=0.05))
        with pytest.raises(Unreachable):
            await upstream.connect(10)
        with pytest.raises(OutOfTime):
            await upstream.connect(0.01)

    run(test())


def test_a_large_answer_waits_for_its_reader(backend: Backend) -> None:
    """A reader that does not read makes the service stop sending: memory holds a bounded piece of the answer."""
    size = 50_000_000
    sent = 0

    def handler(wire: Wire, message: Message) -> None:
        nonlocal sent
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        for _ in range(size // 100_000):
            wire.send(b"x" * 100_000)
            sent += 100_000

    backend.on("/x", handler)

    async def test() -> None:
        async with pool(backend) as upstream:
            _, exchange = await begin(upstream, "/x")
            await exchange.head()
            await asyncio.sleep(0.5)
            held = sum(map(len, exchange.pieces))
            assert held < 2 * HIGH_WATER_BYTES
            assert sent < size / 2
            received = 0
            while piece := await exchange.read():
                received += len(piece)
            assert received == size
            assert upstream.idle == 1

    run(test())


def test_an_abandoned_exchange_closes_its_connection(backend: Backend) -> None:
    """HTTP/1.1 has no other way to tell the service that nobody wants its answer."""
    closed = threading.Event()

    def handler(wire: Wire, message: Message) -> None:
        if wire.closed_by_peer():
            closed.set()

    backend.on("/x", handler)

    async def test() -> None:
        async with pool(backend) as upstream:
            _, exchange = await begin(upstream, "/x")
            await asyncio.sleep(0.05)
            exchange.abandon()
            await asyncio.to_thread(wait_until, closed.is_set, timeout_s=5)
            await eventually(lambda: not upstream.in_use)

    run(test())
