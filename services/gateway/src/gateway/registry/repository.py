"""Routes, their history and outbox, and API keys in PostgreSQL: the only SQL of the gateway (schema in migrations/).

Every write locks the one row of `gateway_state` first, in the same round trip: writers queue, revisions have no gaps
and are committed in their order, so whoever has read up to a revision has everything that is older. A write is one
transaction, and one string sent: the route, its history row and its outbox row are there together or not at all.

Long for a module, because the statements share their parts: what a write is can be read in one place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg2.errors

from chassis.database import Database
from chassis.errors import Conflict, NotFound, PreconditionFailed
from gateway.registry.keys import ApiKey
from gateway.registry.route import Route
from gateway.registry.table import Change

BOOTSTRAP = "bootstrap"
"""The actor of the first start; no API key may have this name."""

MAX_ID = 2**63 - 1
PAGE = 1000
"""Rows that are read at once."""
_NAME = ("tenant", "service", "env", "version")


class Duplicate(Conflict):
    """There is a route of that name."""

    slug = "route-exists"

    def __init__(self) -> None:
        super().__init__("There is a route for this tenant, service, env and version already")


class NoSuchRoute(NotFound):
    """There is none."""

    def __init__(self) -> None:
        super().__init__("There is no such route")


class KeyTaken(Conflict):
    """There is, or was, a key of that name."""


class State(NamedTuple):
    """Which database it is, and the revision it is at."""

    epoch: str
    revision: int


class Snapshot(NamedTuple):
    """The whole registry at one revision."""

    epoch: str
    revision: int
    routes: list[Route]
    keys: list[ApiKey]


class Written(NamedTuple):
    """A route after a write, or as it was deleted; and what to tell others, None if there was nothing to change."""

    route: Route
    change: Change | None


class Page(NamedTuple):
    """Routes of one page, whether there are more behind them, and how many match in all."""

    routes: list[Route]
    more: bool
    total: int


class Event(NamedTuple):
    """One revision of a route; `before` and `after` are routes as JSON objects."""

    revision: int
    route_id: int
    action: str
    actor: str
    at: datetime
    before: dict[str, Any] | None
    after: dict[str, Any] | None


class KeyRow(NamedTuple):
    """An API key as an operator sees it."""

    name: str
    scopes: list[str]
    rate_limit: str | None
    created_at: datetime
    revoked_at: datetime | None


# --- SQL ----------------------------------------------------------------------------------------------------------

# A statement of its own, so that the one behind it in the same string sees what the last writer committed.
_LOCK = "SELECT 1 FROM gateway_state FOR UPDATE;"
_NEXT = "next AS MATERIALIZED (SELECT revision + 1 AS revision, clock_timestamp() AS at FROM gateway_state)"

_CREATE = """
before AS (SELECT * FROM routes WHERE false),
changed AS (
    INSERT INTO routes (tenant, service, env, version, url, active, weight, created_at, updated_at, revision)
    SELECT %(tenant)s, %(service)s, %(env)s, %(version)s, %(url)s, %(active)s, %(weight)s, at, at, revision FROM next
    RETURNING *
),
event AS (
    SELECT revision, id AS route_id, 'created' AS action, NULL::jsonb AS before, to_jsonb(changed) AS after
    FROM changed
)"""

_CHANGE = """
before AS MATERIALIZED (SELECT * FROM routes WHERE {which}),
changed AS (
    UPDATE routes SET
        url = coalesce(%(url)s, before.url), weight = coalesce(%(weight)s, before.weight),
        active = coalesce(%(active)s, before.active), updated_at = next.at, revision = next.revision
    FROM before, next
    WHERE routes.id = before.id
        AND (%(revisions)s::bigint[] IS NULL OR before.revision = ANY (%(revisions)s::bigint[]))
        AND (before.url, before.weight, before.active) <> (
            coalesce(%(url)s, before.url), coalesce(%(weight)s, before.weight), coalesce(%(active)s, before.active)
        )
    RETURNING routes.*
),
event AS (
    SELECT changed.revision, changed.id AS route_id,
        CASE WHEN (changed.url, changed.weight) <> (before.url, before.weight) THEN 'updated'
             WHEN changed.active THEN 'activated' ELSE 'deactivated' END AS action,
        to_jsonb(before) AS before, to_jsonb(changed) AS after
    FROM before, changed
)"""

_DELETE = """
before AS MATERIALIZED (SELECT * FROM routes WHERE {which}),
changed AS (
    DELETE FROM routes USING before
    WHERE routes.id = before.id
        AND (%(revisions)s::bigint[] IS NULL OR before.revision = ANY (%(revisions)s::bigint[]))
    RETURNING routes.id
),
event AS (
    SELECT next.revision, before.id AS route_id, 'deleted' AS action,
        to_jsonb(before) AS before, NULL::jsonb AS after
    FROM before, changed, next
)"""

_RECORD = """,
counted AS (UPDATE gateway_state SET revision = event.revision FROM event),
recorded AS (
    INSERT INTO routes_history (revision, route_id, action, actor, at, before, after)
    SELECT event.revision, route_id, action, %(actor)s, at, before, after FROM event, next
),
queued AS (
    INSERT INTO routes_outbox (revision, route_id, action, payload, created_at)
    SELECT event.revision, route_id, action, jsonb_build_object(
        'revision', event.revision, 'action', action, 'route', coalesce(after, before), 'actor', %(actor)s::text,
        'at', at
    ), at
    FROM event, next
)
SELECT (SELECT to_jsonb(before) FROM before), (SELECT after FROM event), (SELECT revision FROM event)
"""

_BY_ID = "id = %(id)s"
_BY_NAME = "(tenant, service, env, version) = (%(tenant)s, %(service)s, %(env)s, %(version)s)"
_COLUMNS = "id, tenant, service, env, version, url, active, weight, created_at, updated_at, revision"

_LIST = """
SELECT total.*, page.* FROM (SELECT count(*) FROM routes WHERE {filters}) AS total LEFT JOIN (
    SELECT {columns} FROM routes WHERE {filters} AND id > %(after)s ORDER BY id LIMIT %(limit)s
) AS page ON true ORDER BY page.id
"""

_KEY_COLUMNS = "id, name, digest, scopes, rate_limit, revoked_at IS NOT NULL, revision"

_ADD_KEY = f"""
written AS (
    INSERT INTO api_keys (name, digest, scopes, rate_limit, created_at, revision)
    SELECT %(name)s, %(digest)s, %(scopes)s, %(rate_limit)s, at, revision FROM next RETURNING *
),
counted AS (UPDATE gateway_state SET revision = written.revision FROM written)
SELECT {_KEY_COLUMNS} FROM written
"""  # noqa: S608

_REVOKE_KEY = f"""
written AS (
    UPDATE api_keys SET revoked_at = next.at, revision = next.revision
    FROM next WHERE name = %(name)s AND revoked_at IS NULL RETURNING api_keys.*
),
counted AS (UPDATE gateway_state SET revision = written.revision FROM written)
SELECT {_KEY_COLUMNS} FROM written
"""  # noqa: S608

# The route that the first start made under this name, if it did, and whether anybody else has had a hand in it since.
_HOUSE = """
SELECT made.route_id, EXISTS (SELECT FROM routes WHERE id = made.route_id), EXISTS (
    SELECT FROM routes_history WHERE route_id = made.route_id AND actor <> %(actor)s
)
FROM routes_history AS made
WHERE made.actor = 'bootstrap' AND made.action = 'created'
    AND made.after @> jsonb_build_object(
        'tenant', %(tenant)s::text, 'service', %(service)s::text, 'env', %(env)s::text, 'version', %(version)s::text
    )
