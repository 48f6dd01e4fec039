"""What the gateway answers by itself: health, metrics, the state of the services, and where their documents are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import orjson

from chassis.health import Health
from chassis.metrics import Metrics
from gateway.edge.headers import Peers
from gateway.edge.overview import Overview
from gateway.edge.request import Request
from gateway.edge.status import ServiceStatus

JSON = "application/json"
HTML = "text/html; charset=utf-8"


class Answer(NamedTuple):
    """A whole answer."""

    status: int
    content_type: str
    body: bytes


class Endpoint(NamedTuple):
    """`name` is its label in metrics; an `internal` one does not exist for peers outside the internal networks."""

    name: str
    answer: Callable[[Request], Awaitable[Answer]]
    internal: bool = False


def endpoints(
    *, health: Health, status: ServiceStatus, overview: Overview, metrics: Metrics, peers: Peers
) -> Mapping[str, Endpoint]:
    """Path → Endpoint. All of them take GET and HEAD."""

    async def live(request: Request) -> Answer:  # noqa: ARG001
        code, body = health.live()
        return Answer(code, JSON, orjson.dumps(body))

    async def ready(request: Request) -> Answer:
        await status.glance()
        code, body = await asyncio.to_thread(health.ready)  # the stores are asked
        if not peers.is_internal(request.peer):
            body = {"status": body["status"]}
        return Answer(code, JSON, orjson.dumps(body))

    async def summary(request: Request) -> Answer:  # noqa: ARG001
        await status.glance()
        code, body = await asyncio.to_thread(health.summary)
        return Answer(code, JSON, orjson.dumps(body))

    async def exposition(request: Request) -> Answer:  # noqa: ARG001
        # In a thread: it reads the files of all workers, and requests must not wait for that.
        text, content_type = await asyncio.to_thread(metrics.exposition)
        return Answer(200, content_type, text)

    async def service_status(request: Request) -> Answer:  # noqa: ARG001
        return Answer(200, JSON, orjson.dumps({"services": await status.states()}))

    async def page(request: Request) -> Answer:  # noqa: ARG001
        return Answer(200, HTML, await asyncio.to_thread(overview.page, await status.states()))

    async def docs(request: Request) -> Answer:  # noqa: ARG001
        return Answer(200, HTML, _DOCS)

    return {
        "/health": Endpoint("health", summary),
        "/health/live": Endpoint("health_live", live),
        "/health/ready": Endpoint("health_ready", ready),
        "/metrics": Endpoint("metrics", exposition, internal=True),
        "/status": Endpoint("status", page, internal=True),
        "/api/service-status": Endpoint("service_status", service_status),
        "/docs": Endpoint("docs", docs),
    }


_DOCS = b"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API documents</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem; color: #1c1c1c }
</style>
</head>
<body>
<h1>API documents</h1>
<ul>
<li><a href="gateway/docs">Gateway</a>: routes, health, status (<a href="gateway/openapi.json">OpenAPI</a>)</li>
<li><a href="catalogue/docs">Catalogue</a>: products and search (<a href="catalogue/openapi.json">OpenAPI</a>)</li>
<li><a href="user/docs">Users</a>: accounts and lists (<a href="user/openapi.json">OpenAPI</a>)</li>
<li><a href="links/docs">Links</a>: short links and QR codes (<a href="links/openapi.json">OpenAPI</a>)</li>
</ul>
</body>
</html>
"""
