"""Whether the storefront's own services are up: asked of each, for clients, operators and readiness."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Literal

from chassis.health import Result
from gateway.edge.probe import is_up
from gateway.edge.upstream import Upstreams
from gateway.registry.house import TENANT
from gateway.registry.route import Route
from gateway.registry.table import Table

State = Literal["up", "down"]
CACHE_S = 1.0
"""Answers are this old at the most, so that polling costs a service one request a second and worker."""
GLANCE_S = 0.2
"""Health answers wait for it no longer than this, and use the last known state."""


class ServiceStatus:
    """The last known state of every service of the house.

    Args:
        env: the gateway's own environment.
    """

    def __init__(self, table: Table, upstreams: Upstreams, *, env: str) -> None:
        self._table = table
        self._upstreams = upstreams
        self._env = env
        self._states: dict[str, State] = {}
        self._fresh_until_s = 0.0
        self._refreshing: asyncio.Task[None] | None = None

    def services(self) -> list[str]:
        """The names of the services that there are routes to."""
        return sorted({route.service for route in self._table if (route.tenant, route.env) == (TENANT, self._env)})

    async def states(self) -> dict[str, State]:
        """Service → `up` or `down`, asked anew if older than `CACHE_S`. Callers at the same time share one round."""
        if time.monotonic() >= self._fresh_until_s:
            await asyncio.shield(self._begin_refresh())
        return self._states

    async def glance(self) -> None:
        """See to it that `check_of` has something to go by, in no more than `GLANCE_S`: probes have time-outs of their
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
            names = self.services()
            found = await asyncio.gather(*map(self._is_up, names))
            self._states = {name: "up" if up else "down" for name, up in zip(names, found, strict=True)}
            self._fresh_until_s = time.monotonic() + CACHE_S
        finally:
            self._refreshing = None

    async def _is_up(self, service: str) -> bool:
        """Whether a version that takes requests answers."""
        group = self._table.group((TENANT, service, self._env))
        routes: tuple[Route, ...] = group.live if group is not None else ()
        found = await asyncio.gather(*(is_up(self._upstreams.of(route.url, service)) for route in routes))
        return any(found)

    def check_of(self, service: str) -> Callable[[float], Result]:
        """A health check: the last known state of one service. One that is down does not make the gateway unready: it
        goes on serving the others.
        """

        def check(_limit_s: float) -> Result:  # `glance` did the waiting
            if self._states.get(service) == "up":
                return Result("healthy", f"{service} answers")
            return Result("degraded", f"{service} does not answer")

        return check