ORDER BY made.revision DESC LIMIT 1
"""


def _writing(change: str, which: str = "") -> str:
    return f"{_LOCK} WITH {_NEXT}, {change.format(which=which)} {_RECORD}"


# --- the registry -------------------------------------------------------------------------------------------------


class Registry:
    """The registry's tables.

    Raises (all methods): chassis.errors.Unavailable (DatabaseUnavailable, PoolExhausted) or DeadlineExceeded when the
    database cannot answer; psycopg2.errors.UndefinedTable where the schema has not been made.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- what gateways follow ---

    def state(self) -> State:
        """The epoch and the last revision."""
        return State(*self._database.fetch("SELECT epoch::text, revision FROM gateway_state")[0])

    def changes_since(self, revision: int, limit: int = PAGE) -> list[Change]:
        """The first `limit` changes of routes after `revision`, in their order. Changes of keys also have revisions."""
        rows = self._database.fetch(
            "SELECT revision, route_id, after FROM routes_history WHERE revision > %s ORDER BY revision LIMIT %s",
            (revision, limit),
        )
        return [Change(row[0], row[1], None if row[2] is None else route_of(row[2])) for row in rows]

    def keys_since(self, revision: int) -> list[ApiKey]:
        """The keys that were added or revoked after `revision`, in the order of that, as they are now."""
        return [
            _key(row)
            for row in self._database.fetch(
                f"SELECT {_KEY_COLUMNS} FROM api_keys WHERE revision > %s ORDER BY revision",  # noqa: S608
                (revision,),
            )
        ]

    def snapshot(self) -> Snapshot:
        """Everything at one revision; keys that change meanwhile are newer than that.

        Read in pages, so that however many routes there are, no statement takes long, and no other thread waits for
        one row after another to be made into objects. The changes that came meanwhile bring the pages to one revision.
        """
        while True:
            began = self.state()
            routes: dict[int, Route] = {}
            while page := self._routes_after(next(reversed(routes), 0)):
                routes.update((route.id, route) for route in page)
            ended = self.state()
            if ended.epoch == began.epoch:
                break
        revision = began.revision
        while revision < ended.revision:
            changes = self.changes_since(revision)
            for change in changes:
                if change.revision > ended.revision:
                    break
                if change.route is None:
                    routes.pop(change.route_id, None)
                else:
                    routes[change.route_id] = change.route
            revision = changes[-1].revision if len(changes) == PAGE else ended.revision
        return Snapshot(ended.epoch, ended.revision, list(routes.values()), self.keys_since(-1))

    def _routes_after(self, route_id: int) -> list[Route]:
        rows = self._database.fetch(
            f"SELECT {_COLUMNS} FROM routes WHERE id > %s ORDER BY id LIMIT {PAGE}",  # noqa: S608
            (route_id,),
        )
        return [Route(*row) for row in rows]

    # --- reading routes ---

    def get(self, route_id: int) -> Route:
        """The route of that id. Raises NoSuchRoute."""
        rows = self._database.fetch(f"SELECT {_COLUMNS} FROM routes WHERE id = %s", (route_id,))  # noqa: S608
        if not rows:
            raise NoSuchRoute
        return Route(*rows[0])

    def page(self, *, after: int, limit: int, filters: Mapping[str, str | bool]) -> Page:
        """The first `limit` routes with an id greater than `after` that have these values in these columns."""
        conditions = " AND ".join(
            [f"{name} = %({name})s" for name in (*_NAME, "active") if name in filters] or ["true"]
        )
        sql = _LIST.format(filters=conditions, columns=_COLUMNS)
        found = self._database.fetch(sql, {**filters, "after": after, "limit": limit + 1})
        routes = [Route(*row[1:]) for row in found if row[1] is not None]
        return Page(routes[:limit], len(routes) > limit, found[0][0])

    def history(self, route_id: int, *, before: int, limit: int) -> tuple[list[Event], bool]:
        """The last `limit` events of a route with a revision below `before`, newest first; and whether there are more.

        Raises:
            NoSuchRoute: there never was a route of that id.
        """
        rows = self._database.fetch(
            "SELECT revision, route_id, action, actor, at, before, after FROM routes_history "
            "WHERE route_id = %s AND revision < %s ORDER BY revision DESC LIMIT %s",
            (route_id, before, limit + 1),
        )
        if not rows and not self._database.fetch(
            "SELECT 1 FROM routes_history WHERE route_id = %s LIMIT 1", (route_id,)
        ):
            raise NoSuchRoute
        return [Event(*row) for row in rows[:limit]], len(rows) > limit

    # --- writing routes ---

    def create(self, fields: Mapping[str, Any], *, actor: str) -> Written:
        """Add a route; `fields` are tenant, service, env, version, url, active, weight. Raises Duplicate."""
        try:
            return _written(self._database.execute(_writing(_CREATE), {**fields, "actor": actor})[0])
        except psycopg2.errors.UniqueViolation:
            raise Duplicate from None

    def update(
        self, route_id: int, changes: Mapping[str, Any], *, actor: str, revisions: Sequence[int] | None = None
    ) -> Written:
        """Set `url`, `weight` or `active` of a route, those that `changes` has.

        Args:
            revisions: do it only if the route is at one of these; None: whatever it is at.

        Raises:
            NoSuchRoute, PreconditionFailed
        """
        return self._change(_CHANGE, _BY_ID, {"id": route_id}, changes, actor=actor, revisions=revisions)

    def switch(self, name: Mapping[str, str], active: bool, *, actor: str) -> Written:
        """Activate or deactivate the route of that tenant, service, env and version. Raises NoSuchRoute."""
        return self._change(_CHANGE, _BY_NAME, name, {"active": active}, actor=actor, revisions=None)

    def delete(self, route_id: int, *, actor: str, revisions: Sequence[int] | None = None) -> Written:
        """Remove a route; its history stays. `revisions` as in `update`. Raises NoSuchRoute, PreconditionFailed."""
        return self._change(_DELETE, _BY_ID, {"id": route_id}, {}, actor=actor, revisions=revisions)

    def _change(
        self,
        change: str,
        which: str,
        key: Mapping[str, Any],
        changes: Mapping[str, Any],
        *,
        actor: str,
        revisions: Sequence[int] | None,
    ) -> Written:
        parameters = _parameters(key, changes, actor=actor, revisions=revisions)
        before, after, revision = self._database.execute(_writing(change, which), parameters)[0]
        if before is None:
            raise NoSuchRoute
        if revision is None and revisions is not None and before["revision"] not in revisions:
            raise PreconditionFailed("route")
        return _written((before, after, revision))

    # --- API keys ---

    def add_key(self, *, name: str, digest: bytes, scopes: Iterable[str], limit: str | None) -> ApiKey:
        """Store a key. Raises KeyTaken."""
        parameters = {"name": name, "digest": digest, "scopes": list(scopes), "rate_limit": limit}
        try:
            return _key(self._database.execute(f"{_LOCK} WITH {_NEXT}, {_ADD_KEY}", parameters)[0])
        except psycopg2.errors.UniqueViolation:
            raise KeyTaken(
                f"There is a key named {name} already, or there was: its name stays in the history"
            ) from None

    def list_keys(self) -> list[KeyRow]:
        """All keys by name, revoked ones included."""
        rows = self._database.fetch(
            "SELECT name, scopes, rate_limit, created_at, revoked_at FROM api_keys ORDER BY name"
        )
        return [KeyRow(*row) for row in rows]

    def revoke_key(self, name: str) -> ApiKey | None:
        """Revoke a key and return it; None if no key of that name holds."""
        rows = self._database.execute(f"{_LOCK} WITH {_NEXT}, {_REVOKE_KEY}", {"name": name})
        return _key(rows[0]) if rows else None

    # --- the first start ---

    def bootstrap(self, routes: Iterable[Route]) -> list[Written]:
        """Make these routes where there are none, and let those that only `bootstrap` ever touched follow them.

        What an operator made, changed or deleted is left alone. Returns what was written.
        """

        def work(cursor: Any) -> list[Written]:
            cursor.execute(_LOCK)
            return [written for route in routes if (written := _settle(cursor, route)) and written.change]

        return self._database.transact(work)


