"""A request's body on its way from the client to the upstream: counted, bounded in size and in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from chassis.errors import BadRequest, Problem
from gateway.edge.exchange import Exchange, UpstreamError

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

DISCARD_BYTES = 16 * 1024 * 1024
DISCARD_S = 2.0
"""How much of an unwanted body, and for how long, is read after the answer. Closing on a client that still sends
makes its system throw the answer away (RFC 9112 section 9.6)."""

_LATE = "The request body did not arrive in time"


class BodyRefused(UpstreamError):
    """The body cannot be passed on to its end; `problem` says why. The upstream is not to blame."""

    outcome = "abandoned"

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail)
        self.problem = problem


class Body:
    """The body of one request.

    Args:
        length: bytes it declares; None if it is chunked.
        limit: bytes it may have.
    """

    __slots__ = ("_expected", "_held", "_limit", "_over", "_pump", "_receive", "_seen", "length", "unread")

    def __init__(self, receive: Receive, *, length: int | None, limit: int, expected: bool) -> None:
        self.length = length
        self.unread = True  # whether some of it is still to come
        self._receive = receive
        self._limit = limit
        self._expected = expected
        self._seen = 0
        self._held: bytes | None = None  # what `hold` has waited for
        self._pump: asyncio.Task[None] | None = None
        self._over = False

    async def first(self, timeout_s: float) -> bytes:
        """The piece that is here already, usually all of it; waits `timeout_s` seconds for it.

        Raises:
            Problem: 413 if it is, or says it is, too large; 400 if it does not come.
        """
        if self._held is not None:
            piece, self._held = self._held, None
            return piece
        if self.length is not None and self.length > self._limit:
            raise _too_large(self._limit)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._next()
        except TimeoutError:
            raise BadRequest(_LATE) from None

    async def hold(self, enough: int, timeout_s: float, *, count: Callable[[int], None] | None = None) -> None:
        """Wait until so many bytes of it are here, one piece at least, or all of it; `first` gives them in one piece.

        Args:
            timeout_s: the longest wait.
            count: is told of every piece that is kept meanwhile how long it is; may raise Problem.

        Raises:
            Problem: as `first`.
        """
        deadline_s = time.monotonic() + timeout_s
        pieces = [await self.first(timeout_s)]
        held = len(pieces[0])
        while self.unread and held < enough:
            if count is not None:
                count(len(pieces[-1]))
            pieces.append(await self._further(deadline_s))
            held += len(pieces[-1])
        self._held = b"".join(pieces)

    async def whole(self, timeout_s: float) -> bytes:
        """All of it; waits `timeout_s` seconds for it.

        Raises:
            Problem: as `first`.
        """
        deadline_s = time.monotonic() + timeout_s
        pieces = [await self.first(timeout_s)]
        while self.unread:
            pieces.append(await self._further(deadline_s))
        return b"".join(pieces)

    async def _further(self, deadline_s: float) -> bytes:
        """The next piece; looks at the clock as well, for a client could keep up with any time-out (see `discard`)."""
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise BadRequest(_LATE)
        return await self.first(left_s)

    def start(self, exchange: Exchange) -> None:
        """Pass the rest on in a task of its own, framed as it came. What goes wrong with it ends the exchange."""
        self._pump = asyncio.create_task(self._pass_on(exchange))

    def when_sent(self, done: Callable[[], None]) -> None:
        """Call `done` once nothing of it is on its way to an upstream any more: now, if nothing is."""
        if self._pump is None:
            done()
        else:
            self._pump.add_done_callback(lambda _: done())

    async def _pass_on(self, exchange: Exchange) -> None:
        write = exchange.connection.write
        try:
            while self.unread and not self._over:
                piece = await self._next()
                if piece:
                    await write(exchange, piece if self.length is not None else chunk(piece))
            if self.unread:
                return
            if self.length is None:
                await write(exchange, LAST_CHUNK)
            exchange.sent = True
        except Problem as problem:
            exchange.fail(BodyRefused(problem))

    def late(self) -> BodyRefused:
        """The error for an exchange whose deadline passed while the client was still sending."""
        return BodyRefused(BadRequest(_LATE))

    async def discard(self) -> None:
        """Read what is left and forget it, within bounds. A client that waits for a 100 (Continue) sends nothing.

        Python 3.11 loses a cancellation that comes together with what was waited for (`asyncio.wait_for`, in the
        server), and with it a time-out: a client that sends often enough would be read for ever. So the clock counts.
        """
        if self._expected and not self._seen:
            return
        self._limit = DISCARD_BYTES
        deadline_s = time.monotonic() + DISCARD_S
        if self._pump is not None:  # it goes on reading when there is nobody left to write to
            await asyncio.wait((self._pump,), timeout=DISCARD_S)
            self.close()
            await asyncio.wait((self._pump,), timeout=DISCARD_S)
        try:
            while self.unread and (left_s := deadline_s - time.monotonic()) > 0:
                async with asyncio.timeout(left_s):
                    await self._next()
        except (TimeoutError, Problem):
            return

    def close(self) -> None:
        """Nothing more of it is wanted."""
        self._over = True
        if self._pump is not None:
            self._pump.cancel()

    async def _next(self) -> bytes:
        message = await self._receive()
        if message["type"] != "http.request":
            raise BadRequest(_LATE)
        piece: bytes = message.get("body", b"")
        self.unread = message.get("more_body", False)
        self._seen += len(piece)
        if self._seen > self._limit:
            raise _too_large(self._limit)
        return piece


LAST_CHUNK = b"0\r\n\r\n"


def chunk(piece: bytes) -> bytes:
    """`piece` as a chunk (RFC 9112 section 7.1)."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


def _too_large(limit: int) -> Problem:
    return Problem(f"The request body is larger than {limit} bytes", status=413)
