"""Upstreams: what stands behind a route's URL, as the addresses that its host leads to. Per worker."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import time
from collections.abc import Awaitable, Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING

from gateway.edge.admission import Admission
from gateway.edge.budget import RetryBudget
from gateway.edge.exchange import OutOfTime
from gateway.edge.instance import Instance, Limits, Unreachable
from gateway.policy import UpstreamPolicy, is_address, split_url

if TYPE_CHECKING:
    from chassis.metrics import Metrics
    from gateway.registry.route import Route
    from gateway.settings import Settings

log = logging.getLogger(__name__)

RESOLVE_EVERY_S = 5.0
"""A name in use is looked up again this often; what it led to last is used meanwhile."""
RESOLVE_LIMIT_S = 1.0
"""A request waits no longer for a name that was never looked up."""
MAX_INSTANCES = 16
FORGET_AFTER_S = 60.0
"""An upstream that nobody has asked for so long, and that holds no connection, is forgotten."""

Resolver = Callable[[str, int], Awaitable[Iterable[str]]]
"""Addresses of a name, for a port. Raises OSError if there are none."""


class Upstream:
    """The service behind one URL, shared by every route that has it.

    Args:
        name: what it is called in the log and in gauges.
        url: `http(s)://host[:port][/path]`.
        policy: judges every address before it is connected to.

    Attributes:
        base: the URL's path, put in front of every request's.
        request_line_end: what follows the target, to the end of the Host field.
        closed: it has been forgotten; ask `Upstreams.of` for another.

    Raises:
        ValueError: `url` is none.
    """

    def __init__(
        self,
        name: str,
        url: str,
        limits: Limits,
        *,
        policy: UpstreamPolicy,
        resolver: Resolver,
        tls: Callable[[], ssl.SSLContext],
        retry_percent: int = 0,
    ) -> None:
        scheme, self.host, self.port, path = split_url(url)
        default = self.port == {"http": 80, "https": 443}[scheme]
        authority = f"[{self.host}]" if ":" in self.host else self.host
        if not default:
            authority += f":{self.port}"
        self.name = name
        self.url = url
        self.base = path.encode("ascii")
        self.request_line_end = b" HTTP/1.1\r\nHost: %b\r\n" % authority.encode("ascii")
        self.instances: tuple[Instance, ...] = ()
        self.budget = RetryBudget(retry_percent)
        self.admission = Admission(limits.max_connections)
        self.closed = False
        self.probe: Callable[[Instance], Awaitable[bool]] | None = None
        self._probe_proves = False
        self._limits = limits
        self._policy = policy
        self._resolver = resolver
        self._tls = (tls(), self.host) if scheme == "https" else None
        self._turn = 0
        self._refusal = ""
        self._resolving: asyncio.Task[None] | None = None
        self._resolve_after_s = 0.0
        self._fixed = is_address(self.host)
        if self._fixed:
            self._take([self.host])

    # --- load ------------------------------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Requests that hold, or wait for, a connection."""
        return self.admission.in_flight

    @property
    def requests(self) -> int:
        """Sent to the present instances so far."""
        return sum(instance.requests for instance in self.instances)

    @property
    def idle(self) -> int:
        """Open connections that wait for a request."""
        return sum(instance.idle for instance in self.instances)

    @property
    def in_use(self) -> int:
        """Open connections that carry a request."""
        return sum(instance.in_use for instance in self.instances)

    # --- instances -------------------------------------------------------------------------------------------------

    def pick(self, tried: Collection[Instance] = (), *, trial: bool = False) -> Instance | None:
        """The best instance that is fine, or one to be tried out; None if there is none.

        Args:
            tried: instances that will not do.
            trial: whether the request may be the one that finds out whether an instance is well again.
        """
        instances = self.instances
        if len(instances) == 1:
            only = instances[0]
            return only if (only.fine or (trial and only.take_trial())) and only not in tried else None
        self._turn += 1
        best = None
        for step in range(len(instances)):
            instance = instances[(self._turn + step) % len(instances)]
            if instance in tried:
                continue
            if trial and instance.take_trial():
                return instance
            if instance.fine and (best is None or instance.waiting < best.waiting):
                best = instance
        return best

    def last_resort(self, tried: Collection[Instance] = ()) -> Instance | None:
        """An instance to take when no one is fine: ejected, or half-open; None if all are open."""
        left = [instance for instance in self.instances if instance not in tried]
        ejected = [instance for instance in left if instance.usable]
        if ejected:
            return min(ejected, key=lambda instance: instance.waiting)
        return next((instance for instance in left if instance.take_trial()), None)

    async def find(self, limit_s: float) -> None:
        """Have instances to pick from, if the name leads anywhere; waits only if it was never looked up.

        Raises:
            Unreachable: it does not, or not where the policy lets it.
            OutOfTime: not known within `limit_s`.
        """
        if self.instances:
            return
        if not self._fixed and time.monotonic() >= self._resolve_after_s:
            self._begin_resolve()
            if self._resolving is not None:
                await asyncio.wait((self._resolving,), timeout=min(limit_s, RESOLVE_LIMIT_S))
        if not self.instances:
            if limit_s < RESOLVE_LIMIT_S and self._resolving is not None:
                raise OutOfTime("no address in time")
            raise Unreachable(self._refusal or "no address in time")

    def _begin_resolve(self) -> None:
        if self._resolving is None:
            self._resolving = asyncio.get_running_loop().create_task(self._resolve())

    async def _resolve(self) -> None:
        try:
            addresses = list(await self._resolver(self.host, self.port))
        except (OSError, UnicodeError) as error:
            if not self.instances:
                self._refusal = f"no address: {type(error).__name__}"
            log.warning("%s: the name %s leads nowhere: %s", self.name, self.host, type(error).__name__)
            self._resolve_after_s = time.monotonic() + RESOLVE_LIMIT_S
        else:
            if not self.closed:
                self._take(addresses)
            self._resolve_after_s = time.monotonic() + (RESOLVE_EVERY_S if self.instances else RESOLVE_LIMIT_S)
        finally:
            self._resolving = None

    def _take(self, addresses: Iterable[str]) -> None:
        """Go on with those of `addresses` that are allowed."""
        before = {instance.address: instance for instance in self.instances}
        kept: dict[str, Instance] = {}
        for address in addresses:
            if address in kept or len(kept) >= MAX_INSTANCES:
                continue
            try:
                self._policy.check_address(self.host, address, port=self.port)
            except ValueError as error:
                if self._refusal != str(error):
                    self._refusal = str(error)
                    log.warning("%s is not connected to: %s", self.name, error)
                continue
            kept[address] = before.pop(address) if address in before else self._instance(address)
        self.instances = tuple(kept.values())
        for gone in before.values():
            gone.close()

    def _instance(self, address: str) -> Instance:
        instance = Instance(self.name, address, self.port, self._limits, tls=self._tls)
        instance.probe, instance.probe_proves = self.probe, self._probe_proves
        return instance

    async def knock(self, tried: Collection[Instance] = ()) -> Instance | None:
        """An instance that is there again, when there is no other one to pick; None if none is."""
        for instance in self.instances:
            if instance not in tried and await instance.knock():
                return instance
        return None

    def watch(self, probe: Callable[[Instance], Awaitable[bool]], *, proves: bool) -> None:
        """Let `probe` say whether an instance that was left alone is alive again.

        Args:
            proves: it asks for as much as a request does.
        """
        self.probe, self._probe_proves = probe, proves
        for instance in self.instances:
            instance.probe, instance.probe_proves = probe, proves

    def tick(self, now_s: float) -> None:
        """Look after the connections, and look up the name again if it is time.

        Args:
            now_s: the loop's clock.
        """
        for instance in self.instances:
            instance.sweep(now_s)
        if not self._fixed and self.instances and time.monotonic() >= self._resolve_after_s:
            self._begin_resolve()

    def close(self) -> None:
        """Close every idle connection; those in use close with their exchange."""
        self.closed = True
        if self._resolving is not None:
            self._resolving.cancel()
        for instance in self.instances:
            instance.close()


