"""gunicorn's native ASGI worker with the edge's manners.

What the stock worker does otherwise (gunicorn 27.0.1) and an edge cannot have:

- errors of its own are plain text, and 501 or 414 where the contract has 400; they are neither counted nor logged;
- a number of thousands of digits in Content-Length ends the connection without an answer;
- a client may take for ever over its first request head, over reading an answer, and open any number of connections;
- it keeps an HTTP/1.0 connection open after an answer of unknown length, whose end such a client cannot see;
- a graceful stop waits for idle keep-alive connections, takes up to a second to begin, and listens meanwhile;
- a SIGTERM that comes while a worker boots is lost;
- it looks at every field of every answer several times; a `ReadyHead` goes out as it is;
- it has no short way for an answer that is at hand (`gateway.edge.quick`);
- it makes a task for every request, and a timer for the time between two;
- it listens again with asyncio's own backlog of 100 instead of the configured one.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import os
import signal
import socket
import struct
import sys
from typing import Any

import gunicorn.asgi.lifespan
import gunicorn.asgi.protocol
import gunicorn.workers.gasgi
from gunicorn.arbiter import Arbiter

from chassis.errors import CONTENT_TYPE, title_of
from chassis.lifecycle import STOP_SIGNALS, draining
from gateway.edge.cache.entry import ReadyHead
from gateway.edge.quick import Hit, Quick
from gateway.settings import ClientSettings

# As Any: the published type stubs leave out the parts that are overridden here.
ASGIProtocol: Any = gunicorn.asgi.protocol.ASGIProtocol
ASGIWorker: Any = gunicorn.workers.gasgi.ASGIWorker
_status_line: Any = gunicorn.asgi.protocol._get_cached_status_line  # type: ignore[attr-defined]  # noqa: SLF001
LifespanManager: Any = gunicorn.asgi.lifespan.LifespanManager

LINGER_S = 1.0
"""After SIGTERM, idle connections get this long to send one more request, answered with `Connection: close`. A close
at once would cross with requests on their way."""
HEARTBEAT_S = 1.0

_SO_ATTACH_FILTER = 26
_DROP_ALL = struct.pack("HBBI", 0x06, 0, 0, 0)
"""The classic BPF instruction `ret #0` (linux/filter.h): of each packet for the socket itself, take nothing."""

_DETAILS = {
    400: "The request is not well-formed HTTP/1.1",
    431: "The request head is too large",
    500: "Something went wrong on our side",
    503: "The gateway has too many connections",
}
_STATUSES = {414: 400, 501: 400, 426: 400}


def close_door(listener: socket.socket) -> None:
    """Let the kernel take no more connections for a listening socket, and keep those that it has queued.

    Between the last of these that is accepted and the socket's end another could come, and be reset with its request.
    Who knocks now tries again a second later, and is refused. Linux only; elsewhere that gap stays.
    """
    if not sys.platform.startswith("linux"):
        return
    instruction = ctypes.create_string_buffer(_DROP_ALL)
    program = struct.pack("HP", 1, ctypes.addressof(instruction))  # struct sock_fprog, which the kernel copies
    listener.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, program)


class EdgeProtocol(ASGIProtocol):  # type: ignore[misc]
    """One client connection."""

    worker: EdgeWorker

    def __init__(self, worker: EdgeWorker) -> None:
        super().__init__(worker)
        self._limits: ClientSettings = worker.asgi.settings.client
        self._quick: Quick = worker.asgi.quick
        self._head_timer: asyncio.TimerHandle | None = None
        self._stall_timer: asyncio.TimerHandle | None = None
        self._answering = False
        self._idle_since_s = math.inf

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.worker.connections.add(self)
        if self.worker.nr_conns > self._limits.max_connections:
            self._send_error_response(503, "")
            self._close_transport()
            return
        self._head_timer = self.worker.loop.call_later(self._limits.head_timeout_ms / 1000, self._give_up_on_head)

    def connection_lost(self, exc: Exception | None) -> None:
        self.worker.connections.discard(self)
        self._cancel_head_timer()
        self._cancel_stall_timer()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self._cancel_stall_timer()
        self._stall_timer = self.worker.loop.call_later(self._limits.stall_timeout_ms / 1000, self.transport.abort)

    def resume_writing(self) -> None:
        self._cancel_stall_timer()
        super().resume_writing()

    def _arm_keepalive_timer(self) -> None:
        self._idle_since_s = self.worker.loop.time()

    def _cancel_keepalive_timer(self) -> None:
        self._idle_since_s = math.inf

    def close_if_idle_since(self, time_s: float) -> None:
        """Close the connection if its last answer was before `time_s`, on the loop's clock."""
        if self._idle_since_s < time_s:
            self.close_if_idle()

    def close_if_idle(self) -> None:
        """Close the connection unless a request is being answered on it."""
        if self._current_request is None and not self._closed:
            self._keepalive_timeout()

    def _on_headers_complete(self) -> bool:
        self._cancel_head_timer()
        skip: bool = super()._on_headers_complete()
        self._answering = False
        request = self._current_request
        if request.version < (1, 1):
            request.must_close = True
        return skip

    def _feed_callback_parser(self, data: bytes) -> bool:
        try:
            fed: bool = super()._feed_callback_parser(data)
        except ValueError:  # int() of a number of more than 4300 digits
            self._send_error_response(400, "")
            self._close_transport()
            return False
        return fed

    async def _serve_http_request(self, request: Any, sockname: Any, peername: Any) -> bool:
        """In the connection's own task. gunicorn makes one for each request, so that the next need not wait for what an
        application does after its answer; the edge does nothing then that would be worth it.
        """
        if request.method == "GET" and request.raw_path in self._quick:
            hit = self._quick.answer(self._build_http_scope(request, sockname, peername))
            if hit is not None:
                return await self._write_hit(request, hit)
        keep: bool = await self._handle_http_request(request, sockname, peername)
        return keep

    async def _write_hit(self, request: Any, hit: Hit) -> bool:
        close = self._will_close(request, False)
        self._send_response_start(hit.status, hit.head, request, close)
        self._send_body(hit.body)
        if self._flow_control.write_paused:
            await self._flow_control.drain()
        return not close

    def _send_response_start(self, status: int, headers: Any, request: Any, close: bool = False) -> None:
        self._answering = True
        if not isinstance(headers, ReadyHead):
            super()._send_response_start(status, headers, request, close)
            return
        ending = b"connection: close\r\n\r\n" if close else b"\r\n"
        self._response_buffer = b"%b%b%b" % (_status_line(request.version, status), headers.lines, ending)

    def _will_close(self, request: Any, response_requires_close: bool) -> bool:
        close: bool = super()._will_close(request, response_requires_close)
        return close or self.worker.stopping

    def _is_websocket_upgrade(self, request: Any) -> bool:  # noqa: ARG002
        return False  # an upgrade that is not taken is an ordinary request (RFC 9110 section 7.8)

    def _send_error_response(self, status: int, message: str, extra_headers: Any = ()) -> None:  # noqa: ARG002
        """Answer what the application never saw, or did not answer. gunicorn's text may quote the request: not used."""
        if self._closed:  # who has left in the middle of a request gets no answer, and has seen no error
            return
        status = _STATUSES.get(status, status)
        peer = self.transport.get_extra_info("peername")
        detail = _DETAILS.get(status, title_of(status))
        body, request_id = self.app.malformed(peer[0] if peer else "", status, detail)
        if self._answering and self._current_request is not None:
            return  # a body that turns out malformed when its answer has begun: all there is to do is close
        retry = "Retry-After: 1\r\n" if status == 503 else ""
        head = (
            f"HTTP/1.1 {status} {title_of(status)}\r\nConnection: close\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\n{retry}Server: storefront\r\nX-Request-ID: {request_id}\r\n\r\n"
        )
        self._safe_write(head.encode("latin-1") + body)

    def _give_up_on_head(self) -> None:
        if self._current_request is None and not self._closed:
            if self._callback_parser is not None and self._callback_parser.method is not None:
                self._send_error_response(400, "")
            self._keepalive_timeout()

    def _cancel_head_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _cancel_stall_timer(self) -> None:
        if self._stall_timer is not None:
            self._stall_timer.cancel()
            self._stall_timer = None


