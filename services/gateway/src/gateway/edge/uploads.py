"""Bodies that are not whole yet: few of them may be on their way to services, the others are waited for here.

A service gives a thread to a request as long as its body takes, and it has some sixteen; clients that send a byte a
second would have them all. Here waiting costs next to nothing. So a body streams while hardly any other does, and else
it is passed on when it is whole, or when so much of it is here that a slow client would not have got that far.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chassis.errors import Unavailable

if TYPE_CHECKING:
    from gateway.edge.body import Body

MOST_STREAMS = 2
"""Unfinished bodies that are passed on as they come, per worker."""
HELD_BYTES = 64 * 1024
"""With so much of it here a body goes on its way in any case."""
MOST_HELD_BYTES = 16 * 1024 * 1024
"""What all unfinished bodies together may hold, per worker; more are answered 503."""


class Uploads:
    """Of one worker."""

    def __init__(self) -> None:
        self._streams = 0
        self._held_bytes = 0

    async def admit(self, body: Body, timeout_s: float) -> bool:
        """Wait until a service may be asked; returns whether the rest of the body streams, and `release` is due.

        Raises:
            Problem: 413 if the body is too large, 400 if it does not come, 503 if too much is held.
        """
        await body.hold(1, timeout_s)
        if not body.unread:
            return False
        if self._streams >= MOST_STREAMS:
            await self._hold(body, timeout_s)
            if not body.unread:
                return False
        self._streams += 1
        return True

    def release(self) -> None:
        """A body that was admitted to stream does so no more."""
        self._streams -= 1

    async def _hold(self, body: Body, timeout_s: float) -> None:
        mine = 0

        def count(length: int) -> None:
            nonlocal mine
            if self._held_bytes + length > MOST_HELD_BYTES:
                raise Unavailable("The gateway is busy")
            self._held_bytes += length
            mine += length

        try:
            await body.hold(HELD_BYTES, timeout_s, count=count)
        finally:
            self._held_bytes -= mine