class Upstreams:
    """Every upstream that requests have gone to lately."""

    def __init__(
        self,
        settings: Settings,
        *,
        policy: UpstreamPolicy,
        metrics: Metrics,
        resolver: Resolver | None = None,
    ) -> None:
        self._limits = Limits(
            connect_timeout_s=settings.upstream.connect_timeout_ms / 1000,
            max_connections=settings.upstream.max_connections,
            idle_s=settings.upstream.idle_s,
            breaker_failures=settings.breaker.failures,
            breaker_reset_s=settings.breaker.reset_ms / 1000,
        )
        self._retry_percent = settings.retry_budget_percent
        self._policy = policy
        self._resolver = resolver or resolve
        self._upstreams: dict[str, Upstream] = {}
        self._seen: dict[str, tuple[int, float]] = {}
        self._context: ssl.SSLContext | None = None
        self._gauges = Gauges(metrics)

    def __iter__(self) -> Iterator[Upstream]:
        return iter(tuple(self._upstreams.values()))

    def of(self, url: str, name: str = "") -> Upstream:
        """The upstream behind `url`; `name` is what it is called if it is a new one.

        Raises:
            ValueError: `url` is none.
        """
        upstream = self._upstreams.get(url)
        if upstream is None:
            upstream = self._upstreams[url] = Upstream(
                name or url,
                url,
                self._limits,
                policy=self._policy,
                resolver=self._resolver,
                tls=self._tls,
                retry_percent=self._retry_percent,
            )
        return upstream

    def instances_of(self, route: Route) -> tuple[Instance, ...]:
        """The instances behind a route, none if it has not been asked for lately."""
        upstream = self._upstreams.get(route.url)
        return () if upstream is None else upstream.instances

    def _tls(self) -> ssl.SSLContext:
        if self._context is None:
            self._context = ssl.create_default_context()
        return self._context

    def tick(self, now_s: float) -> None:
        """Once a second: connections, names, gauges; what nobody has asked for in a while is forgotten.

        Args:
            now_s: the loop's clock.
        """
        for upstream in self:
            upstream.tick(now_s)
            requests, since_s = self._seen.get(upstream.url, (-1, now_s))
            if requests != upstream.requests or upstream.in_flight or upstream.idle or upstream.in_use:
                self._seen[upstream.url] = (upstream.requests, now_s)
            elif now_s - since_s > FORGET_AFTER_S:
                upstream.close()
                del self._upstreams[upstream.url], self._seen[upstream.url]
        self._gauges.show(self)

    def close(self) -> None:
        """Close every idle connection; those in use close with their exchange."""
        for upstream in self:
            upstream.close()


