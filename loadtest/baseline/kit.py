"""What every observed peer has, as our services have: metrics over many workers, request ids, a JSON access log.

The peers share nothing with chassis, so that a slow chassis cannot slow its own yardstick. The work per request is kept
as lean as its authors could: labelled metric children are looked up in a dictionary, and the log line is one `orjson`
call and one write, with no logging machinery between.
"""

from __future__ import annotations

import os
import re
import sys
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import orjson
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, generate_latest, multiprocess

if TYPE_CHECKING:
    from flask import Flask
    from flask.typing import ResponseReturnValue
    from flask.wrappers import Response

_ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Fields that a proxy does not pass on (RFC 9110, section 7.6.1)."""
_UNLOGGED_PATHS = frozenset({"/metrics", "/health/live"})

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Asgi = Callable[[Scope, Receive, Send], Awaitable[None]]


def request_id_from(offered: str | None) -> str:
    """The offered id if it is acceptable, else a new one."""
    if offered and _ACCEPTABLE_ID.fullmatch(offered):
        return offered
    return uuid.uuid4().hex


class Observer:
    """Counts and logs requests of one service."""

    def __init__(self, service: str) -> None:
        self._service = service
        self._requests = Counter(f"{service}_http_requests_total", "Requests", ["method", "endpoint", "status"])
        self._seconds = Histogram(f"{service}_http_request_duration_seconds", "Duration", ["method", "endpoint"])
        self._children: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}

    def done(
        self, *, method: str, path: str, endpoint: str, status: int, seconds: float, request_id: str, remote: str
    ) -> None:
        """Count one finished request (`seconds` long) and write its log line to stdout."""
        key = (method, endpoint, status)
        pair = self._children.get(key)
        if pair is None:
            pair = (self._requests.labels(method, endpoint, str(status)), self._seconds.labels(method, endpoint))
            self._children[key] = pair
        pair[0].inc()
        pair[1].observe(seconds)
        if path in _UNLOGGED_PATHS:
            return
        line = {
            "timestamp": datetime.now(UTC),
            "level": "INFO",
            "logger": "access",
            "message": f'"{method} {path} HTTP/1.1" {status}',
            "service": self._service,
            "version": "baseline",
            "request_id": request_id,
            "method": method,
            "path": path,
            "route": endpoint,
            "status": status,
            "duration_ms": round(seconds * 1000, 3),
            "remote_addr": remote,
        }
        os.write(sys.stdout.fileno(), orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


def exposition() -> tuple[bytes, str]:
    """Prometheus text summed over all workers, and its content type."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


def connect_seconds() -> Histogram:
    """How long requests wait for their connection to PostgreSQL: what pooling is to save. For those without a pool."""
    buckets = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0)
    return Histogram("db_connect_seconds", "Making a connection to PostgreSQL, seconds", buckets=buckets)


def observe_flask(app: Flask, *, service: str) -> None:
    """Give a Flask application ids, metrics (`/metrics`), the log line and `/health/live`."""
    from flask import g, request

    observer = Observer(service)

    @app.before_request
    def _start() -> None:
        g.started_s = time.perf_counter()
        g.request_id = request_id_from(request.headers.get("X-Request-ID"))

    @app.after_request
    def _finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        observer.done(
            method=request.method,
            path=request.path,
            endpoint=request.endpoint or "unmatched",
            status=response.status_code,
            seconds=time.perf_counter() - g.started_s,
            request_id=g.request_id,
            remote=request.remote_addr or "",
        )
        return response

    @app.get("/metrics")
    def metrics() -> ResponseReturnValue:
        body, content_type = exposition()
        return app.response_class(body, content_type=content_type)

    @app.get("/health/live")
    def live() -> ResponseReturnValue:
        return {"status": "alive"}


class ObserveAsgi:
    """The same for an ASGI application, as a plain middleware (Starlette's `BaseHTTPMiddleware` costs far more)."""

    def __init__(self, app: Asgi, *, service: str) -> None:
        self._app = app
        self._observer = Observer(service)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started_s = time.perf_counter()
        request_id = request_id_from(_header(scope["headers"], b"x-request-id"))
        status = 500

        async def observed_send(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        finally:
            route = scope.get("route")
            self._observer.done(
                method=scope["method"],
                path=scope["path"],
                endpoint=getattr(route, "name", "unmatched"),
                status=status,
                seconds=time.perf_counter() - started_s,
                request_id=request_id,
                remote=scope["client"][0] if scope.get("client") else "",
            )


def _header(headers: Iterable[tuple[bytes, bytes]], name: bytes) -> str | None:
    for key, value in headers:
        if key == name:
            return value.decode("latin-1")
    return None
