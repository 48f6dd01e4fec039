"""Plain hits of the cache, answered between two steps of the event loop: no task, no coroutine, no message.

Most of what a small answer costs is the machinery that any answer may need. What is here needs none of it: a GET of
nobody in particular, for what the cache has fresh, of a service with one version. Everything else goes the long way
(`gateway.edge.app`), and so does the first request for a path: it says that the path is worth a look here.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from chassis import context
from chassis.errors import Problem
from gateway.edge.cache.cache import NOT_PLAIN
from gateway.edge.request import Request

if TYPE_CHECKING:
    from gateway.edge.cache import Cache
    from gateway.edge.cache.entry import ReadyHead
    from gateway.edge.headers import Peers
    from gateway.edge.limits import Limiter
    from gateway.edge.observe import Observer
    from gateway.edge.routes import Place, Router
    from gateway.edge.target import Target

_NOT_PLAIN = NOT_PLAIN | {b"expect", b"x-api-key", b"x-route-env", b"x-route-key", b"x-route-version"}
_MOST_PATHS = 4096
_LONGEST_PATH = 256


class Hit(NamedTuple):
    """An answer ready to be written."""

    status: int
    head: ReadyHead
    body: bytes


class Quick:
    """Knows the paths that the cache answered last time.

    Args:
        limit_ms: the gateway's own deadline.
    """

    def __init__(
        self, *, peers: Peers, router: Router, limiter: Limiter, cache: Cache, observer: Observer, limit_ms: int
    ) -> None:
        self._peers = peers
        self._router = router
        self._limiter = limiter
        self._cache = cache
        self._observer = observer
        self._limit_ms = limit_ms
        self._places: dict[bytes, Place] = {}

    def __contains__(self, raw_path: bytes) -> bool:
        return raw_path in self._places

    def learn(self, request: Request, place: Place, target: Target) -> None:
        """The cache has answered `request`, which took no key."""
        group = target.group
        if group is None or len(group.live) != 1:
            return
        if request.method == "GET" and len(request.raw_path) <= _LONGEST_PATH:
            if len(self._places) >= _MOST_PATHS:
                self._places.clear()
            self._places[request.raw_path] = place

    def answer(self, scope: Any) -> Hit | None:
        """The answer to a GET, counted and logged; None: it goes the long way, and nothing has happened yet."""
        began_s = time.perf_counter()
        place = self._places.get(scope["raw_path"])
        if place is None:
            return None
        request = Request(scope, self._peers)
        if not _NOT_PLAIN.isdisjoint(request.headers):
            return None
        try:
            request.check()
            target = self._router.target(request, place)
            group = target.group
            if group is None or len(group.live) != 1:
                del self._places[request.raw_path]
                return None
            route = group.live[0]
            now_s = time.monotonic()
            entry = self._cache.peek(request, target, route, now_s)
            if entry is None:
                del self._places[request.raw_path]
                return None
        except Problem:
            return None
        said = self._limiter.try_take(request.client, place.name)
        if said is None:
            return None
        request.said = said
        request.endpoint = place.name
        request.context = context.begin(
            request.text(b"x-request-id"), request.text(b"traceparent"), None, self._limit_ms
        )
        token = context.bind(request.context)
        try:
            head = self._cache.ready_head(request, entry, now_s)
            self._observer.request(request, entry.status, time.perf_counter() - began_s)
            self._observer.routed(route, entry.status, cached=True)
        finally:
            context.unbind(token)
        return Hit(entry.status, head, entry.body)