class Gauges:
    """What can be seen of upstreams in /metrics. Labels are bounded: routes come and go, series stay."""

    MOST = 1000

    def __init__(self, metrics: Metrics) -> None:
        self._waiting = metrics.gauge("gateway_upstream_in_flight", "Requests in flight by upstream", ("upstream",))
        self._connections = metrics.gauge(
            "gateway_upstream_connections", "Connections by upstream and state", ("upstream", "state")
        )
        self._breaker = metrics.gauge(
            "gateway_breaker_open",
            "1 while an instance of an upstream is left alone",
            ("upstream", "instance"),
            over_workers="livemax",
        )
        self._load: dict[str, tuple[int, int, int]] = {}
        self._open: dict[tuple[str, str], bool] = {}

    def show(self, upstreams: Iterable[Upstream]) -> None:
        """Set the gauges; what is gone goes to 0. Names beyond the first thousand are not shown."""
        load = dict.fromkeys(self._load, (0, 0, 0))
        opened = dict.fromkeys(self._open, False)
        for upstream in upstreams:
            if upstream.name in load or len(load) < self.MOST:
                in_flight, idle, in_use = load.get(upstream.name, (0, 0, 0))
                load[upstream.name] = (
                    in_flight + upstream.in_flight, idle + upstream.idle, in_use + upstream.in_use,
                )  # fmt: skip
            for instance in upstream.instances:
                key = (upstream.name, instance.label)
                if key in opened or len(opened) < self.MOST:
                    opened[key] = opened.get(key, False) or instance.state in ("open", "half-open")
        for name, numbers in load.items():
            if self._load.get(name) != numbers:
                self._waiting.labels(name).set(numbers[0])
                self._connections.labels(name, "idle").set(numbers[1])
                self._connections.labels(name, "in_use").set(numbers[2])
        for key, is_open in opened.items():
            if self._open.get(key) != is_open:
                self._breaker.labels(*key).set(is_open)
        self._load, self._open = load, opened


async def resolve(name: str, port: int) -> list[str]:
    """What the machine's resolver says, in the order in which it prefers it.

    Raises:
        OSError: nothing.
    """
    found = await asyncio.get_running_loop().getaddrinfo(
        name, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP, flags=socket.AI_ADDRCONFIG
    )
    return [str(item[4][0]) for item in found]
