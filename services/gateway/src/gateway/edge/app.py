"""The ASGI application: every request comes in and goes out here, observed from end to end."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import time
from datetime import UTC, datetime
from functools import partial
from typing import Any

from chassis import context
from chassis.errors import CONTENT_TYPE, NotFound, Problem, Unavailable, problem_bytes
from chassis.health import PROBE_ENDPOINTS, Health
from chassis.lifecycle import Lifecycle
from chassis.logging import access
from chassis.metrics import Metrics
from gateway.edge.body import Body, Receive, Send
from gateway.edge.fetched import CLOSE, SERVER, Truncated
from gateway.edge.headers import Header, Peers
from gateway.edge.local import HTML, Endpoint, endpoints
from gateway.edge.proxy import Proxy
from gateway.edge.request import Request
from gateway.edge.routes import Route, RouteTable, static_routes
from gateway.edge.status import ServiceStatus
from gateway.edge.target import Target
from gateway.edge.upstream import Upstreams
from gateway.policy import UpstreamPolicy
from gateway.registry.route import Route as ServiceRoute
from gateway.registry.table import Group
from gateway.settings import Settings

log = logging.getLogger(__name__)

ABANDONED = 499
"""What metrics and logs call a request whose client left before the answer; nobody ever receives it."""
TICK_S = 1.0
"""How often idle connections are looked over and the pools' gauges set."""
NOWHERE = "There is nothing at this address"
_PROTOCOLS = {"1.0": "HTTP/1.0", "1.1": "HTTP/1.1"}
_PAGE_HEADERS: tuple[Header, ...] = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)


