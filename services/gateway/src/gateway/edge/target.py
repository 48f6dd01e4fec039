"""What a request is for, once its path is known: a version of a service, and the target to ask it for."""

from __future__ import annotations

import random
from collections.abc import Collection

from gateway.registry.route import Route
from gateway.registry.table import Group


class Target:
    """Where one request may be answered.

    Args:
        endpoint: its label in metrics and logs.
        group: the versions of the service; None only with `pinned`.
        path: the raw path for the service, prefix taken off; begins with a slash.
        query: the raw query string.
        pinned: the version that the client named (X-Route-Version); no other will do then.
        key: what the client wants to be sticky by (X-Route-Key).

    Attributes:
        chosen: the route that was chosen last, None before there was one.
    """

    __slots__ = ("chosen", "endpoint", "group", "key", "path", "pinned", "query")

    def __init__(
        self,
        *,
        endpoint: str,
        group: Group | None,
        path: bytes,
        query: bytes = b"",
        pinned: Route | None = None,
        key: bytes | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.group = group
        self.path = path
        self.query = query
        self.pinned = pinned
        self.key = key
        self.chosen: Route | None = None

    def choose(self, exclude: Collection[int] = ()) -> Route | None:
        """The route for the next try, by weight or by key; None if there is none (left).

        Args:
            exclude: ids of routes that will not do.
        """
        route = self._choose(exclude)
        if route is not None:
            self.chosen = route
        return route

    def _choose(self, exclude: Collection[int]) -> Route | None:
        pinned, group = self.pinned, self.group
        if pinned is not None:
            return None if pinned.id in exclude else pinned
        if group is None:
            return None
        if exclude:
            left = Group(route for route in group.live if route.id not in exclude)
            if self.key is not None:
                return left.choose_for(self.key)
            return random.choices(left.live, [route.weight for route in left.live])[0] if left.live else None  # noqa: S311
        return group.choose() if self.key is None else group.choose_for(self.key)
