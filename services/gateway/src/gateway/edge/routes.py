"""Which service of which tenant a request is for: by the prefixes of the storefront itself, or by `/t/…` for any."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from chassis.errors import NotFound, Unavailable
from gateway.edge.request import Request
from gateway.edge.target import Target
from gateway.registry.house import TENANT as HOUSE
from gateway.registry.table import Table

NOWHERE = "There is nothing at this address"
_NAME = re.compile(rb"[a-z0-9-]{1,63}")


@dataclass(frozen=True, slots=True)
class Prefix:
    """A path of the storefront's own, and the service behind it.

    Attributes:
        name: the `endpoint` label in metrics and `route` in logs; says who may use it (`edge.access`).
        path: the path, and with `subtree` every path below it, by whole segments.
        strip: taken off the front of the path before it goes to the service.
    """

    name: str
    path: str
    service: str
    subtree: bool = True
    strip: str = ""


PREFIXES = (
    Prefix("home", "/", "catalogue", subtree=False),
    Prefix("products", "/api/products", "catalogue"),
    Prefix("static", "/static", "catalogue"),
    Prefix("users", "/api/v1/users", "user"),
    Prefix("links_page", "/links", "links"),
    Prefix("links", "/api/v1/links", "links"),
    Prefix("redirect", "/s", "links"),
    Prefix("qr", "/qr", "links"),
    # Each service's documents. Its pages refer to its operations relative to themselves, so these answer below the
    # service's name as well. Its health and metrics do not: they are nobody's business outside.
    Prefix("docs", "/catalogue/docs", "catalogue", strip="/catalogue"),
    Prefix("openapi", "/catalogue/openapi.json", "catalogue", subtree=False, strip="/catalogue"),
    Prefix("products", "/catalogue/api/products", "catalogue", strip="/catalogue"),
    Prefix("docs", "/user/docs", "user", strip="/user"),
    Prefix("openapi", "/user/openapi.json", "user", subtree=False, strip="/user"),
    Prefix("users", "/user/api/v1/users", "user", strip="/user"),
    Prefix("docs", "/links/docs", "links", strip="/links"),
    Prefix("openapi", "/links/openapi.json", "links", subtree=False, strip="/links"),
    Prefix("links", "/links/api/v1/links", "links", strip="/links"),
    Prefix("redirect", "/links/s", "links", strip="/links"),
    Prefix("qr", "/links/qr", "links", strip="/links"),
)
"""CONTRACT section 5, and each service's API documents."""

TENANTS = "/t/"
TENANT = "tenant"
"""The `endpoint` of every path below `/t/<tenant>/<service>`."""


class Prefixes:
    """Finds the longest prefix in a number of look-ups that depends on the prefixes, not on the path."""

    def __init__(self, prefixes: Iterable[Prefix]) -> None:
        self._exact: dict[str, Prefix] = {}
        self._subtrees: dict[str, Prefix] = {}
        for prefix in prefixes:
            self._exact[prefix.path] = prefix
            if prefix.subtree:
                self._subtrees[prefix.path] = prefix
        self._depth = max((path.count("/") for path in self._subtrees), default=0)

    def find(self, path: str) -> Prefix | None:
        """The prefix of a decoded path that begins with a slash, None if there is none."""
        prefix = self._exact.get(path)
        if prefix is not None:
            return prefix
        segments = path.split("/", self._depth + 1)
        for count in range(min(len(segments), self._depth + 1), 1, -1):
            prefix = self._subtrees.get("/".join(segments[:count]))
            if prefix is not None:
                return prefix
        return None


class Place(NamedTuple):
    """Whom a request is for.

    Attributes:
        name: the `endpoint` label.
        path, raw_path: as the service will see them, decoded and as written.
    """

    name: str
    tenant: str
    service: str
    env: str
    path: str
    raw_path: bytes


class Router:
    """Finds a request's target in the table of routes.

    Args:
        env: the environment whose routes are taken; below `/t/` a request may name another by `X-Route-Env`.
    """

    def __init__(self, table: Table, *, env: str) -> None:
        self._table = table
        self._env = env
        self._prefixes = Prefixes(PREFIXES)

    def place(self, request: Request) -> Place:
        """Whom the request is for, whether or not there is such a service.

        Raises:
            NotFound: its path belongs to nobody.
        """
        path, raw_path = request.path, request.raw_path
        prefix = self._prefixes.find(path)
        if prefix is None:
            if path.startswith(TENANTS):
                return self._tenant(request)
            raise NotFound(NOWHERE)
        if prefix.strip:
            strip = prefix.strip.encode()
            if not raw_path.startswith(strip):  # written with escapes
                raise NotFound(NOWHERE)
            path, raw_path = path[len(strip) :], raw_path[len(strip) :]
        return Place(prefix.name, HOUSE, prefix.service, self._env, path, raw_path)

    def _tenant(self, request: Request) -> Place:
        parts = request.raw_path.split(b"/", 4)
        if len(parts) < 4 or parts[1] != b"t" or not _NAME.fullmatch(parts[2]) or not _NAME.fullmatch(parts[3]):
            raise NotFound(NOWHERE)
        tenant, service = parts[2].decode(), parts[3].decode()
        length = len(TENANTS) + len(tenant) + 1 + len(service)  # the same in both, as names have no escapes
        env = request.text(b"x-route-env") or self._env
        return Place(TENANT, tenant, service, env, request.path[length:] or "/", request.raw_path[length:] or b"/")

    def target(self, request: Request, place: Place) -> Target:
        """Where the request may be answered.

        Raises:
            NotFound: the registry knows no such tenant, service or version.
            Unavailable: it does, but no version takes requests now.
        """
        group = self._table.group((place.tenant, place.service, place.env))
        if group is None:
            raise NotFound(NOWHERE)
        headers = request.headers
        version = headers.get(b"x-route-version")
        pinned = None
        if version is not None:
            pinned = group.version(version.decode("latin-1"))
            if pinned is None:
                raise NotFound("This service has no such active version")
        elif not group.live:
            raise Unavailable("No version of this service takes requests now")
        return Target(
            endpoint=place.name, group=group, path=place.raw_path, query=request.query, pinned=pinned,
            key=headers.get(b"x-route-key"),
        )  # fmt: skip
