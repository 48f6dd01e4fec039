"""The streaming proxy: one request to its upstream and the answer back, within the deadline."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from chassis.errors import DeadlineExceeded, Problem, Unavailable
from gateway.edge.body import BodyRefused, Send, chunk
from gateway.edge.exchange import ConnectionDied, Exchange, OutOfTime, UpstreamError
from gateway.edge.headers import Header, Peers, response_headers

if TYPE_CHECKING:
    from chassis.metrics import Metrics
    from gateway.edge.request import Request
    from gateway.edge.routes import Route
    from gateway.edge.upstream import Upstream

SERVER: Header = (b"server", b"storefront")
CLOSE: Header = (b"connection", b"close")
_REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
_BODILESS = frozenset({204, 304})


class Truncated(Exception):
    """The answer broke off after it had begun: all that is left is to close the client's connection.

    `status` is what had been sent.
    """

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Proxy:
    """Forwards requests to upstreams and counts what comes of them."""

    def __init__(self, *, peers: Peers, metrics: Metrics) -> None:
        self._peers = peers
        self._requests = metrics.counter(
            "gateway_upstream_requests_total", "Requests to an upstream by what came of them", ("upstream", "outcome")
        )
        self._counters: dict[tuple[str, str], Any] = {}

    def _count(self, upstream: Upstream, outcome: str) -> None:
        key = (upstream.name, outcome)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._requests.labels(*key)
        counter.inc()

    async def forward(self, request: Request, route: Route, send: Send) -> int:
        """Answer `request` with what the route's upstream says; returns the status.

        Raises:
            Problem: there is no answer to pass on; nothing has been sent to the client.
            Truncated: the answer broke off after it had begun.
        """
        upstream = route.upstream
        outcome = "abandoned"  # by the client: it left, or its body was too large or too slow
        exchange: Exchange | None = None
        upstream.enter()
        try:
            exchange = await self._exchange(request, route)
            await _relay(request, exchange, send)
            outcome = "answered"
            upstream.well()
            return exchange.status
        except UpstreamError as error:
            outcome = error.outcome
            upstream.unwell(error)
            if exchange is None:
                raise _problem(upstream, error) from None
            raise Truncated(exchange.status) from None
        finally:
            if exchange is not None:
                exchange.abandon()
            upstream.leave()
            self._count(upstream, outcome)

    async def _exchange(self, request: Request, route: Route) -> Exchange:
        """Send the request; returns when the answer's head is here.

        A request that is the same sent twice, and whose kept connection turns out to have been closed before the
        first byte of an answer, is sent once more on a new one. Nothing else is repeated.

        Raises:
            UpstreamError: there is no answer.
            Problem: the request's body is too large, or does not come.
        """
        upstream, context, body = route.upstream, request.context, request.body
        upstream.check_room()
        if context.remaining_s() <= 0:
            raise OutOfTime("the request came with no time left")
        piece = await body.first(context.remaining_s()) if body is not None else b""
        whole = body is None or not body.unread
        repeatable = whole and request.method in _REPEATABLE
        message = self._message(request, route, piece, whole=whole)
        connection = upstream.take_idle(probe=not repeatable)
        while True:
            if connection is None:
                connection = await upstream.connect(context.remaining_s())
            reused = connection.used
            exchange = connection.begin(message, head_only=request.method == "HEAD", whole=whole)
            timer = connection.loop.call_later(max(context.remaining_s(), 0.0), _expire, request, exchange)
            if body is not None and not whole:
                body.start(exchange)
            try:
                await exchange.head()
                return exchange
            except ConnectionDied as error:
                if not (error.unheard and reused and repeatable):
                    raise
                self._count(upstream, error.outcome)
                connection = None
            finally:
                timer.cancel()
                if not exchange.streaming:
                    exchange.abandon()

    def _message(self, request: Request, route: Route, piece: bytes, *, whole: bool) -> bytes:
        """The request's head as the upstream gets it, and what there is of its body."""
        target = request.raw_path
        if route.strip:
            target = target[len(route.strip) :]
        if request.query:
            target = b"%b?%b" % (target, request.query)
        parts = [request.method.encode(), b" ", target, route.upstream.request_line_end]
        for name, value in request.fields:
            parts += (name, b": ", value, b"\r\n")
        aside, context = request.aside, request.context
        parts.append(self._peers.forwarding_lines(request.peer, request.host, request.scheme, aside))
        body = request.body
        if body is None:
            if b"content-length" in aside:
                parts.append(b"Content-Length: 0\r\n")
        elif body.length is not None:
            parts.append(b"Content-Length: %d\r\n" % body.length)
        elif whole:
            parts.append(b"Content-Length: %d\r\n" % len(piece))
        else:
            parts.append(b"Transfer-Encoding: chunked\r\n")
            piece = chunk(piece) if piece else b""
        if b"tracestate" in aside and context.trace_id.encode() in aside.get(b"traceparent", b""):
            parts.append(b"tracestate: %b\r\n" % aside[b"tracestate"])
        parts.append(
            b"X-Request-ID: %b\r\ntraceparent: %b\r\nX-Request-Timeout-Ms: %d\r\n\r\n"
            % (
                context.request_id.encode(),
                context.child_traceparent().encode(),
                max(context.remaining_s() * 1000, 1),
            )
        )
        parts.append(piece)
        return b"".join(parts)


async def _relay(request: Request, exchange: Exchange, send: Send) -> None:
    """Pass the answer on: in two messages if it is all here, else as it comes and as fast as the client takes it.

    The deadline goes on while the upstream is waited for, and stands still while the client is; how long a client
    may be slow is the worker's affair.

    Raises:
        UpstreamError: it broke off.
    """
    status, context = exchange.status, request.context
    headers = response_headers(exchange.headers, exchange.named_by_connection)
    body = exchange.take()
    length = exchange.length
    if length is None and exchange.complete and not exchange.head_only and status not in _BODILESS:
        length = len(body)
    if length is not None:
        headers.append((b"content-length", b"%d" % length))
    headers.append((b"x-request-id", context.request_id.encode()))
    headers.append(SERVER)
    if request.body is not None and request.body.unread:
        headers.append(CLOSE)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    loop = exchange.connection.loop
    left_s = context.remaining_s()
    while not exchange.complete or exchange.pieces:
        if body:
            await send({"type": "http.response.body", "body": body, "more_body": True})
        began_s = time.monotonic()
        timer = loop.call_later(max(left_s, 0.0), exchange.expire)
        try:
            body = await exchange.read()
        finally:
            timer.cancel()
        left_s -= time.monotonic() - began_s
    await send({"type": "http.response.body", "body": body})


def _expire(request: Request, exchange: Exchange) -> None:
    """The deadline has passed: it is the client's fault if its body is what is missing."""
    body = request.body
    if body is not None and body.unread and not exchange.connection.write_paused:
        exchange.fail(body.late())
    else:
        exchange.expire()


def _problem(upstream: Upstream, error: UpstreamError) -> Problem:
    """What a client is told: never a driver's text, and where something is lost or full, when to come back."""
    if isinstance(error, BodyRefused):
        return error.problem
    if isinstance(error, OutOfTime):
        return DeadlineExceeded(f"The {upstream.name} service did not answer in time")
    return Unavailable(f"The {upstream.name} service is not available")