class Edge:
    """The gateway's edge. Its pools open connections when requests need them and close with the lifespan."""

    def __init__(self, settings: Settings) -> None:
        metrics = Metrics(service="gateway", version=settings.app_version, commit=settings.commit)
        catalogue = _group(1, "catalogue", settings.catalogue_url, settings.gateway_env)
        user = _group(2, "user", settings.user_url, settings.gateway_env)
        health = Health(service="gateway", version=settings.app_version)
        self.settings = settings
        self._metrics = metrics
        self._upstreams = Upstreams(settings, policy=UpstreamPolicy(settings), metrics=metrics)
        self._peers = Peers(
            trusted=map(ipaddress.ip_network, settings.trusted_proxies),
            internal=map(ipaddress.ip_network, settings.internal_networks),
        )
        self._routes = RouteTable(static_routes(catalogue=catalogue, user=user))
        self._proxy = Proxy(
            self._upstreams,
            peers=self._peers,
            metrics=metrics,
            env=settings.gateway_env,
            timeout_s=settings.request_timeout_ms / 1000,
        )
        urls = {"catalogue": settings.catalogue_url, "user": settings.user_url}
        status = ServiceStatus(urls, self._upstreams)
        for name in urls:
            health.add(name, partial(status.check, name), required=False)
        self._endpoints = endpoints(health=health, status=status, metrics=metrics, peers=self._peers)
        self._in_flight = 0
        lifecycle = Lifecycle()
        lifecycle.background("metrics-sampler", metrics.sample, interval_s=settings.metrics_sample_seconds)
        self.extensions = {"lifecycle": lifecycle}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise RuntimeError(f"{scope['type']} is not served here")

    # --- requests --------------------------------------------------------------------------------------------------

    async def _http(self, scope: Any, receive: Receive, send: Send) -> None:
        began_s = time.perf_counter()
        request = Request(scope, self._peers)
        request.context = context.begin(
            request.text(b"x-request-id"),
            request.text(b"traceparent"),
            request.text(b"x-request-timeout-ms"),
            self.settings.request_timeout_ms,
        )
        token = context.bind(request.context)
        status = ABANDONED
        try:
            status = await self._serve(request, receive, send)
        finally:
            self._observe(request, status, time.perf_counter() - began_s)
            context.unbind(token)
            if request.body is not None and status == ABANDONED:
                request.body.close()
        if request.body is not None:
            await request.body.discard()

    async def _serve(self, request: Request, receive: Receive, send: Send) -> int:
        """Answer, whatever happens; returns the status."""
        try:
            request.check()
            length = request.body_length()
            if length != 0:
                limit = self.settings.max_body_bytes
                request.body = Body(receive, length=length, limit=limit, expected=b"expect" in request.aside)
            local = self._endpoints.get(request.path)
            if local is not None:
                return await self._answer(request, local, send)
            route = self._routes.find(request.path)
            if route is None:
                raise NotFound(NOWHERE)
            request.endpoint = route.name
            return await self._forward(request, route, send)
        except Problem as problem:
            return await self._refuse(request, problem, send)
        except Truncated as truncated:  # gunicorn closes the connection of an answer that has no end
            return truncated.status
        except Exception as error:
            log.exception("Unexpected %s", type(error).__name__)
            self._metrics.count_error(type(error).__name__)
            return await self._refuse(request, Problem("Something went wrong on our side"), send)

    async def _forward(self, request: Request, route: Route, send: Send) -> int:
        if self._in_flight >= self.settings.max_in_flight:
            raise Unavailable("The gateway is busy")
        self._in_flight += 1
        try:
            path = request.raw_path[len(route.strip) :] if route.strip else request.raw_path
            target = Target(endpoint=route.name, group=route.group, path=path, query=request.query)
            return await self._proxy.forward(request, target, send)
        finally:
            self._in_flight -= 1

    async def _answer(self, request: Request, endpoint: Endpoint, send: Send) -> int:
        """Answer with one of the gateway's own endpoints."""
        if endpoint.internal and not self._peers.is_internal(request.peer):
            raise NotFound(NOWHERE)
        request.endpoint = endpoint.name
        if request.method not in ("GET", "HEAD"):
            raise Problem("This address does not take that method", status=405, headers={"Allow": "GET, HEAD"})
        status, content_type, body = await endpoint.answer(request)
        headers = [(b"cache-control", b"no-store")]
        if content_type == HTML:
            headers += _PAGE_HEADERS
        await _send(request, send, status, content_type, body, headers)
        return status

    async def _refuse(self, request: Request, problem: Problem, send: Send) -> int:
        """Answer with a problem."""
        if problem.status >= 500:
            self._metrics.count_error(problem.slug or type(problem).__name__)
        body = problem_bytes(problem.status, problem.detail, slug=problem.slug, errors=problem.errors)
        headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
        await _send(request, send, problem.status, CONTENT_TYPE, body, headers)
        return problem.status

    def malformed(self, peer: str, status: int, detail: str) -> tuple[bytes, str]:
        """For what the server could not read as a request: count and log it. Returns the answer's body and id."""
        ctx = context.begin(None, None, None, self.settings.request_timeout_ms)
        token = context.bind(ctx)
        try:
            self._metrics.request("-", "unmatched", status, 0.0)
            access(
                method="-", path="-", protocol="-", route="unmatched", status=status, duration_s=0.0,
                remote_addr=peer, quiet=False,
            )  # fmt: skip
            return problem_bytes(status, detail), ctx.request_id
        finally:
            context.unbind(token)

    def _observe(self, request: Request, status: int, duration_s: float) -> None:
        endpoint = request.endpoint
        self._metrics.request(request.method, endpoint, status, duration_s)
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

    # --- life ------------------------------------------------------------------------------------------------------

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Until the server says stop, look after the pools; by then every request has been answered or given up."""
        await receive()
        ticker = asyncio.create_task(self._tick())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        ticker.cancel()
        self._upstreams.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            self._upstreams.tick(loop.time())
            await asyncio.sleep(TICK_S)


def _group(number: int, service: str, url: str, env: str) -> Group:
    now = datetime.now(UTC)
    return Group([ServiceRoute(number, "storefront", service, env, "v1", url, True, 100, now, now)])


async def _send(
    request: Request, send: Send, status: int, content_type: str, body: bytes, headers: list[Header]
) -> None:
    """One whole answer of our own."""
    headers += (
        (b"content-type", content_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request.context.request_id.encode()),
        SERVER,
    )
    if request.body is not None and request.body.unread:
        headers.append(CLOSE)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})
