"""An answer of a service on its way: to the client, or to the cache."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from gateway.edge.body import BodyRefused, Send
from gateway.edge.exchange import BODILESS, Exchange, OutOfTime, UpstreamError
from gateway.edge.headers import Header, response_headers

if TYPE_CHECKING:
    from chassis.context import RequestContext
    from gateway.edge.instance import Instance
    from gateway.edge.lanes import Lane
    from gateway.edge.request import Request
    from gateway.registry.route import Route

SERVER: Header = (b"server", b"storefront")
CLOSE: Header = (b"connection", b"close")


class Truncated(Exception):
    """The answer broke off after it had begun: all that is left is to close the client's connection.

    `status` is what had been sent.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Fetched:
    """An answer whose head is here. `close` is called, whatever happens.

    Attributes:
        status: final, never 1xx.
        headers: lower-case names; hop-by-hop fields, framing, Server and X-Request-ID are gone.
        length: bytes of the body as declared, or as they are if all of it is here; None if that is not known yet.
        route: the one that answered.
    """

    __slots__ = ("_exchange", "_instance", "_lane", "_left_s", "_outcome", "headers", "length", "status")

    def __init__(self, lane: Lane, instance: Instance, exchange: Exchange, context: RequestContext) -> None:
        self.status = status = exchange.status
        self.headers = response_headers(exchange.headers, exchange.named_by_connection)
        length = exchange.length
        if length is None and exchange.complete and not exchange.head_only and status not in BODILESS:
            length = sum(map(len, exchange.pieces))
        self.length = length
        self._lane = lane
        self._instance = instance
        self._exchange = exchange
        self._left_s = context.remaining_s()
        self._outcome = "answered" if exchange.complete else "abandoned"

    @property
    def lane(self) -> Lane:
        """Where it came from."""
        return self._lane

    @property
    def route(self) -> Route:
        """The route whose upstream answered."""
        return self._lane.route

    async def read(self) -> bytes:
        """The next piece of the body, b"" at its end.

        The request's deadline goes on while the upstream is waited for, and stands still between two calls.

        Raises:
            UpstreamError: it broke off.
        """
        exchange = self._exchange
        if not exchange.pieces and not exchange.complete:
            began_s = time.monotonic()
            timer = exchange.connection.loop.call_later(max(self._left_s, 0.0), exchange.expire)
            try:
                piece = await exchange.read()
            except UpstreamError as error:
                self._outcome = error.outcome
                if isinstance(error, (OutOfTime, BodyRefused)):  # it had begun: slow is no failure
                    self._instance.released()
                else:
                    self._instance.failed(error)
                raise
            finally:
                timer.cancel()
            self._left_s -= time.monotonic() - began_s
        else:
            piece = exchange.take()
        if exchange.complete:
            self._outcome = "answered"
        return piece

    async def relay(self, request: Request, send: Send, headers: Sequence[Header] = ()) -> int:
        """Pass the answer on: in two messages if it is all here, else as it comes and as fast as the client takes it.

        How long a client may be slow is the worker's affair.

        Args:
            headers: further fields for the client.

        Returns:
            The status.

        Raises:
            Truncated: it broke off.
        """
        out = [*self.headers, *headers, *request.said]
        if self.length is not None:
            out.append((b"content-length", b"%d" % self.length))
        out.append((b"x-request-id", request.context.request_id.encode()))
        out.append(SERVER)
        if request.body is not None and request.body.unread:
            out.append(CLOSE)
        exchange = self._exchange
        await send({"type": "http.response.start", "status": self.status, "headers": out})
        body = exchange.take()
        try:
            while not exchange.complete or exchange.pieces:
                if body:
                    await send({"type": "http.response.body", "body": body, "more_body": True})
                body = await self.read()
        except UpstreamError:
            raise Truncated(self.status) from None
        await send({"type": "http.response.body", "body": body})
        return self.status

    def close(self) -> None:
        """Nothing more of it is wanted: what is missing will not be waited for. Counts what came of it, once."""
        lane, outcome = self._lane, self._outcome
        if not outcome:
            return
        self._outcome = ""
        if outcome == "answered" or outcome == "abandoned":
            self._instance.answered(self.status)
        self._exchange.abandon()
        lane.upstream.admission.leave()
        lane.count(outcome)
