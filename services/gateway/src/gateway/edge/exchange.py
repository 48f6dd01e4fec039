"""One request to an upstream and what comes back: the answer as it arrives, or why there is none."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.edge.connection import Connection

SMALL_BODY_BYTES = 64 * 1024
"""Up to this declared length an answer is handed over whole."""


BODILESS = frozenset({204, 304})
"""Statuses whose answers have no body, whatever their head says."""


class UpstreamError(Exception):
    """The upstream gave no usable answer. `outcome` is the label it is counted under."""

    outcome = "error"


class ConnectionDied(UpstreamError):
    """The connection ended before the answer did. `unheard` is true if not one byte of the answer had come."""

    outcome = "died"

    def __init__(self, *, unheard: bool) -> None:
        super().__init__("the upstream closed the connection")
        self.unheard = unheard


class BadResponse(UpstreamError):
    """What the upstream sent is not HTTP/1.1, or not what HTTP/1.1 allows in an answer."""

    outcome = "garbage"


class OutOfTime(UpstreamError):
    """The deadline passed while the upstream was waited for."""

    outcome = "timeout"


class Exchange:
    """One request on its connection, and the response as it arrives.

    `status`, `headers` (lower-case names, without `RESPONSE_DROPPED`) and `length` (declared; None: unknown)
    are there once `head` has returned.
    """

    __slots__ = (
        "complete",
        "connection",
        "error",
        "head_done",
        "head_only",
        "headers",
        "length",
        "named_by_connection",
        "pieces",
        "sent",
        "started",
        "status",
        "streaming",
        "waiter",
    )

    def __init__(self, connection: Connection, *, head_only: bool) -> None:
        self.connection = connection
        self.head_only = head_only
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.length: int | None = None
        self.named_by_connection: bytes | None = None
        self.pieces: list[bytes] = []
        self.started = False
        self.head_done = False
        self.streaming = False
        self.complete = False
        self.sent = True
        self.error: UpstreamError | None = None
        self.waiter: asyncio.Future[None] | None = None

    def wake(self) -> None:
        """Let the waiting task look again."""
        waiter = self.waiter
        if waiter is not None:
            self.waiter = None
            if not waiter.done():
                waiter.set_result(None)

    def fail(self, error: UpstreamError) -> None:
        """End the exchange, and its connection with it, unless the answer is complete."""
        if self.complete or self.error is not None:
            return
        self.error = error
        self.connection.abort()
        self.wake()

    def expire(self) -> None:
        """The time is up: see `fail`."""
        self.fail(OutOfTime("the upstream did not answer in time"))

    def abandon(self) -> None:
        """Nobody wants the answer any more. An upstream can only be told by closing the connection."""
        if not self.complete and self.error is None:
            self.error = ConnectionDied(unheard=False)
            self.connection.abort()

    @property
    def ready(self) -> bool:
        """Whether `head` would return without waiting: the head is here, and of a small answer the body as well."""
        return self.complete or (self.head_done and (self.length is None or self.length > SMALL_BODY_BYTES))

    async def head(self) -> None:
        """Wait for the response head; for a small answer, for all of it.

        Raises:
            UpstreamError: there is no such answer.
        """
        while not self.ready:
            if self.error is not None:
                raise self.error
            self.waiter = self.connection.loop.create_future()
            await self.waiter
        if self.error is not None:
            raise self.error
        self.streaming = True

    def take(self) -> bytes:
        """What has arrived of the body and was not taken yet."""
        pieces = self.pieces
        if not pieces:
            return b""
        body = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self.pieces = []
        if not self.complete:  # else the connection may carry another exchange by now
            self.connection.taken(len(body))
        return body

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end.

        Raises:
            UpstreamError: it broke off.
        """
        while not self.pieces:
            if self.complete:
                return b""
            if self.error is not None:
                raise self.error
            self.waiter = self.connection.loop.create_future()
            await self.waiter
        return self.take()
