"""How requests spread over the routes: counted by version, so that a canary can be compared with what it replaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gateway.registry.route import Route

if TYPE_CHECKING:
    from chassis.metrics import Metrics

MOST_ROUTES = 1000
"""Routes with a series of their own. A registry may have a hundred times as many, a Prometheus would not thank us."""
NAME = "gateway_route_requests_total"
LABELS = ("tenant", "service", "env", "version", "code", "cache")
_OTHER = ("other",) * 4


class Traffic:
    """Counts answered requests by route, class of status (`2xx`), and whether the cache answered (`hit` or `miss`).

    Routes beyond the first `MOST_ROUTES` that got a request are counted together as `other`. As `chassis.metrics.Tally`
    it counts in plain memory until `flush`.
    """

    def __init__(self, metrics: Metrics) -> None:
        self._requests = metrics.counter(NAME, "Requests by route, class of status and part of the cache", LABELS)
        self._counts: dict[tuple[int, int, bool], list[Any]] = {}
        self._named: set[str] = set()

    def count(self, route: Route, status: int, *, cached: bool) -> None:
        """Count one request that `route` was chosen for."""
        key = (route.id, status, cached)
        counted = self._counts.get(key)
        if counted is None:
            self._counts[key] = [route, 1]
        else:
            counted[1] += 1

    def flush(self) -> None:
        """Take over what was counted into the metrics."""
        counts, self._counts = self._counts, {}
        for (_, status, cached), (route, count) in counts.items():
            known = route.name in self._named or len(self._named) < MOST_ROUTES
            if known:
                self._named.add(route.name)
            names = (route.tenant, route.service, route.env, route.version) if known else _OTHER
            self._requests.labels(*names, f"{status // 100}xx", "hit" if cached else "miss").inc(count)
