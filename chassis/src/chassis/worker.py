"""The gunicorn worker of the Flask services: `gthread` that no peer can hold up.

What the stock worker does otherwise (gunicorn 27.0.1):

- its own errors are HTML pages, and what is wrong with a body that nobody read is a second answer to the same request;
- a connection has a thread from its first moment, for 5 s of silence or for as long as a head or a body takes, which
  may be for ever: with eight threads, eight half requests stop a worker for good;
- it closes in the thread that does all the accepting, and waits there up to 2 s for the peer to do so as well.

Here a request gets a thread when it is whole, or when there is more of it than a peer that is merely slow would have
sent; what is still missing then has a time limit; and the main thread never waits.
"""

from __future__ import annotations

import errno
import re
import selectors
import signal
import socket
import time
from collections import deque
from functools import partial
from typing import Any

from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from chassis.errors import CONTENT_TYPE, problem_bytes, title_of
from chassis.lifecycle import STOP_SIGNALS

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (errors.LimitRequestLine, 414),
    (errors.LimitRequestHeaders, 431),
    (errors.ExpectationFailed, 417),
    (errors.ConfigurationProblem, 500),
    (errors.ForbiddenProxyRequest, 403),
    (errors.ParseException, 400),
)
"""What gunicorn answers to what it cannot parse; the first that fits counts."""


ARRIVE_S = 10.0
"""What a request has to arrive, from its first byte to its last, and a new connection until its first: as at the
gateway. What has not come then is answered with 400 or not at all."""
TAKE_S = 15.0
"""How long a peer may take nothing of its answer."""
LINGER_S = 2.0
"""How long a peer is waited for when its connection is closed; else its system may throw the answer away (RFC 9112
section 9.6)."""
GATHERED_BYTES = 64 * 1024
"""With so much of it here a request has a thread in any case."""

_PIECE_BYTES = 64 * 1024
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,5})[ \t]*\r\n", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect[ \t]*:", re.IGNORECASE)


class TimedSocket(socket.socket):
    """A peer's connection, and what is here of a request.

    Attributes:
        gathered: the beginning of a request.
        since_s: when that began, and `until_s`: when all that is still to come has to be here; monotonic.
    """

    gathered: bytearray
    since_s: float
    until_s: float
    _wanted: int

    @classmethod
    def of(cls, sock: socket.socket) -> TimedSocket:
        """The same connection; `sock` is of no use any more."""
        timed = cls(fileno=sock.detach())
        timed.begin()
        return timed

    def begin(self) -> None:
        """Another request."""
        self.setblocking(False)
        self.gathered = bytearray()
        self._wanted = 0
        self.since_s = time.monotonic()
        self.until_s = self.since_s + ARRIVE_S

    def add(self, data: bytes) -> bool:
        """Take more of it; returns whether it is worth a thread: it is here, or no more should be waited for.

        What is wrong with it is for the parser to say, so what looks odd is not waited for.
        """
        known = len(self.gathered)
        self.gathered += data
        if not self._wanted:
            self._wanted = self._length(known)
        return len(self.gathered) >= min(self._wanted or GATHERED_BYTES, GATHERED_BYTES)

    def _length(self, known: int) -> int:
        """How long the request will be: 1 if that cannot be said, 0 if it cannot be said yet."""
        data = self.gathered
        end = data.find(b"\r\n\r\n", max(known - 3, 2 if data.startswith(b"\r\n") else 0))
        if end < 0:
            fresh = data[max(known - 1, 0) :]
            return int(fresh.count(b"\n") - fresh.startswith(b"\n") != fresh.count(b"\r\n"))
        length = _LENGTH.search(data, 0, end + 2)
        if length is None or _EXPECTS.search(data, 0, end + 2):
            return 1
        return end + 4 + int(length[1])

    def setblocking(self, flag: bool) -> None:
        """Blocking means: for as long as a peer may take nothing."""
        self.settimeout(TAKE_S if flag else 0.0)

    def recv(self, size: int, flags: int = 0) -> bytes:
        """As `socket.recv`.

        Raises:
            NoMoreData: in a thread, if nothing comes in time. It is what gunicorn takes for a peer that has left.
        """
        before_s = self.gettimeout()
        if not before_s:
            return super().recv(size, flags)
        left_s = self.until_s - time.monotonic()
        if left_s <= 0:
            raise errors.NoMoreData
        self.settimeout(min(left_s, before_s))
        try:
            return super().recv(size, flags)
        except TimeoutError:
            raise errors.NoMoreData from None
        finally:
            self.settimeout(before_s)

    def sendall(self, data: Any, flags: int = 0) -> None:
        """As `socket.sendall`. A peer that takes nothing is one that has left."""
        try:
            super().sendall(data, flags)
        except TimeoutError:
            raise BrokenPipeError(errno.EPIPE, "The peer takes nothing") from None


