"""GET and HEAD: from what is kept, as long as that will do, else from one fetch for all who ask at the same time."""

from __future__ import annotations

import asyncio
import copy
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chassis.context import RequestContext
from chassis.errors import DeadlineExceeded, Problem
from gateway.edge.cache import status as cache_status
from gateway.edge.cache.coalesce import Flight, Flights
from gateway.edge.cache.directives import NOTHING_ASKED, RequestDirectives
from gateway.edge.cache.entry import Entry, Selector, selector
from gateway.edge.cache.landing import Landed, Lander, Question
from gateway.edge.cache.store import Key, Store

if TYPE_CHECKING:
    from gateway.edge.body import Send
    from gateway.edge.proxy import Proxy
    from gateway.edge.request import Request
    from gateway.edge.target import Target
    from gateway.registry.route import Route

STALE_WAIT_S = 1.0
"""A service that is asked for a new answer has this long, if there is an old one that may stand in: one that hangs
costs a client this and not the whole deadline. The new answer is waited for in the background."""
MAX_REFRESHES = 64
"""With so many fetches on their way, stale answers are not renewed in the background; that can wait."""
_HASTE = 0.9
"""Of the gateway's own time: a request that has less left when it comes was given less by its client."""
_GRACE_S = 0.25
"""Who started a fetch waits so much longer than it may take: that the service was late is for the fetch to find, and
to hold against it."""

CONDITIONS = frozenset({b"if-none-match", b"if-modified-since"})
DIRECTIVES = frozenset({b"cache-control", b"pragma"})
RESULTS = ("hit", "miss", "stale", "revalidated", "bypass", "collapsed")


class Counts(dict[str, int]):
    """Requests by result since they were last taken over into the metrics."""

    def __init__(self) -> None:
        super().__init__(dict.fromkeys(RESULTS, 0))


@dataclass(slots=True)
class Visit:
    """One request. `entry` is what is kept for it; `reason` is why that will not do, as `Cache-Status` has it."""

    request: Request
    target: Target
    route: Route
    key: Key
    send: Send
    asked: RequestDirectives = NOTHING_ASKED
    entry: Entry | None = None
    reason: bytes = b""

    @property
    def insists(self) -> bool:
        """Whether what is on its way already may be older than the client takes."""
        return self.asked.no_cache or self.asked.max_age_s is not None

    @property
    def has_stand_in(self) -> bool:
        """Whether there is a stale answer for the case that there is no other."""
        return self.entry is not None and self.entry.bridges_error(time.monotonic())


