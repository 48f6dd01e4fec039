"""Lanes: what the proxy keeps at hand for every route it has sent requests down."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import TYPE_CHECKING, Any

from chassis.errors import Unavailable
from gateway.edge.probe import accepts, live_line, status_of
from gateway.registry.house import TENANT, VERSION

if TYPE_CHECKING:
    from chassis.metrics import Metrics
    from gateway.edge.instance import Instance
    from gateway.edge.upstream import Upstream, Upstreams
    from gateway.registry.route import Route

OUTCOMES = ("answered", "abandoned", "unreachable", "died", "garbage", "timeout", "saturated", "open")
MAX_LABELS = 1000
OTHER = "other"
_MAX_LANES = 4096


class Lane:
    """A route, its upstream, and its counters."""

    __slots__ = ("_counters", "_requests", "label", "route", "upstream")

    def __init__(self, route: Route, upstream: Upstream, label: str, requests: Any) -> None:
        self.route = route
        self.upstream = upstream
        self.label = label
        self._requests = requests
        self._counters: dict[str, Any] = {}

    def count(self, outcome: str) -> None:
        """Count a request down this lane."""
        counter = self._counters.get(outcome)
        if counter is None:
            counter = self._counters[outcome] = self._requests.labels(self.label, outcome)
        counter.inc()


class Lanes:
    """The lanes of one worker.

    Args:
        env: the gateway's own environment.
        services: the storefront's own, which are counted from 0.
    """

    def __init__(self, upstreams: Upstreams, *, env: str, metrics: Metrics, services: Iterable[str] = ()) -> None:
        self._upstreams = upstreams
        self._env = env
        self._requests = metrics.counter(
            "gateway_upstream_requests_total", "Requests to an upstream by what came of them", ("upstream", "outcome")
        )
        for service in services:
            for outcome in OUTCOMES:
                self._requests.labels(service, outcome)
        self._lanes: dict[int, Lane] = {}
        self._labels: set[str] = set()

    def of(self, route: Route) -> Lane:
        """The lane of `route`.

        Raises:
            Unavailable: its URL is none.
        """
        lane = self._lanes.get(route.id)
        if lane is not None and lane.route is route and not lane.upstream.closed:
            return lane
        label = self._label(route)
        try:
            upstream = self._upstreams.of(route.url, label)
        except ValueError:
            raise Unavailable(f"The {route.service} service is not available") from None
        if route.tenant == TENANT:
            upstream.watch(partial(_is_alive, live_line(upstream)), proves=True)
        elif upstream.probe is None:
            upstream.watch(accepts, proves=False)
        if len(self._lanes) >= _MAX_LANES:
            self._lanes.clear()
        lane = self._lanes[route.id] = Lane(route, upstream, label, self._requests)
        return lane

    def _label(self, route: Route) -> str:
        """What metrics call it: the service's name for the house's own, `tenant/service/env/version` for others.
        Routes come and go, series stay: beyond the first thousand all are one.
        """
        house = (route.tenant, route.version, route.env) == (TENANT, VERSION, self._env)
        label = route.service if house else route.name
        if label not in self._labels:
            if len(self._labels) >= MAX_LABELS:
                return OTHER
            self._labels.add(label)
        return label


async def _is_alive(request_line: bytes, instance: Instance) -> bool:
    return await status_of(instance, request_line) == 200