class EdgeWorker(ASGIWorker):  # type: ignore[misc]
    """The worker: EdgeProtocol for every connection, and a stop that is graceful and short."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.alive: bool
        self.connections: set[EdgeProtocol] = set()
        self._stop = asyncio.Event()

    def init_signals(self) -> None:
        """Until the loop runs, plain handlers: uvloop forgets a signal that comes while the application is loaded."""
        super().init_signals()
        signal.signal(signal.SIGTERM, lambda *_: self.handle_exit_signal())
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    @property
    def stopping(self) -> bool:
        """Whether a signal has said stop.

        Not the same as `alive`: gunicorn closes connections when that is false, also those whose last answer had
        promised to keep them open.
        """
        return self._stop.is_set()

    def handle_exit_signal(self) -> None:
        """SIGTERM."""
        self._stop.set()

    def handle_quit_signal(self) -> None:
        """SIGINT and SIGQUIT."""
        super().handle_quit_signal()
        self._stop.set()

    async def _serve(self) -> None:
        self.asgi.cache.ready_heads = True
        self.lifespan = LifespanManager(self.asgi, self.log, self.state)
        try:
            await self.lifespan.startup()
        except Exception as error:
            self.log.exception("The application did not start")
            raise SystemExit(Arbiter.WORKER_BOOT_ERROR) from error
        self.loop.add_signal_handler(signal.SIGTERM, self.handle_exit_signal)
        for listener in self.sockets:
            self.servers.append(
                await self.loop.create_server(self._protocol, sock=listener.sock, backlog=self.cfg.backlog)
            )
        while not self.stopping:
            self.notify()
            self._close_idle()
            if self.ppid != os.getppid():
                self.log.info("The master is gone: stopping")
                self._stop.set()
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._stop.wait()
            except TimeoutError:
                continue
        await self._shutdown()

    def _close_idle(self) -> None:
        since_s = self.loop.time() - self.cfg.keepalive
        for connection in list(self.connections):
            connection.close_if_idle_since(since_s)

    def _protocol(self) -> EdgeProtocol:
        return EdgeProtocol(self)

    async def _shutdown(self) -> None:
        for server, listener in zip(self.servers, self.sockets, strict=True):
            with listener.sock.dup() as last:  # `close` closes the listener's own
                if draining():  # else the socket lives on in the master, and in the workers that come after this one
                    close_door(last)
                server.close()
                await self._accept_queued(last)
        if not self._quick_shutdown:
            now_s = self.loop.time()
            await self._wait_for_connections(now_s + min(LINGER_S, self.cfg.graceful_timeout))
            for connection in list(self.connections):
                connection.close_if_idle()
            await self._wait_for_connections(now_s + self.cfg.graceful_timeout)
            if self.connections:
                self.log.warning("Closing %d connections with unanswered requests", len(self.connections))
        self.alive = False
        await self.lifespan.shutdown()

    async def _accept_queued(self, listener: socket.socket) -> None:
        """Take what the kernel has queued: closing the last listener of all workers resets those connections."""
        listener.setblocking(False)
        while True:
            try:
                accepted, _ = listener.accept()
            except OSError:
                return
            await self.loop.connect_accepted_socket(self._protocol, accepted)

    async def _wait_for_connections(self, until_s: float) -> None:
        while self.connections and self.loop.time() < until_s and not self._quick_shutdown:
            self.notify()
            await asyncio.sleep(0.02)
