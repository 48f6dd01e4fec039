"""The shared cache in front of the services (RFC 9111)."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from typing import TYPE_CHECKING

from chassis.errors import Unavailable
from gateway.edge.cache import status as cache_status
from gateway.edge.cache.directives import NOTHING_ASKED, of_request
from gateway.edge.cache.landing import Lander
from gateway.edge.cache.reader import CONDITIONS, DIRECTIVES, Counts, Reader, Visit
from gateway.edge.cache.store import Key, Store
from gateway.edge.cache.writes import out_of_date

if TYPE_CHECKING:
    from chassis.metrics import Metrics
    from gateway.edge.body import Send
    from gateway.edge.cache.entry import Entry, ReadyHead
    from gateway.edge.headers import Header
    from gateway.edge.proxy import Proxy
    from gateway.edge.request import Request
    from gateway.edge.target import Target
    from gateway.registry.route import Route
    from gateway.settings import CacheSettings

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_BYPASSING = frozenset({b"authorization", b"if-match", b"if-range", b"if-unmodified-since", b"range"})
NOT_PLAIN = CONDITIONS | DIRECTIVES | _BYPASSING | {b"content-length", b"transfer-encoding"}


class Cache:
    """Answers requests: from memory, or from the service.

    Args:
        timeout_s: the gateway's own deadline, for what is fetched for everybody.
        on_invalidate: called with what a write made out of date, so that other workers hear of it; they `drop` it.

    Attributes:
        ready_heads: whether the server takes a `ReadyHead`.
    """

    def __init__(
        self,
        settings: CacheSettings,
        proxy: Proxy,
        metrics: Metrics,
        *,
        timeout_s: float = 10.0,
        on_invalidate: Callable[[Collection[Key]], None] | None = None,
    ) -> None:
        self.ready_heads = False
        self._proxy = proxy
        self._on_invalidate = on_invalidate
        self._enabled = settings.bytes > 0
        evictions = metrics.counter("gateway_cache_evictions_total", "Answers that had to make room")
        self._store = Store(settings.bytes, evicted=evictions.inc)
        self._counts = Counts()
        self._reader = Reader(
            self._store, Lander(settings, proxy, self._store), proxy, counts=self._counts, timeout_s=timeout_s
        )
        counter = metrics.counter("gateway_cache_requests_total", "Requests by what the cache did", ("result",))
        self._counters = {result: counter.labels(result) for result in self._counts}
        self._bytes = metrics.gauge("gateway_cache_bytes", "Bytes of cached answers")
        self._entries = metrics.gauge("gateway_cache_entries", "Cached answers")

    async def answer(self, request: Request, target: Target, send: Send) -> int:
        """Answer `request`; returns the status.

        Raises:
            Problem: there is no answer; nothing has been sent to the client.
            Truncated: the answer broke off after it had begun.
        """
        route = None
        if request.method == "GET" and not request.personal and NOT_PLAIN.isdisjoint(request.headers):
            route = target.choose()
            if route is not None:
                now_s = time.monotonic()
                entry = self.peek(request, target, route, now_s)
                if entry is not None:
                    head = self._head(request, entry, now_s)
                    await send({"type": "http.response.start", "status": entry.status, "headers": head})
                    await send({"type": "http.response.body", "body": entry.body})
                    return entry.status
        return await self._consider(request, target, route, send)

    def peek(self, request: Request, target: Target, route: Route, now_s: float) -> Entry | None:
        """What is kept, and fresh, for a request to `route` without any of `NOT_PLAIN`."""
        host, scheme = request.origin
        variants = self._store.get((route.url, host, scheme, target.path, target.query))
        if variants is None:
            return None
        entry = variants.find(request.headers)
        return entry if entry is not None and entry.fresh_until_s > now_s else None

    def ready_head(self, request: Request, entry: Entry, now_s: float) -> ReadyHead:
        """The head of an answer with what `peek` has found; it counts as a hit. As little is done as can be."""
        self._counts["hit"] += 1
        request.cached = True
        head = entry.ready_head(request.context.request_id.encode(), now_s)
        if request.said:
            head.lines += b"".join([b"%b: %b\r\n" % item for item in request.said])
        return head

    def _head(self, request: Request, entry: Entry, now_s: float) -> list[Header]:
        """The same for any server."""
        if self.ready_heads:
            return self.ready_head(request, entry, now_s)
        self._counts["hit"] += 1
        request.cached = True
        said = cache_status.hit(entry.ttl_s(now_s))
        head = entry.head(request.context.request_id.encode(), status=said, age_s=entry.age_s(now_s))
        return [*head, *request.said]

    async def _consider(self, request: Request, target: Target, route: Route | None, send: Send) -> int:
        headers = request.headers
        route = route or target.choose()
        if route is None:
            raise Unavailable("No version of this service takes requests")
        visit = Visit(request, target, route, (route.url, *request.origin, target.path, target.query), send)
        if request.method not in _SAFE:
            return await self._write(visit)
        if not self._enabled or request.personal or request.body is not None or not _BYPASSING.isdisjoint(headers):
            return await self._reader.forward(visit, b"bypass")
        if request.method == "OPTIONS":
            return await self._reader.forward(visit, b"method")
        visit.asked = NOTHING_ASKED
        if not DIRECTIVES.isdisjoint(headers):
            visit.asked = of_request(headers.get(b"cache-control"), headers.get(b"pragma"))
            if visit.asked.no_store:
                return await self._reader.forward(visit, b"request")
        return await self._reader.answer(visit)

    async def _write(self, visit: Visit) -> int:
        """An unsafe method: what is kept of its target is out of date if the service took it (RFC 9111 section 4.4)."""
        self._counts["bypass"] += 1
        fetched = await self._proxy.fetch(visit.request, visit.target, visit.route)
        try:
            if fetched.status < 400 and self._enabled:
                keys = out_of_date(visit.request, visit.target, fetched.headers)
                self.drop(keys)
                if self._on_invalidate is not None:
                    self._on_invalidate(keys)
            said = cache_status.field(cache_status.forwarded(b"method"))
            return await fetched.relay(visit.request, visit.send, (said,))
        finally:
            fetched.close()

    def drop(self, keys: Iterable[Key]) -> None:
        """Forget what is kept under `keys`, and do not keep what is on its way."""
        found = frozenset(keys)
        for key in found:
            self._store.drop(key)
        self._reader.flights.void(lambda about: about[0] in found)

    def sample(self) -> None:
        """Bring the metrics up to date; to be called every second or so."""
        for result, count in self._counts.items():
            if count:
                self._counters[result].inc(count)
                self._counts[result] = 0
        self._bytes.set(self._store.bytes)
        self._entries.set(len(self._store))

    def close(self) -> None:
        """Give up what is on its way."""
        self._reader.flights.close()
        self.sample()
