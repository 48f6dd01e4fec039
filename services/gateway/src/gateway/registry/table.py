"""The routes as every worker holds them in memory: what a request needs is found by look-ups alone.

Groups are immutable and replaced whole, so a thread that has one may go on with it while the table moves on.
"""

from __future__ import annotations

import hashlib
import math
import random
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import NamedTuple

from gateway.registry.route import Route

GroupKey = tuple[str, str, str]
"""Tenant, service, environment."""

_GOLDEN = 0.6180339887498949


class Change(NamedTuple):
    """What one revision did to one route: it is `route` now, or gone if that is None."""

    revision: int
    route_id: int
    route: Route | None


class Group:
    """All versions of one service of a tenant in an environment, ordered by version."""

    __slots__ = ("_at", "_bounds", "_by_version", "_total", "live", "routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.routes = tuple(sorted(routes, key=lambda route: route.version))
        self.live = tuple(route for route in self.routes if route.active and route.weight > 0)
        self._by_version = {route.version: route for route in self.routes}
        self._bounds = list(accumulate(route.weight for route in self.live))
        self._total = self._bounds[-1] if self._bounds else 0
        self._at = random.random()  # noqa: S311 - workers must not step alike

    def choose(self) -> Route | None:
        """The version for the next request, by weight; None if no version takes any.

        Steps of the golden ratio spread more evenly than chance: after n requests a share is off by a few of them,
        not by the square root of n.
        """
        live = self.live
        if len(live) < 2:
            return live[0] if live else None
        self._at = (self._at + _GOLDEN) % 1.0
        return live[bisect_right(self._bounds, self._at * self._total)]

    def choose_for(self, key: bytes) -> Route | None:
        """The version for `key`: always the same one, in every worker, until weights change.

        Weighted rendezvous hashing: a change of weights moves as few keys as it can.
        """
        best, best_score = None, -1.0
        for route in self.live:
            digest = hashlib.blake2b(key, digest_size=8, person=route.version.encode()[:16]).digest()
            point = (int.from_bytes(digest, "big") + 1) / (2**64 + 1)
            score = -route.weight / math.log(point)
            if score > best_score:
                best, best_score = route, score
        return best

    def version(self, version: str) -> Route | None:
        """That version if it is active, whatever its weight."""
        route = self._by_version.get(version)
        return route if route is not None and route.active else None


class Table:
    """Every route of the registry at one revision.

    Attributes:
        epoch: names the database that the revisions are counted in; "" for what comes from the settings.
        revision: the last one applied.
    """

    def __init__(self, routes: Iterable[Route] = (), *, epoch: str = "", revision: int = 0) -> None:
        self.epoch = epoch
        self.revision = revision
        self._routes: dict[int, Route] = {}
        self._members: dict[GroupKey, dict[int, Route]] = {}
        self._groups: dict[GroupKey, Group] = {}
        self.replace(routes, epoch=epoch, revision=revision)

    def __len__(self) -> int:
        return len(self._routes)

    def __iter__(self) -> Iterator[Route]:
        return iter(tuple(self._routes.values()))

    def group(self, key: GroupKey) -> Group | None:
        """The versions of a service, None if the registry has none."""
        group = self._groups.get(key)
        if group is None:
            members = self._members.get(key)
            if members is None:
                return None
            group = self._groups[key] = Group(members.values())
        return group

    def replace(self, routes: Iterable[Route], *, epoch: str, revision: int) -> None:
        """Take over a whole registry."""
        by_id: dict[int, Route] = {}
        members: dict[GroupKey, dict[int, Route]] = {}
        for route in routes:
            by_id[route.id] = route
            members.setdefault((route.tenant, route.service, route.env), {})[route.id] = route
        self._routes, self._members, self._groups = by_id, members, {}
        self.epoch, self.revision = epoch, revision

    def apply(self, changes: Iterable[Change]) -> None:
        """Follow the registry, in the order of its revisions; what is known already is passed over."""
        for change in changes:
            if change.revision <= self.revision:
                continue
            self._put(change.route_id, change.route)
            self.revision = change.revision

    def _put(self, route_id: int, route: Route | None) -> None:
        before = self._routes.pop(route_id, None)
        if before is not None:
            key = (before.tenant, before.service, before.env)
            members = self._members[key]
            del members[route_id]
            if not members:
                del self._members[key]
            self._groups.pop(key, None)
        if route is not None:
            key = (route.tenant, route.service, route.env)
            self._routes[route_id] = route
            self._members.setdefault(key, {})[route_id] = route
            self._groups.pop(key, None)
