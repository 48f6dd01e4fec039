"""Which service answers which path. The first form: a static table; the registry takes its place later."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from gateway.registry.table import Group


@dataclass(frozen=True, slots=True)
class Route:
    """One entry of the table.

    Attributes:
        name: the `endpoint` label in metrics and `route` in logs.
        prefix: the path, and with `subtree` every path below it, by whole segments.
        strip: taken off the front of the path before it goes to the service.
    """

    name: str
    prefix: str
    group: Group
    subtree: bool = True
    strip: str = ""


class RouteTable:
    """Finds the route with the longest prefix in a number of look-ups that depends on the table, not on the path."""

    def __init__(self, routes: Iterable[Route]) -> None:
        self._exact: dict[str, Route] = {}
        self._subtrees: dict[str, Route] = {}
        for route in routes:
            self._exact[route.prefix] = route
            if route.subtree:
                self._subtrees[route.prefix] = route
        self._depth = max((prefix.count("/") for prefix in self._subtrees), default=0)

    def find(self, path: str) -> Route | None:
        """The route of a decoded path that begins with a slash, None if there is none."""
        route = self._exact.get(path)
        if route is not None:
            return route
        segments = path.split("/", self._depth + 1)
        for count in range(min(len(segments), self._depth + 1), 1, -1):
            route = self._subtrees.get("/".join(segments[:count]))
            if route is not None:
                return route
        return None


def static_routes(*, catalogue: Group, user: Group) -> list[Route]:
    """The routes of CONTRACT section 5 that exist already, and each service's API documents.

    A service's pages refer to its operations relative to themselves, so its documented paths answer below its own
    name as well. Its health and metrics do not: they are nobody's business outside.
    """
    return [
        Route("home", "/", catalogue, subtree=False),
        Route("products", "/api/products", catalogue),
        Route("static", "/static", catalogue),
        Route("users", "/api/v1/users", user),
        Route("docs", "/catalogue/docs", catalogue, strip="/catalogue"),
        Route("openapi", "/catalogue/openapi.json", catalogue, subtree=False, strip="/catalogue"),
        Route("products", "/catalogue/api/products", catalogue, strip="/catalogue"),
        Route("docs", "/user/docs", user, strip="/user"),
        Route("openapi", "/user/openapi.json", user, subtree=False, strip="/user"),
        Route("users", "/user/api/v1/users", user, strip="/user"),
    ]
