"""The pool of keep-alive connections to one upstream instance, per worker process."""

from __future__ import annotations

import asyncio
import logging
import select
import time
from dataclasses import dataclass
from urllib.parse import urlsplit

from gateway.edge.connection import Connection
from gateway.edge.exchange import OutOfTime, UpstreamError

log = logging.getLogger(__name__)

SAY_EVERY_S = 1.0
"""A service that answers every other request is no reason to fill the log."""


class Unreachable(UpstreamError):
    """No connection could be made in time."""

    outcome = "unreachable"


class Saturated(UpstreamError):
    """As many requests as allowed are in flight to this upstream."""

    outcome = "saturated"


@dataclass(frozen=True)
class Limits:
    """What a pool may use: seconds, and connections per upstream and worker."""

    connect_timeout_s: float = 1.0
    max_connections: int = 256
    idle_s: float = 50.0


class Upstream:
    """One instance of a service. A request in flight holds one connection; there is no queue behind the last one.

    Args:
        name: the label in metrics and answers.
        url: `http://host:port`, checked by the settings.
    """

    def __init__(self, name: str, url: str, limits: Limits) -> None:
        parts = urlsplit(url)
        self.name = name
        self.host = parts.hostname or ""
        self.port = parts.port or 80
        self.request_line_end = b" HTTP/1.1\r\nHost: %b\r\n" % parts.netloc.encode("ascii")
        self._limits = limits
        self._idle: list[Connection] = []  # the last one used is taken first, so that a lull lets the others age
        self._open = 0
        self._busy = 0
        self._well = True
        self._said_s = 0.0

    @property
    def in_flight(self) -> int:
        """Requests that hold, or wait for, a connection."""
        return self._busy

    @property
    def idle(self) -> int:
        """Open connections that wait for a request."""
        return len(self._idle)

    @property
    def in_use(self) -> int:
        """Open connections that carry a request."""
        return self._open - len(self._idle)

    def enter(self) -> None:
        """Count a request in; `leave` counts it out, once for every `enter`."""
        self._busy += 1

    def leave(self) -> None:
        """Count a request out."""
        self._busy -= 1

    def check_room(self) -> None:
        """For a request that has been counted in.

        Raises:
            Saturated: it is one too many.
        """
        if self._busy > self._limits.max_connections:
            raise Saturated(f"{self._busy} requests are in flight")

    def well(self) -> None:
        """It answered. Logged when it had not before, not more than once a second."""
        if not self._well and self._may_say():
            self._well = True
            log.info("%s answers again", self.name)

    def unwell(self, error: UpstreamError) -> None:
        """It did not answer, or not to the end. The first time in a row is logged; the request log has them all."""
        if self._well and error.outcome != "abandoned" and self._may_say():
            self._well = False
            log.warning("%s does not answer: %s", self.name, error)

    def _may_say(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._said_s < SAY_EVERY_S:
            return False
        self._said_s = now_s
        return True

    def take_idle(self, *, probe: bool) -> Connection | None:
        """The idle connection used last, None if there is none.

        Args:
            probe: ask the kernel whether the upstream has just closed it. Worth a system call for a request that
                must not be repeated; others are simply sent again on a new connection.
        """
        idle = self._idle
        while idle:
            connection = idle.pop()
            if connection.open and not (probe and _readable(connection.fileno())):
                return connection
            connection.abort()
        return None

    async def connect(self, limit_s: float) -> Connection:
        """A new connection.

        Raises:
            Unreachable: refused, no such host, or not made in time.
            OutOfTime: not made within `limit_s`, what is left of the request's own time.
        """
        loop = asyncio.get_running_loop()
        timeout_s = min(limit_s, self._limits.connect_timeout_s)
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, on_idle=self._on_idle, on_end=self._on_end), self.host, self.port
                )
        except TimeoutError:
            if timeout_s < self._limits.connect_timeout_s:
                raise OutOfTime("no connection in time") from None
            raise Unreachable(f"no connection within {timeout_s:g} s") from None
        except OSError as error:
            raise Unreachable(f"no connection: {type(error).__name__}") from None
        self._open += 1
        return connection

    def _on_idle(self, connection: Connection) -> None:
        connection.idle_since_s = connection.loop.time()
        self._idle.append(connection)

    def _on_end(self, connection: Connection) -> None:
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)

    def sweep(self, now_s: float) -> None:
        """Close what has been idle for too long. Idle time stays below the upstream's own keep-alive time-out, so
        that it is always this side that closes: the other way round, a request can meet the close half-way.
        """
        stale = [connection for connection in self._idle if now_s - connection.idle_since_s > self._limits.idle_s]
        for connection in stale:
            self._idle.remove(connection)
            connection.abort()

    def close(self) -> None:
        """Close every idle connection; those in use close with their exchange."""
        idle, self._idle = self._idle, []
        for connection in idle:
            connection.abort()


def _readable(fileno: int) -> bool:
    """Whether a socket that should be silent has something to say: its end, usually. True for one that is closed."""
    if fileno < 0:
        return True
    poller = select.poll()
    poller.register(fileno, select.POLLIN)
    return bool(poller.poll(0))
