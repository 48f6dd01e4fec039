"""Whether the services behind the edge are up: asked of each, for clients, operators and readiness."""

from __future__ import annotations

import asyncio
import html
import time
from collections.abc import Mapping
from typing import Literal

from chassis.health import Result
from gateway.edge.probe import is_up
from gateway.edge.upstream import Upstreams

State = Literal["up", "down"]
CACHE_S = 1.0
"""Answers are this old at the most, so that polling costs a service one request a second and worker."""
GLANCE_S = 0.2
"""Health answers wait for it no longer than this, and use the last known state."""


class ServiceStatus:
    """The last known state of every service."""

    def __init__(self, urls: Mapping[str, str], upstreams: Upstreams) -> None:
        self._urls = dict(urls)
        self._upstreams = upstreams
        self._states: dict[str, State] = {}
        self._fresh_until_s = 0.0
        self._refreshing: asyncio.Task[None] | None = None

    async def states(self) -> dict[str, State]:
        """Service → `up` or `down`, asked anew if older than `CACHE_S`. Callers at the same time share one round."""
        if time.monotonic() >= self._fresh_until_s:
            await asyncio.shield(self._begin_refresh())
        return self._states

    async def glance(self) -> None:
        """See to it that `check` has something to go by, in no more than `GLANCE_S`: probes have time-outs of their
        own, and a service that hangs must not make the gateway look dead.
        """
        if time.monotonic() >= self._fresh_until_s:
            await asyncio.wait((self._begin_refresh(),), timeout=GLANCE_S)

    def _begin_refresh(self) -> asyncio.Task[None]:
        if self._refreshing is None:
            self._refreshing = asyncio.create_task(self._refresh())
        return self._refreshing

    async def _refresh(self) -> None:
        try:
            asked = (is_up(self._upstreams.of(url, name)) for name, url in self._urls.items())
            found = await asyncio.gather(*asked)
            self._states = {name: "up" if up else "down" for name, up in zip(self._urls, found, strict=True)}
            self._fresh_until_s = time.monotonic() + CACHE_S
        finally:
            self._refreshing = None

    def check(self, name: str, limit_s: float) -> Result:  # noqa: ARG002 - `glance` did the waiting
        """The last known state of one service as a health check. A service that is down does not make the gateway
        unready: it goes on serving the others.
        """
        if self._states.get(name) == "up":
            return Result("healthy", f"{name} answers")
        return Result("degraded", f"{name} does not answer")

    async def page(self) -> bytes:
        """`GET /status`: the same for people."""
        states = await self.states()
        rows = "".join(
            f'<tr class="{states[name]}"><td>{html.escape(name)}</td><td>{states[name]}</td>'
            f"<td>{self._upstreams.of(url).in_flight}</td><td>{self._upstreams.of(url).idle}</td></tr>"
            for name, url in self._urls.items()
        )
        return _PAGE.replace("{rows}", rows).encode()


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="refresh" content="5">
<title>Gateway status</title>
<style>
body { font: 1rem/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 40rem; padding: 0 1rem; color: #1c1c1c }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: .4rem .8rem .4rem 0; border-bottom: 1px solid #d5d5d5 }
.up td:nth-child(2) { color: #12652f; font-weight: 600 }
.down td:nth-child(2) { color: #a01616; font-weight: 600 }
</style>
</head>
<body>
<h1>Gateway status</h1>
<table>
<thead><tr><th>Service</th><th>State</th><th>Requests in flight</th><th>Idle connections</th></tr></thead>
<tbody>{rows}</tbody>
</table>
<p>Requests and connections are those of the worker process that answered. The page reloads itself.</p>
</body>
</html>
"""