class Reader:
    """Answers visits.

    Args:
        timeout_s: of a fetch. It is not the deadline of the request that happens to come first.
    """

    def __init__(self, store: Store, lander: Lander, proxy: Proxy, *, counts: Counts, timeout_s: float) -> None:
        self.flights: Flights[Landed] = Flights(unwanted=Landed.close)
        self._store = store
        self._lander = lander
        self._proxy = proxy
        self._counts = counts
        self._timeout_s = timeout_s

    async def answer(self, visit: Visit) -> int:
        """Answer the visit; returns the status. Raises what `Cache.answer` does."""
        about = self._look_up(visit)
        entry, now_s = visit.entry, time.monotonic()
        if entry is not None:
            if entry.fresh_until_s <= now_s and entry.bridges_refresh(now_s):
                self._refresh(visit, about, entry, now_s)
            if _will_do(entry, visit.asked, now_s):
                return await self._answer_kept(visit, entry, now_s)
            if entry.retry_s > now_s and visit.has_stand_in:
                return await self._answer_kept(visit, entry, now_s, error=True)
        if visit.asked.only_if_cached:
            raise Problem("There is no such answer in the cache", status=504)
        if entry is None and (visit.request.method == "HEAD" or self._lander.refuses(visit.key)):
            return await self.forward(visit, visit.reason, result="miss")
        return await self._fetch(visit, about)

    def _look_up(self, visit: Visit) -> tuple[Key, Selector]:
        """Find what is kept; returns what a fetch would be about."""
        variants = self._store.get(visit.key)
        if variants is None:
            visit.entry, visit.reason = None, b"uri-miss"
            return visit.key, ()
        headers = visit.request.headers
        visit.entry = variants.find(headers)
        if visit.entry is None:
            visit.reason = b"vary-miss"
        else:
            visit.reason = b"stale" if visit.entry.fresh_until_s <= time.monotonic() else b"request"
        return visit.key, selector(variants.names, headers)

    # --- asking the service ------------------------------------------------------------------------------------------

    async def _fetch(self, visit: Visit, about: tuple[Key, Selector]) -> int:
        """Ask the service, together with others if that has begun."""
        for last in (False, True):
            flight = None if visit.insists else self.flights.get(about)
            owner = flight is None
            if flight is None:
                flight = self._start(visit, about)
            landed = await self._wait(visit, flight, owner=owner)
            if landed is None or (landed.failed and visit.has_stand_in):
                if landed is not None and owner:
                    landed.close()
                return await self._answer_stand_in(visit, landed, owner=owner)
            if landed.problem is not None:
                raise landed.problem.with_traceback(None)
            if landed.entry is not None and (owner or landed.entry.answers(visit.request.headers)):
                return await self._answer_landed(visit, landed, landed.entry, owner=owner)
            if owner and visit.request.method == "GET":
                return await self._relay(visit, landed)
            if owner or last or landed.entry is None:
                if owner:
                    landed.close()
                break
            about = self._look_up(visit)  # its Vary made it one for others; those of this kind go on together
        return await self.forward(visit, visit.reason, result="miss")

    def _start(self, visit: Visit, about: tuple[Key, Selector]) -> Flight[Landed]:
        """Fetch the answer for all who want it: the whole of it, whatever the client has, in a fetch's own time.

        A client that gave its service less time than that gets a fetch of its own, and the service hears of its haste.
        """
        request, ctx = copy.copy(visit.request), visit.request.context
        request.method = "GET"
        hasty = b"x-request-timeout-ms" in request.headers and ctx.remaining_s() < self._timeout_s * _HASTE
        if not hasty:
            deadline_s = time.monotonic() + self._timeout_s
            request.context = RequestContext(ctx.request_id, ctx.trace_id, ctx.flags, deadline_s)
        question = Question(
            request=request,
            target=visit.target,
            route=visit.route,
            key=visit.key,
            without=CONDITIONS if visit.insists else CONDITIONS | DIRECTIVES,
            entry=visit.entry,
        )
        return self.flights.start(about, lambda flight: self._lander.fetch(flight, question), shared=not hasty)

    def _refresh(self, visit: Visit, about: tuple[Key, Selector], entry: Entry, now_s: float) -> None:
        """Renew a stale answer in the background, unless that has begun or has just failed."""
        if entry.retry_s <= now_s and self.flights.get(about) is None and len(self.flights) < MAX_REFRESHES:
            flight = self._start(visit, about)
            flight.detach()
            flight.disown()

    async def _wait(self, visit: Visit, flight: Flight[Landed], *, owner: bool) -> Landed | None:
        """What the flight brings; None: it takes too long, and there is a stale answer.

        Raises:
            DeadlineExceeded: it takes longer than the request's own time.
        """
        limit_s = visit.request.context.remaining_s() + (_GRACE_S if owner else 0.0)
        if visit.has_stand_in:
            if flight.late:
                return None
            limit_s = min(limit_s, STALE_WAIT_S)
            flight.detach()
        try:
            return await flight.wait(limit_s)
        except (asyncio.CancelledError, TimeoutError) as error:
            if owner:
                flight.disown()
            if isinstance(error, asyncio.CancelledError):
                raise
        if not visit.has_stand_in:
            raise DeadlineExceeded(f"The {visit.route.service} service did not answer in time")
        flight.late = True
        return None

    # --- answering ---------------------------------------------------------------------------------------------------

    async def forward(self, visit: Visit, reason: bytes, *, result: str = "bypass") -> int:
        """Ask the service for this request alone."""
        self._counts[result] += 1
        said = cache_status.field(cache_status.forwarded(reason))
        return await self._proxy.forward(visit.request, visit.target, visit.route, visit.send, (said,))

    async def _relay(self, visit: Visit, landed: Landed) -> int:
        """What came is for this client alone."""
        self._counts["miss"] += 1
        try:
            if landed.fetched is None:
                raise RuntimeError("nothing landed")
            said = cache_status.field(cache_status.forwarded(visit.reason))
            return await landed.fetched.relay(visit.request, visit.send, (said,))
        finally:
            landed.close()

    async def _answer_kept(self, visit: Visit, entry: Entry, now_s: float, *, error: bool = False) -> int:
        fresh = entry.fresh_until_s > now_s
        said = cache_status.hit(entry.ttl_s(now_s), error=error)
        return await self._answer(visit, entry, said, result="hit" if fresh else "stale", cached=True)

    async def _answer_landed(self, visit: Visit, landed: Landed, entry: Entry, *, owner: bool) -> int:
        said = cache_status.forwarded(
            visit.reason,
            status=landed.status if landed.confirmed else None,
            stored=landed.stored and owner,
            collapsed=not owner,
        )
        result = "collapsed" if not owner else "revalidated" if landed.confirmed else "miss"
        return await self._answer(visit, entry, said, result=result, cached=not owner)

    async def _answer_stand_in(self, visit: Visit, landed: Landed | None, *, owner: bool) -> int:
        """With the stale answer, because there is no other, or none yet."""
        entry = visit.entry
        if entry is None:
            raise RuntimeError("nothing stands in")
        said = cache_status.forwarded(
            visit.reason,
            status=None if landed is None or landed.problem is not None else landed.status,
            ttl_s=entry.ttl_s(time.monotonic()),
            collapsed=not owner,
            error=True,
        )
        return await self._answer(visit, entry, said, result="stale", cached=True)

    async def _answer(self, visit: Visit, entry: Entry, said: bytes, *, result: str, cached: bool) -> int:
        """Send a kept answer: all of it, its head, or that the client has it already."""
        request, send = visit.request, visit.send
        self._counts[result] += 1
        request.cached = cached
        request_id = request.context.request_id.encode()
        age_s = entry.age_s(time.monotonic())
        shown_s = age_s if cached or age_s else None  # what comes from the service itself has no age
        if not CONDITIONS.isdisjoint(request.headers) and entry.unchanged_for(request.headers):
            head = entry.head_unchanged(request_id, status=said, age_s=shown_s)
            head.extend(request.said)
            await send({"type": "http.response.start", "status": 304, "headers": head})
            await send({"type": "http.response.body", "body": b""})
            return 304
        head = entry.head(request_id, status=said, age_s=shown_s)
        head.extend(request.said)
        await send({"type": "http.response.start", "status": entry.status, "headers": head})
        await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else entry.body})
        return entry.status


def _will_do(entry: Entry, asked: RequestDirectives, now_s: float) -> bool:
    """Whether `entry` answers without a question to the service first (RFC 9111 sections 4.2.4 and 5.2.1)."""
    if asked.no_cache or (asked.max_age_s is not None and now_s - entry.born_s > asked.max_age_s):
        return False
    left_s = entry.fresh_until_s - now_s
    if left_s > 0:
        return left_s >= asked.min_fresh_s
    if asked.min_fresh_s:
        return False
    return entry.bridges_refresh(now_s) or (entry.terms.bendable and -left_s <= asked.max_stale_s)
