"""One instance of a service: an address, the keep-alive connections to it, and how it has been doing. Per worker."""

from __future__ import annotations

import asyncio
import logging
import random
import select
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gateway.edge.breaker import Breaker, Ejection
from gateway.edge.connection import Connection
from gateway.edge.exchange import OutOfTime, UpstreamError

if TYPE_CHECKING:
    import ssl

log = logging.getLogger(__name__)

SAY_EVERY_S = 1.0
"""A service that answers every other request is no reason to fill the log."""
PROBE_LIMIT_S = 1.0
"""An instance has this long to answer a probe."""
PROBE_EVERY_S = 0.2
KNOCK_EVERY_S = 0.02
"""Where nobody listens, requests do not look more often; they wait that long."""


class Unreachable(UpstreamError):
    """No connection could be made in time: nothing was sent."""

    outcome = "unreachable"


class Refused(Unreachable):
    """Nobody listens there."""


@dataclass(frozen=True)
class Limits:
    """What an upstream may use and how long it is waited for. Numbers are per upstream and worker."""

    connect_timeout_s: float = 1.0
    max_connections: int = 256
    idle_s: float = 50.0
    breaker_failures: int = 5
    breaker_reset_s: float = 1.0


class Instance:
    """A request in flight holds one connection; there is no queue behind the last one.

    Args:
        name: what it is called in the log.
        address: of the machine; never a name, so that what was checked is what is connected to.
        tls: context and server name, for https.

    Attributes:
        fine: whether it is as good as any: not open, not on trial, not ejected.
        waiting: requests whose answer has not begun.
        requests: sent to it so far.
        failures: of those, the ones that were not answered.
        closed: it is no longer among its upstream's addresses.
    """

    def __init__(
        self, name: str, address: str, port: int, limits: Limits, *, tls: tuple[ssl.SSLContext, str] | None = None
    ) -> None:
        self.address = address
        self.port = port
        self.label = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        self.fine = True
        self.waiting = 0
        self.requests = 0
        self.failures = 0
        self.closed = False
        self.probe: Callable[[Instance], Awaitable[bool]] | None = None
        self.probe_proves = False  # whether it asks for as much as a request does
        self._name = name
        self._limits = limits
        self._tls = tls
        self._breaker = Breaker(failures=limits.breaker_failures, reset_s=limits.breaker_reset_s)
        self._ejection = Ejection(reset_s=limits.breaker_reset_s)
        self._ejected = False
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._probing: asyncio.Task[None] | None = None
        self._refused = False  # whether nobody listened there when last looked for
        self._rests_until_s = 0.0
        self._knock_after_s = 0.0
        self._idle: list[Connection] = []  # the last one used is taken first, so that a lull lets the others age
        self._open = 0
        self._well = True
        self._said_s = 0.0

    # --- how it is doing -------------------------------------------------------------------------------------------

    @property
    def state(self) -> str:
        """`closed` (all is well), `ejected`, `open`, or `half-open`."""
        return "ejected" if self._ejected and self._breaker.state == "closed" else self._breaker.state

    @property
    def usable(self) -> bool:
        """Whether it may be used if there is no better one."""
        return self._breaker.state == "closed"

    def take_trial(self) -> bool:
        """Whether the next request may go here to find out if the instance is well again."""
        return self._breaker.take_trial()

    def answered(self, status: int) -> None:
        """A request was answered."""
        if self._breaker.success():
            self._judge()
        avoid = self._ejection.answered(status)
        if avoid or self._ejected:
            self._eject(avoid)
        if not self._well and self._may_say():
            self._well = True
            log.info("%s at %s answers again", self._name, self.label)

    def failed(self, error: UpstreamError) -> bool:
        """A request was not answered, or not to its end, and the instance is to blame. Returns whether it is left
        alone from now on.
        """
        self.failures += 1
        refused = isinstance(error, Refused)
        opened = self._breaker.failure(at_once=refused)
        if opened or refused:
            self._refused = refused
        if opened:
            self._judge()
            self._drop_idle()
            self._rests_until_s = time.monotonic() + self._breaker.rest_s
            self._later("probe", PROBE_EVERY_S, self._begin_probe)
        if self._well and self._may_say():
            self._well = False
            log.warning("%s at %s does not answer: %s", self._name, self.label, error)
        return opened

    def released(self) -> None:
        """A request ended without a finding."""
        self._breaker.abandon_trial()

    def _judge(self) -> None:
        self.fine = self._breaker.state == "closed" and not self._ejected

    def _eject(self, avoid: bool) -> None:
        if avoid and not self._ejected:
            log.warning("%s at %s answers with errors only: others are preferred", self._name, self.label)
            self._later("ejection", self._ejection.rest_s, self._readmit)
        elif not avoid and not self._ejection.rest_s:
            self._cancel("ejection")
        else:
            return
        self._ejected = avoid
        self._judge()

    def _readmit(self) -> None:
        self._ejected = False
        self._judge()

    def _may_say(self) -> bool:
        now_s = time.monotonic()
        if now_s - self._said_s < SAY_EVERY_S:
            return False
        self._said_s = now_s
        return True

    # --- probes ----------------------------------------------------------------------------------------------------

    async def knock(self) -> bool:
        """For a request that has nowhere else to go: whether somebody listens again where nobody did. The instance is
        asked itself, by all such requests together.
        """
        for _ in range(2):  # a probe that is under way may have been refused before we were asked: then another one
            if self._breaker.state != "open" or not self._refused:
                break
            under_way = self._probing is not None
            self._begin_probe()
            if self._probing is not None:
                await asyncio.wait((self._probing,), timeout=PROBE_LIMIT_S)
            if not under_way:
                break
        return self.usable

    def _begin_probe(self) -> None:
        self._cancel("probe")
        if self._probing is None:
            self._probing = asyncio.get_running_loop().create_task(self._probe())

    async def _probe(self) -> None:
        """Look whether it is alive, so that no client has to find out. Where nobody listened and somebody does, all is
        well at once; anything else rests for its time.
        """
        await asyncio.sleep(self._knock_after_s - time.monotonic())
        alive = False
        try:
            alive = self.probe is None or await self.probe(self)
        except Refused:
            self._refused = True
        except UpstreamError:
            pass
        self._probing = None
        if alive and (self._refused or time.monotonic() >= self._rests_until_s):
            self._breaker.probed(sure=self._refused or self.probe_proves)
            self._judge()
        else:
            self._knock_after_s = time.monotonic() + KNOCK_EVERY_S
            self._later("probe", PROBE_EVERY_S, self._begin_probe)

    def _later(self, name: str, delay_s: float, call: Callable[[], None]) -> None:
        self._cancel(name)
        if not self.closed:
            jittered_s = delay_s * random.uniform(0.9, 1.1)  # noqa: S311 - workers must not step alike
            self._timers[name] = asyncio.get_running_loop().call_later(jittered_s, call)

    def _cancel(self, name: str) -> None:
        timer = self._timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    # --- connections -----------------------------------------------------------------------------------------------

    @property
    def idle(self) -> int:
        """Open connections that wait for a request."""
        return len(self._idle)

    @property
    def in_use(self) -> int:
        """Open connections that carry a request."""
        return self._open - len(self._idle)

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
            Unreachable: refused, or not made in time; with https also if the certificate is not the name's.
            OutOfTime: not made within `limit_s`, what is left of the request's own time.
        """
        loop = asyncio.get_running_loop()
        timeout_s = min(limit_s, self._limits.connect_timeout_s)
        context, name = self._tls or (None, None)
        try:
            async with asyncio.timeout(timeout_s):
                _, connection = await loop.create_connection(
                    lambda: Connection(loop, on_idle=self._on_idle, on_end=self._on_end),
                    self.address,
                    self.port,
                    ssl=context,
                    server_hostname=name,
                )
        except TimeoutError:
            if timeout_s < self._limits.connect_timeout_s:
                raise OutOfTime("no connection in time") from None
            raise Unreachable(f"no connection within {timeout_s:g} s") from None
        except ConnectionRefusedError:
            raise Refused("no connection: refused") from None
        except OSError as error:
            raise Unreachable(f"no connection: {type(error).__name__}") from None
        self._open += 1
        return connection

    def _on_idle(self, connection: Connection) -> None:
        if self.closed or self._breaker.state == "open":
            connection.abort()
            return
        connection.idle_since_s = connection.loop.time()
        self._idle.append(connection)

    def _on_end(self, connection: Connection) -> None:
        self._open -= 1
        if connection in self._idle:
            self._idle.remove(connection)

    def _drop_idle(self) -> None:
        while self._idle:
            self._idle.pop().abort()

    def sweep(self, now_s: float) -> None:
        """Close what has been idle for too long. Idle time stays below the upstream's own keep-alive time-out, so
        that it is always this side that closes: the other way round, a request can meet the close half-way.
        """
        stale = [connection for connection in self._idle if now_s - connection.idle_since_s > self._limits.idle_s]
        for connection in stale:
            self._idle.remove(connection)
            connection.abort()

    def close(self) -> None:
        """Close every idle connection; those in use close with their exchange. Nothing is probed any more."""
        self.closed = True
        for name in tuple(self._timers):
            self._cancel(name)
        if self._probing is not None:
            self._probing.cancel()
        self._drop_idle()


def _readable(fileno: int) -> bool:
    """Whether a socket that should be silent has something to say: its end, usually. True for one that is closed."""
    if fileno < 0:
        return True
    poller = select.poll()
    poller.register(fileno, select.POLLIN)
    return bool(poller.poll(0))
