"""What is counted and logged of every request, and of what never became one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chassis import context
from chassis.errors import problem_bytes
from chassis.health import PROBE_ENDPOINTS
from chassis.logging import access
from chassis.metrics import SERVER_ERRORS
from gateway.edge.request import METHODS, Request
from gateway.edge.traffic import Traffic

if TYPE_CHECKING:
    from chassis.metrics import Metrics
    from gateway.registry.route import Route

_PROTOCOLS = {"1.0": "HTTP/1.0", "1.1": "HTTP/1.1"}


class Observer:
    """Counts in memory until `flush`, on the event loop."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self._tally = metrics.tally()
        self._traffic = Traffic(metrics)
        self._own_requests = metrics.counter(
            "api_requests_total", "Requests to the gateway's own endpoints", ("method", "endpoint", "status_code")
        )
        self._own_seconds = metrics.histogram(
            "api_request_duration_seconds",
            "Time to answer at the gateway's own endpoints, seconds",
            ("method", "endpoint"),
        )
        self._own: dict[tuple[str, str, int], tuple[Any, Any]] = {}

    def expect(self, method: str, endpoint: str, *, own: bool = False) -> None:
        """Count the server's errors of an endpoint from 0; `own` ones under both names."""
        self._metrics.expect_requests(method, endpoint)
        for status in SERVER_ERRORS if own else ():
            self._own_requests.labels(method, endpoint, status)

    def request(self, request: Request, status: int, duration_s: float) -> None:
        """A request has been answered, or abandoned."""
        endpoint = request.endpoint
        self._tally.request(request.method, endpoint, status, duration_s)
        if request.own:
            self._count_own(request.method, endpoint, status, duration_s)
        access(
            method=request.method,
            path=request.path,
            protocol=_PROTOCOLS.get(request.http_version, "HTTP"),
            route=endpoint,
            status=status,
            duration_s=duration_s,
            remote_addr=request.client,
            quiet=endpoint in PROBE_ENDPOINTS,
        )

    def routed(self, route: Route, status: int, *, cached: bool) -> None:
        """`route` was chosen for a request that got `status`."""
        self._traffic.count(route, status, cached=cached)

    def error(self, kind: str) -> None:
        """Something was wrong on our side; `kind` is a class name or a problem's slug."""
        self._metrics.count_error(kind)

    def malformed(self, peer: str, status: int, detail: str, *, limit_ms: int) -> tuple[bytes, str]:
        """What the server could not read as a request, or did not want to: a connection too many. Returns the answer's
        body and id.
        """
        route = "unmatched" if status < 500 else "connection"  # the objectives leave out what is asked of nobody
        ctx = context.begin(None, None, None, limit_ms)
        token = context.bind(ctx)
        try:
            self._tally.request("-", route, status, 0.0)
            access(
                method="-", path="-", protocol="-", route=route, status=status, duration_s=0.0,
                remote_addr=peer, quiet=False,
            )  # fmt: skip
            return problem_bytes(status, detail), ctx.request_id
        finally:
            context.unbind(token)

    def flush(self) -> None:
        """Take over into the metrics what was counted."""
        self._tally.flush()
        self._traffic.flush()

    def _count_own(self, method: str, endpoint: str, status: int, duration_s: float) -> None:
        """The gateway's own endpoints also under the names that the Traffic Manager gave them."""
        key = (method if method in METHODS else "OTHER", endpoint, status)
        children = self._own.get(key)
        if children is None:
            children = (self._own_requests.labels(*key), self._own_seconds.labels(*key[:2]))
            self._own[key] = children
        children[0].inc()
        children[1].observe(duration_s)