def _settle(cursor: Any, route: Route) -> Written | None:
    """One route of `bootstrap`."""
    name = {field: getattr(route, field) for field in _NAME}
    values = {"url": route.url, "weight": route.weight, "active": route.active}
    cursor.execute(_HOUSE, {**name, "actor": BOOTSTRAP})
    house = cursor.fetchone()
    if house is None:
        cursor.execute(f"SELECT 1 FROM routes WHERE {_BY_NAME}", name)  # noqa: S608
        if cursor.fetchone():
            return None
        cursor.execute(_writing(_CREATE), {**name, **values, "actor": BOOTSTRAP})
    else:
        route_id, there, touched = house
        if not there or touched:
            return None
        parameters = _parameters({"id": route_id}, values, actor=BOOTSTRAP, revisions=None)
        cursor.execute(_writing(_CHANGE, _BY_ID), parameters)
    return _written(cursor.fetchone())


def _parameters(
    key: Mapping[str, Any], changes: Mapping[str, Any], *, actor: str, revisions: Sequence[int] | None
) -> dict[str, Any]:
    usable = None if revisions is None else [revision for revision in revisions if revision <= MAX_ID]
    return {"url": None, "weight": None, "active": None, **changes, **key, "actor": actor, "revisions": usable}


def _written(row: tuple[Any, ...]) -> Written:
    before, after, revision = row
    route = route_of(after or before)
    return Written(route, None if revision is None else Change(revision, route.id, route if after else None))


def _key(row: tuple[Any, ...]) -> ApiKey:
    number, name, digest, scopes, limit, revoked, revision = row
    return ApiKey(number, name, bytes(digest), frozenset(scopes), limit, revoked, revision)


def route_of(stored: Mapping[str, Any]) -> Route:
    """A route from the JSON object that history, outbox and API have of it."""
    times = {name: datetime.fromisoformat(stored[name]) for name in ("created_at", "updated_at")}
    return Route(**{**stored, **times})
