"""How true the routes of a worker are: for pages, health, metrics and the log."""

from __future__ import annotations

import logging
import time
from typing import NamedTuple

from chassis.health import Result
from chassis.metrics import Metrics
from gateway.registry.repository import State

log = logging.getLogger(__name__)

STALE_S = 5.0
"""Routes that PostgreSQL has not confirmed for so long are reported as last known."""


class Facts(NamedTuple):
    """How true the routes are.

    Attributes:
        source: where they were read last: `settings`, `disk`, `redis` or `database`.
        confirmed_s: seconds since PostgreSQL last said that they are true; None if it has not since the start.
        error: the class name of what is wrong with the registry; None if nothing is.
    """

    source: str
    epoch: str
    revision: int
    confirmed_s: float | None
    error: str | None


class Freshness:
    """What a feed finds out about its sources.

    Args:
        follows: whether there is a registry at all.
    """

    def __init__(self, metrics: Metrics, *, follows: bool) -> None:
        self.source = "settings"
        self._follows = follows
        self._began_s = time.monotonic()
        self._confirmed_s: float | None = None
        self._error: str | None = None
        self._said = ""
        self._routes = metrics.gauge("gateway_routes", "Routes known", over_workers="livemax")
        self._revision = metrics.gauge(
            "gateway_routes_revision", "Revision of the registry that every worker has reached", over_workers="livemin"
        )
        self._age_s = metrics.gauge(
            "gateway_routes_age_seconds", "Since PostgreSQL last confirmed the routes, seconds", over_workers="livemax"
        )
        errors = metrics.counter("gateway_route_feed_errors_total", "Failed reads and writes of routes", ("source",))
        self._errors = {source: errors.labels(source) for source in ("database", "redis", "disk")}

    @property
    def confirmed(self) -> bool:
        """Whether PostgreSQL, and not just a copy, has said since the start what the routes are."""
        return self._confirmed_s is not None

    def confirm(self, position: State, *, at_s: float) -> None:
        """PostgreSQL said so at `at_s`, monotonic."""
        self._confirmed_s, self.source, self._error = at_s, "database", None
        self._say("Routes follow the registry", position, logging.INFO)

    def doubt(self, error: Exception, message: str, position: State, *, level: int) -> None:
        """PostgreSQL does not say; `message` is logged once for each time that it becomes true."""
        self._error = type(error).__name__
        self._say(message, position, level)

    def _say(self, message: str, position: State, level: int) -> None:
        if message != self._said:
            self._said = message
            error = f", {self._error}" if self._error else ""
            log.log(level, "%s (revision %d%s)", message, position.revision, error)

    def count_error(self, source: str) -> None:
        """`database`, `redis` or `disk` failed."""
        self._errors[source].inc()

    def measure(self, routes: int, position: State) -> None:
        """Set the gauges."""
        since_s = self._began_s if self._confirmed_s is None else self._confirmed_s
        self._routes.set(routes)
        self._revision.set(position.revision)
        self._age_s.set(time.monotonic() - since_s if self._follows else 0.0)

    def facts(self, position: State) -> Facts:
        """As of now."""
        confirmed_s = None if self._confirmed_s is None else time.monotonic() - self._confirmed_s
        return Facts(self.source, *position, confirmed_s, self._error)

    def check(self, limit_s: float) -> Result:  # noqa: ARG002 - nothing is waited for
        """As a health check. Old routes are served as well as new ones: it is degraded at the worst."""
        if not self._follows:
            return Result("healthy", "Routes come from the settings")
        if self._confirmed_s is not None and time.monotonic() - self._confirmed_s < STALE_S:
            return Result("healthy", "Routes follow the registry")
        return Result("degraded", f"Routes are the last known ones, from {self.source}", error=self._error)
