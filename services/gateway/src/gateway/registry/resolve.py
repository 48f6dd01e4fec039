"""Which URL a service has, from memory: what the edge answers in its event loop, ahead of Flask."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import parse_qsl

import orjson
from pydantic import ValidationError

from chassis.errors import NotFound
from gateway.registry.route import Route
from gateway.registry.schemas import ResolveParameters
from gateway.registry.table import GroupKey, Table

PATH = "/api/v1/routes/resolve"
_MOST_REMEMBERED = 4096
_LONGEST_REMEMBERED = 512
"""Query strings, whose parsing costs more than the look-up: how many are remembered, and up to how many bytes."""


class Resolved(NamedTuple):
    """A ready answer."""

    status: int
    body: bytes


class Resolver:
    """Answers `GET /api/v1/routes/resolve`. To be used where the table is: on the event loop.

    Args:
        env: the environment of a query that names none.
    """

    def __init__(self, table: Table, *, env: str) -> None:
        self._table = table
        self._env = env
        self._wanted: dict[bytes, tuple[GroupKey, str | None]] = {}
        self._ready: dict[int, tuple[Route, Resolved]] = {}

    def answer(self, query: bytes) -> Resolved | None:
        """The answer to a query string; None if it is not well formed, which the Flask view then explains.

        Raises:
            NotFound: there is no such service, or no active version of it, or not this one.
        """
        wanted = self._wanted.get(query) or self._read(query)
        if wanted is None:
            return None
        key, version = wanted
        group = self._table.group(key)
        route = None if group is None else group.choose() if version is None else group.version(version)
        if route is None:
            raise NotFound("There is no active route to that")
        made = self._ready.get(route.id)
        if made is None or made[0] is not route:
            made = self._make(route)
        return made[1]

    def _read(self, query: bytes) -> tuple[GroupKey, str | None] | None:
        try:
            pairs = parse_qsl(query.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=4)
            if len(fields := dict(pairs)) != len(pairs):
                return None
            parameters = ResolveParameters.model_validate(fields)
        except (ValueError, ValidationError):
            return None
        wanted = (parameters.tenant, parameters.service, parameters.env or self._env), parameters.version
        if len(query) <= _LONGEST_REMEMBERED:
            if len(self._wanted) >= _MOST_REMEMBERED:
                self._wanted.clear()
            self._wanted[query] = wanted
        return wanted

    def _make(self, route: Route) -> tuple[Route, Resolved]:
        if len(self._ready) > 2 * len(self._table):  # routes that are gone leave theirs behind
            self._ready.clear()
        fields = ("url", "tenant", "service", "env", "version", "weight")
        body = orjson.dumps({field: getattr(route, field) for field in fields})
        made = self._ready[route.id] = (route, Resolved(200, body))
        return made
