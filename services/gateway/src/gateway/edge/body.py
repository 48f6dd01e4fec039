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

    __slots__ = ("_expected", "_limit", "_pump", "_receive", "_seen", "length", "unread")

    def __init__(self, receive: Receive, *, length: int | None, limit: int, expected: bool) -> None:
        self.length = length
        self.unread = True  # whether some of it is still to come
        self._receive = receive
        self._limit = limit
        self._expected = expected
        self._seen = 0
        self._pump: asyncio.Task[None] | None = None

    async def first(self, timeout_s: float) -> bytes:
        """The piece that is here already, usually all of it; waits `timeout_s` seconds for it.

        Raises:
            Problem: 413 if it is, or says it is, too large; 400 if it does not come.
        """
        if self.length is not None and self.length > self._limit:
            raise _too_large(self._limit)
        try:
            async with asyncio.timeout(timeout_s):
                return await self._next()
        except TimeoutError:
            raise BadRequest(_LATE) from None

    async def whole(self, timeout_s: float) -> bytes:
        """All of it; waits `timeout_s` seconds for it.

        Raises:
            Problem: as `first`.
        """
        deadline_s = time.monotonic() + timeout_s
        pieces = [await self.first(timeout_s)]
        while self.unread:
            pieces.append(await self.first(deadline_s - time.monotonic()))
        return b"".join(pieces)

    def start(self, exchange: Exchange) -> None:
        """Pass the rest on in a task of its own, framed as it came. What goes wrong with it ends the exchange."""
        self._pump = asyncio.create_task(self._pass_on(exchange))

    async def _pass_on(self, exchange: Exchange) -> None:
        write = exchange.connection.write
        try:
            while self.unread:
                piece = await self._next()
                if piece:
                    await write(exchange, piece if self.length is not None else chunk(piece))
            if self.length is None:
                await write(exchange, LAST_CHUNK)
            exchange.sent = True
        except Problem as problem:
            exchange.fail(BodyRefused(problem))

    def late(self) -> BodyRefused:
        """The error for an exchange whose deadline passed while the client was still sending."""
        return BodyRefused(BadRequest(_LATE))

    async def discard(self) -> None:
        """Read what is left and forget it, within bounds. A client that waits for a 100 (Continue) sends nothing."""
        if self._expected and not self._seen:
            return
        self._limit = DISCARD_BYTES
        try:
            async with asyncio.timeout(DISCARD_S):
                if self._pump is not None:  # it goes on reading when there is nobody left to write to
                    await self._pump
                while self.unread:
                    await self._next()
        except (TimeoutError, Problem):
            return

    def close(self) -> None:
        """Nothing more of it is wanted."""
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
