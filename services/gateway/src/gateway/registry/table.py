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

    __slots__ = ("_at", "_bounds", "_by_version", "_salts", "_total", "live", "made_of", "routes")

    def __init__(self, routes: Iterable[Route]) -> None:
        self.made_of = routes
        self.routes = tuple(sorted(routes, key=lambda route: route.version))
        self.live = tuple(route for route in self.routes if route.active and route.weight > 0)
        self._by_version = {route.version: route for route in self.routes}
        self._bounds = list(accumulate(route.weight for route in self.live))
        self._total = self._bounds[-1] if self._bounds else 0
        self._salts = [_salt(route.version) for route in self.live] if len(self.live) > 1 else []
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
        # The last bound is left out of the search: a product that is rounded up to it must not lead past the end.
        return live[bisect_right(self._bounds, self._at * self._total, 0, len(live) - 1)]

    def choose_for(self, key: bytes) -> Route | None:
        """The version for `key`: always the same one, in every worker, until weights change.

        Weighted rendezvous hashing: a change of weights moves as few keys as it can.
        """
        live = self.live
        if len(live) < 2:
            return live[0] if live else None
        best, best_score = None, -1.0
        for route, salt in zip(live, self._salts, strict=True):
            drawn = int.from_bytes(hashlib.blake2b(key, digest_size=8, salt=salt).digest(), "big") >> 11
            score = -route.weight / math.log((drawn + 0.5) / 2**53)  # strictly between 0 and 1, as a float too
            if score > best_score:
                best, best_score = route, score
        return best

    def version(self, version: str) -> Route | None:
        """That version if it is active, whatever its weight."""
        route = self._by_version.get(version)
        return route if route is not None and route.active else None


def _salt(version: str) -> bytes:
    """Sixteen bytes, other ones for every version, however long and however alike their names are."""
    return hashlib.blake2b(version.encode(), digest_size=hashlib.blake2b.SALT_SIZE).digest()


class Table:
    """Every route of the registry at one revision.

    One thread changes it; any may look things up meanwhile. What `group` finds is of one revision, the one before a
    change or the one after it.

    Attributes:
        epoch: names the database that the revisions are counted in; "" for what comes from the settings.
        revision: the last one applied.
    """

    def __init__(self, routes: Iterable[Route] = (), *, epoch: str = "", revision: int = 0) -> None:
        self.epoch = epoch
        self.revision = revision
        self._routes: dict[int, Route] = {}
        self._members: dict[GroupKey, tuple[Route, ...]] = {}
        self._groups: dict[GroupKey, Group] = {}
        self.replace(routes, epoch=epoch, revision=revision)

    def __len__(self) -> int:
        return len(self._routes)

    def __iter__(self) -> Iterator[Route]:
        return iter(tuple(self._routes.values()))

    def group(self, key: GroupKey) -> Group | None:
        """The versions of a service, None if the registry has none."""
        members = self._members.get(key)
        if members is None:
            return None
        group = self._groups.get(key)
        if group is None or group.made_of is not members:  # not made yet; or by a reader while a change came
            group = self._groups[key] = Group(members)
        return group

    def replace(self, routes: Iterable[Route], *, epoch: str, revision: int) -> None:
        """Take over a whole registry."""
        by_id: dict[int, Route] = {}
        members: dict[GroupKey, tuple[Route, ...]] = {}
        for route in routes:
            by_id[route.id] = route
            key = (route.tenant, route.service, route.env)
            members[key] = (*members.get(key, ()), route)
        self._routes, self._members, self._groups = by_id, members, {}
        self.epoch, self.revision = epoch, revision

    def become(self, other: Table) -> None:
        """Take over all of `other`, which belongs to nobody any more: `replace`, with the work done elsewhere."""
        self._routes, self._members, self._groups = other._routes, other._members, {}
        self.epoch, self.revision = other.epoch, other.revision

    def apply(self, changes: Iterable[Change], *, revision: int = 0) -> None:
        """Follow the registry, in the order of its revisions; what is known already is passed over.

        Args:
            revision: how far this goes if that is further than the last change: not every revision is of a route.
        """
        for change in changes:
            if change.revision <= self.revision:
                continue
            self._put(change.route_id, change.route)
            self.revision = change.revision
        self.revision = max(self.revision, revision)

    def _put(self, route_id: int, route: Route | None) -> None:
        before = self._routes.pop(route_id, None)
        key = None if route is None else (route.tenant, route.service, route.env)
        if before is not None and (old := (before.tenant, before.service, before.env)) != key:
            left = self._others(old, route_id)
            if left:
                self._members[old] = left
            else:
                del self._members[old]
                self._groups.pop(old, None)
        if route is not None and key is not None:
            self._routes[route_id] = route
            self._members[key] = (*self._others(key, route_id), route)  # at once: a reader sees one state or the other

    def _others(self, key: GroupKey, route_id: int) -> tuple[Route, ...]:
        return tuple(member for member in self._members.get(key, ()) if member.id != route_id)
