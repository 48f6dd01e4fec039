"""`GET /status`: the gateway as people look at it: every route and instance, what they carry and how they are."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader

from gateway.edge import traffic
from gateway.registry.route import Route
from gateway.registry.table import Table

if TYPE_CHECKING:
    from chassis.metrics import Metrics
    from gateway.edge.instance import Instance

MOST_SERVICES = 100
"""Services on the page; the registry's API has the others."""
WINDOW_S = 60.0
"""Rates are of about the last minute."""
MANY_ERRORS = 0.05
"""The page says that something is wrong when this part of the answers is our fault."""

Name = tuple[str, str, str, str]
States = Mapping[str, str]


@dataclass
class Count:
    """Requests of one route: all, of those answered 5xx, of those answered by the cache."""

    requests: float = 0.0
    errors: float = 0.0
    hits: float = 0.0

    def add(self, value: float, *, code: str, cached: str) -> None:
        """Add one sample."""
        self.requests += value
        self.errors += value if code == "5xx" else 0.0
        self.hits += value if cached == "hit" else 0.0

    def since(self, before: Count | None) -> Count:
        """What came after `before`."""
        if before is None or before.requests > self.requests:  # a worker's file is gone: begin again
            return self
        return Count(self.requests - before.requests, self.errors - before.errors, self.hits - before.hits)


@dataclass
class Reading:
    """All counts at one time (monotonic seconds)."""

    at_s: float
    counts: dict[Name, Count] = field(default_factory=dict)


class Overview:
    """Makes the page.

    Args:
        house: the tenant of the storefront's own services, which come first.
        instances: the instances of a route's URL, as this worker knows them.
        confirmed_s: seconds since the registry last confirmed the table; None if there is no registry or it never did.
        workers: how many workers the counts are of.
    """

    def __init__(
        self,
        *,
        table: Table,
        metrics: Metrics,
        house: str,
        instances: Callable[[Route], Sequence[Instance]],
        confirmed_s: Callable[[], float | None],
        workers: int,
    ) -> None:
        self._table = table
        self._metrics = metrics
        self._house = house
        self._instances = instances
        self._confirmed_s = confirmed_s
        self._workers = workers
        self._began_s = time.monotonic()
        self._lock = threading.Lock()
        self._readings: deque[Reading] = deque()

    def page(self, states: States) -> bytes:
        """The page as HTML. Reads the files of all workers: call it in a thread."""
        now = self._read()
        then = self._window(now)
        seconds = now.at_s - then.at_s
        counts = {name: count.since(then.counts.get(name)) for name, count in now.counts.items()}
        total = Count()
        for count in counts.values():
            total.requests += count.requests
            total.errors += count.errors
            total.hits += count.hits
        services, more = self._services(states, counts, seconds)
        down = "down" in states.values()
        template = _environment().get_template("status.html")
        return template.render(
            well=not down and total.errors <= MANY_ERRORS * total.requests,
            at=datetime.now(UTC).strftime("%Y-%m-%d %H:%M:%S"),
            window=_window_text(seconds, whole=then.counts == {}),
            workers=self._workers,
            rate=_rate(total.requests, seconds),
            hit_ratio=_part(total.hits, total.requests),
            error_ratio=_part(total.errors, total.requests),
            in_flight=sum(instance.in_use for service in services for route in service["routes"]
                          for instance in route["instances"]),
            route_count=len(self._table),
            revision=self._table.revision,
            confirmed=_ago(self._confirmed_s()),
            services=services,
            more=more,
        ).encode()  # fmt: skip

    def _read(self) -> Reading:
        reading = Reading(time.monotonic())
        for _, labels, value in self._metrics.samples(traffic.NAME):
            name = (labels["tenant"], labels["service"], labels["env"], labels["version"])
            reading.counts.setdefault(name, Count()).add(value, code=labels["code"], cached=labels["cache"])
        return reading

    def _window(self, now: Reading) -> Reading:
        """The reading to compare `now` with: the oldest of the last minute, or the beginning."""
        with self._lock:
            readings = self._readings
            while readings and now.at_s - readings[0].at_s > WINDOW_S:
                readings.popleft()
            then = readings[0] if readings and now.at_s - readings[0].at_s >= 1.0 else Reading(self._began_s)
            if not readings or now.at_s - readings[-1].at_s >= 1.0:
                readings.append(now)
            return then

    def _services(
        self, states: States, counts: Mapping[Name, Count], seconds: float
    ) -> tuple[list[dict[str, Any]], int]:
        keys = sorted({(route.tenant != self._house, route.tenant, route.service, route.env) for route in self._table})
        services = []
        for _, tenant, service, env in keys[:MOST_SERVICES]:
            group = self._table.group((tenant, service, env))
            if group is None:
                continue
            of_group = [counts.get((tenant, service, env, route.version), Count()) for route in group.routes]
            requests = sum(count.requests for count in of_group)
            weights = sum(route.weight for route in group.live)
            services.append(
                {
                    "name": f"{tenant} / {service} / {env}",
                    "state": states.get(service, "") if tenant == self._house else "",
                    "routes": [
                        {
                            "version": route.version,
                            "url": route.url,
                            "active": route.active,
                            "weight": route.weight,
                            "share_value": f"{count.requests / requests if requests else 0:.4f}",
                            "share": _part(count.requests, requests),
                            "wanted": _part(route.weight if route.active else 0, weights),
                            "rate": _rate(count.requests, seconds),
                            "errors": _part(count.errors, count.requests),
                            "hits": _part(count.hits, count.requests),
                            "instances": self._instances(route),
                        }
                        for route, count in zip(group.routes, of_group, strict=True)
                    ],
                }
            )
        return services, max(0, len(keys) - MOST_SERVICES)


@cache
def _environment() -> Environment:
    return Environment(loader=PackageLoader("gateway"), autoescape=True, trim_blocks=True, lstrip_blocks=True)


def _rate(count: float, seconds: float) -> str:
    return f"{count / seconds:.1f}" if seconds > 0 else "0.0"


def _part(count: float, whole: float) -> str:
    return f"{count / whole:.1%}" if whole else "-"


def _ago(seconds: float | None) -> str:
    if seconds is None:
        return "never"
    return "just now" if seconds < 2 else f"{seconds:.0f} s ago"


def _window_text(seconds: float, *, whole: bool) -> str:
    return f"the {seconds:.0f} s since this worker began" if whole else f"the last {seconds:.0f} s"
