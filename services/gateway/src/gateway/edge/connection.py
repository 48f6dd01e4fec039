"""One keep-alive connection to an upstream: bytes out, a response in. llhttp (httptools) does the parsing.

One request is in flight on a connection at a time. A small answer is handed over whole, in one wake-up of the task
that waits; anything longer, or of unknown length, is handed over as it arrives and holds the upstream back when the
reader is slow.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import cast

import httptools

from gateway.edge.exchange import BODILESS, BadResponse, ConnectionDied, Exchange
from gateway.edge.headers import RESPONSE_DROPPED

MAX_HEAD_BYTES = 64 * 1024
"""An upstream's response head that is longer is not believed."""
HIGH_WATER_BYTES = 256 * 1024
"""With this much of a body unread the upstream is no longer read from."""

_ASIDE = RESPONSE_DROPPED | {b"content-length"}


class Connection(asyncio.Protocol):
    """The protocol of one connection. Its pool gets it back by `on_idle`, and hears of its end by `on_end`."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        *,
        on_idle: Callable[[Connection], None],
        on_end: Callable[[Connection], None],
    ) -> None:
        self.loop = loop
        self.idle_since_s = 0.0
        self.used = False
        self.open = False
        self._on_idle = on_idle
        self._on_end = on_end
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._unread_bytes = 0
        self._head_bytes = 0
        self._read_paused = False
        self.write_paused = False
        self._write_waiter: asyncio.Future[None] | None = None
        self._chunked = False
        self._spoilt = False
        self._keep_alive = False

    # --- for the proxy ---------------------------------------------------------------------------------------------

    def begin(self, data: bytes, *, head_only: bool, whole: bool) -> Exchange:
        """Send `data`, the head of a request and what there is of its body.

        Args:
            head_only: the method is HEAD, so the answer has no body whatever its head says.
            whole: the request ends here; otherwise `write` follows, and at the end
                `Exchange.sent` is set.
        """
        if self._exchange is not None or self._transport is None:
            raise RuntimeError("one request at a time, on an open connection")
        exchange = self._exchange = Exchange(self, head_only=head_only)
        exchange.sent = whole
        self._unread_bytes = 0
        self._head_bytes = 0
        self._chunked = False
        self._transport.write(data)
        return exchange

    async def write(self, exchange: Exchange, data: bytes) -> None:
        """Send more of a request's body; returns when the upstream keeps up. Once `exchange` is over it does nothing:
        whoever reads the answer finds out why.
        """
        if self._exchange is not exchange or exchange.error is not None or self._transport is None:
            return
        self._transport.write(data)
        if self.write_paused:
            self._write_waiter = self.loop.create_future()
            await self._write_waiter

    def taken(self, count: int) -> None:
        """`count` bytes of the body have been read."""
        self._unread_bytes -= count
        if self._read_paused and self._unread_bytes < HIGH_WATER_BYTES // 2 and self._transport is not None:
            self._read_paused = False
            self._transport.resume_reading()

    def abort(self) -> None:
        """Close at once; what is not sent yet is dropped."""
        self.open = False
        if self._transport is not None:
            self._transport.abort()

    def fileno(self) -> int:
        """The socket's file descriptor, -1 if there is none any more."""
        if self._transport is None or self._transport.is_closing():
            return -1
        return int(self._transport.get_extra_info("socket").fileno())

    # --- asyncio.Protocol ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # what uvloop makes is no subclass
        self.open = True

    def data_received(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None:  # nobody asked: what it says cannot be trusted to belong to the next request
            self.abort()
            return
        exchange.started = True
        if not exchange.head_done:
            self._head_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            exchange.fail(BadResponse("the upstream switched protocols"))
            return
        except httptools.HttpParserError as error:
            cause = error.__context__
            exchange.fail(cause if isinstance(cause, BadResponse) else BadResponse(str(error)))
            return
        if exchange.complete:
            self._done(exchange)
        elif exchange.head_done:
            if self._unread_bytes > HIGH_WATER_BYTES and not self._read_paused and self._transport is not None:
                self._read_paused = True
                self._transport.pause_reading()
            if exchange.pieces if exchange.streaming else exchange.ready:
                exchange.wake()
        elif self._head_bytes > MAX_HEAD_BYTES:
            exchange.fail(BadResponse("the response head is too long"))

    def eof_received(self) -> bool:
        return False  # close our side as well

    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        self._transport = None
        self.resume_writing()
        exchange = self._exchange
        self._exchange = None
        self._on_end(self)
        if exchange is not None and not exchange.complete and exchange.error is None:
            until_eof = exchange.head_done and exchange.length is None and not self._chunked
            if until_eof and exc is None:
                exchange.complete = True
            else:
                exchange.error = ConnectionDied(unheard=not exchange.started)
            exchange.wake()

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        waiter = self._write_waiter
        if waiter is not None:
            self._write_waiter = None
            if not waiter.done():
                waiter.set_result(None)

    # --- llhttp's callbacks, in the order in which they come ---------------------------------------------------------

    def on_message_begin(self) -> None:
        if self._exchange is None or self._exchange.complete:
            self._spoilt = True  # a second answer to one request

    def on_header(self, name: bytes, value: bytes) -> None:
        exchange = self._exchange
        if exchange is None or exchange.head_done:
            return  # a trailer
        name = name.lower()
        if name not in _ASIDE:
            exchange.headers.append((name, value))
        elif name == b"content-length":
            exchange.length = int(value)  # llhttp has refused what is no number, and a second one
        elif name == b"connection":
            before = exchange.named_by_connection
            exchange.named_by_connection = value if before is None else before + b"," + value
        elif name == b"transfer-encoding":
            if value.lower() != b"chunked":
                raise BadResponse("a transfer coding that nobody asked for")
            self._chunked = True

    def on_headers_complete(self) -> None:
        exchange = self._exchange
        if exchange is None or exchange.complete:
            return
        if not self.used and self._parser.get_http_version() not in ("1.1", "1.0"):
            raise BadResponse("not HTTP/1")
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer; ours to the client was the server's own affair
            if status == 101:
                raise BadResponse("the upstream switched protocols")
            exchange.headers = []
            exchange.named_by_connection = None
            return
        exchange.status = status
        exchange.head_done = True
        if exchange.head_only or status in BODILESS:
            self._keep_alive = self._parser.should_keep_alive()
            exchange.complete = exchange.head_only

    def on_body(self, data: bytes) -> None:
        exchange = self._exchange
        if exchange is None or exchange.complete:
            self._spoilt = True
            return
        exchange.pieces.append(data)
        self._unread_bytes += len(data)

    def on_message_complete(self) -> None:
        exchange = self._exchange
        if exchange is not None and exchange.head_done and not exchange.head_only:
            self._keep_alive = self._parser.should_keep_alive()
            exchange.complete = True

    def _done(self, exchange: Exchange) -> None:
        """The answer is complete: give the connection back, or close it if it cannot carry another request."""
        self._exchange = None
        if self._read_paused and self._transport is not None:
            self._read_paused = False
            self._transport.resume_reading()
        if self._spoilt or not self._keep_alive or not exchange.sent or not self.open:
            self.abort()
        else:
            if exchange.head_only:  # llhttp cannot be told of HEAD and waits for a body
                self._parser = httptools.HttpResponseParser(self)
            self.used = True
            self._on_idle(self)
        exchange.wake()