class Worker(ThreadWorker):
    """Answers requests that never reach the application with `application/problem+json`, and waits for none of them."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lingering: deque[Any] = deque()

    # --- until a request is here: no thread -------------------------------------------------------------------------

    def enqueue_req(self, conn: Any) -> None:
        """A new connection is looked at when it says something; all others have said enough."""
        if conn.initialized or conn.data_ready:
            super().enqueue_req(conn)
            return
        conn.sock = TimedSocket.of(conn.sock)
        self._gather(conn)

    def on_client_socket_readable(self, conn: Any, client: Any) -> None:
        """Another request begins on a kept connection; most are here at once."""
        self.poller.unregister(client)
        self.keepalived_conns.remove(conn)
        conn.sock.begin()
        if not self._read(conn):
            self._gather(conn)
        elif conn.sock.gathered:
            super().enqueue_req(conn)
        else:
            self.nr_conns -= 1
            conn.close()

    def on_pending_socket_readable(self, conn: Any, client: Any) -> None:  # noqa: ARG002 - gunicorn's signature
        """More of a request is here."""
        if self._read(conn):
            self._pass_on(conn)

    def murder_pending(self) -> None:
        """End what has waited too long: half a request goes on to be refused, silence ends in silence."""
        now_s = time.monotonic()
        pending: deque[Any] = self.pending_conns
        if not self.alive:  # a stop waits for no one that may be silent for ten seconds
            for conn in [conn for conn in pending if not conn.sock.gathered and now_s - conn.sock.since_s > LINGER_S]:
                self._end(conn, pending)
        while pending and pending[0].timeout <= now_s:
            self._pass_on(pending[0])
        while self._lingering and self._lingering[0].timeout <= now_s:
            self._end(self._lingering[0], self._lingering)

    def _read(self, conn: Any) -> bool:
        """Whether a connection has something to do for a thread; its end is."""
        try:
            data = conn.sock.recv(_PIECE_BYTES)
        except (BlockingIOError, InterruptedError):
            return False
        except OSError:
            return True
        return not data or bool(conn.sock.add(data))

    def _gather(self, conn: Any) -> None:
        conn.timeout = conn.sock.until_s
        self.pending_conns.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self.on_pending_socket_readable, conn))

    def _pass_on(self, conn: Any) -> None:
        if not conn.sock.gathered:
            self._end(conn, self.pending_conns)
            return
        self._forget(conn, self.pending_conns)
        conn.data_ready = True
        super().enqueue_req(conn)

    def _forget(self, conn: Any, among: deque[Any]) -> None:
        among.remove(conn)
        self.poller.unregister(conn.sock)

    def _end(self, conn: Any, among: deque[Any]) -> None:
        self._forget(conn, among)
        self.nr_conns -= 1
        conn.close()

    # --- in a thread ------------------------------------------------------------------------------------------------

    def handle(self, conn: Any) -> Any:
        """Answer a request of which enough is here."""
        sock = conn.sock
        if sock.gathered:
            conn.init()
            conn.parser.unreader.unread(bytes(sock.gathered))
            sock.gathered = bytearray()
        else:  # pipelined: it was read together with the one before; or the end of a kept connection
            sock.until_s = time.monotonic() + ARRIVE_S
        return super().handle(conn)

    # --- and its end ------------------------------------------------------------------------------------------------

    def finish_request(self, conn: Any, fs: Any) -> None:
        """As gunicorn does, but for a connection that is to be closed: the peer is not waited for here."""
        if fs.cancelled() or fs.exception() is not None or fs.result():
            super().finish_request(conn, fs)
            return
        try:
            conn.sock.shutdown(socket.SHUT_WR)
            conn.sock.setblocking(False)
        except OSError:
            self.nr_conns -= 1
            conn.close()
            return
        conn.timeout = time.monotonic() + LINGER_S
        self._lingering.append(conn)
        self.poller.register(conn.sock, selectors.EVENT_READ, partial(self._drain, conn))

    def _drain(self, conn: Any, client: Any) -> None:
        """What a peer sends on a connection that is being closed is thrown away, until it closes as well."""
        try:
            over = not client.recv(_PIECE_BYTES)
        except (BlockingIOError, InterruptedError):
            over = False
        except OSError:
            over = True
        if over:
            self._end(conn, self._lingering)

    # --- errors -----------------------------------------------------------------------------------------------------

    def init_signals(self) -> None:
        """From here on a stop signal that was held over the fork can be obeyed."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """Whether another request may come: not if the rest of a body that nobody wanted turns out malformed.

        The request has been answered by then, and a second answer would be taken for that to the next one.
        """
        try:
            return bool(super()._keepalive_after(conn, keepalive))  # type: ignore[misc]
        except (errors.ParseException, OSError):
            self.log.debug("Closing a connection after a malformed body")
            return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:  # noqa: ARG002
        """Log what went wrong and answer it: 4xx when the client's bytes were at fault, else 500."""
        status = next((status for kind, status in _STATUSES if isinstance(exc, kind)), 500)
        if status >= 500:
            self.log.error("Error handling request", exc_info=exc)
        else:
            self.log.warning("Bad request from %s: %s", addr[0] if addr else "", type(exc).__name__)
        title = title_of(status)
        body = problem_bytes(status, "The request is not well-formed HTTP" if status < 500 else title)
        head = (
            f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            client.setblocking(False)
            client.send(head.encode("latin-1") + body)
        except OSError:
            self.log.debug("The client did not take the error answer")
