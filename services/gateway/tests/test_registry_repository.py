"""The registry's tables: revisions, history and outbox of every write, and what gateways follow."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import psycopg2
import pytest

from chassis.database import Database
from chassis.errors import PreconditionFailed
from chassis.metrics import Metrics
from chassis.servers import PostgresServer
from chassis.settings import DatabaseSettings, parse_database_url
from gateway.registry.keys import digest
from gateway.registry.repository import MAX_ID, Duplicate, KeyTaken, NoSuchRoute, Registry
from gateway.registry.route import Route
from gateway.registry.table import Change

Sql = Callable[..., list[tuple[Any, ...]]]
SHOP = {"tenant": "acme", "service": "shop", "env": "prod", "version": "v1"}
FIELDS: dict[str, Any] = {**SHOP, "url": "http://127.0.0.1:9000", "active": True, "weight": 100}


@pytest.fixture(scope="session")
def database_template(registry_template: str) -> str:
    """`database_url` is a copy of it."""
    return registry_template


@pytest.fixture
def registry(database_url: str) -> Iterator[Registry]:
    """The registry on an empty database."""
    database = Database(
        DatabaseSettings(**parse_database_url(database_url)),
        application="test",
        metrics=Metrics(service="gateway", version="1", commit="c"),
    )
    yield Registry(database)
    database.close()


@pytest.fixture
def sql(database_url: str) -> Sql:
    """`sql(statement, *parameters)` runs a statement in the test's database and returns its rows."""

    def run(statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
            connection.autocommit = True
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []

    return run


def house(service: str, url: str) -> Route:
    """A route as the settings make it."""
    now = datetime.now(UTC)
    return Route(0, "storefront", service, "prod", "v1", url, True, 100, now, now)


def test_each_write_leaves_one_revision_in_route_history_and_outbox(registry: Registry, sql: Sql) -> None:
    """Five kinds of change, five revisions without a gap, each with the state before and after, actor and event."""
    route = registry.create(FIELDS, actor="ann").route
    registry.switch(SHOP, False, actor="bob")
    registry.switch(SHOP, True, actor="bob")
    last = registry.update(route.id, {"weight": 5, "active": False}, actor="ann").route
    registry.delete(route.id, actor="eve")
    events, more = registry.history(route.id, before=MAX_ID, limit=10)
    assert not more
    assert [(event.revision, event.action, event.actor) for event in reversed(events)] == [
        (1, "created", "ann"),
        (2, "deactivated", "bob"),
        (3, "activated", "bob"),
        (4, "updated", "ann"),
        (5, "deleted", "eve"),
    ]
    assert [older.after for older in events[1:]] == [newer.before for newer in events[:-1]]
    assert events[0].after is None
    assert events[-1].before is None
    assert last.revision == 4
    assert (last.weight, last.active) == (5, False)
    assert last.created_at == route.created_at < last.updated_at
    outbox = sql("SELECT revision, action, payload FROM routes_outbox ORDER BY revision")
    assert [(revision, action) for revision, action, _ in outbox] == [(e.revision, e.action) for e in reversed(events)]
    payload = outbox[4][2]
    assert payload.keys() == {"revision", "action", "route", "actor", "at"}
    assert (payload["revision"], payload["actor"], payload["route"]["weight"]) == (5, "eve", 5)
    assert registry.state().revision == 5


def test_what_changes_nothing_has_no_revision(registry: Registry) -> None:
    """Activating what is active, setting what is set: the route as it is, no revision, no history."""
    route = registry.create(FIELDS, actor="ann").route
    assert registry.switch(SHOP, True, actor="bob") == (route, None)
    assert registry.update(route.id, {"url": route.url, "weight": 100}, actor="bob") == (route, None)
    assert registry.state().revision == 1
    assert len(registry.history(route.id, before=MAX_ID, limit=10)[0]) == 1


def test_a_refused_write_leaves_nothing(registry: Registry, sql: Sql) -> None:
    """Duplicates, unknown routes, routes that moved on: no revision, no row anywhere."""
    route = registry.create(FIELDS, actor="ann").route
    with pytest.raises(Duplicate):
        registry.create({**FIELDS, "url": "http://127.0.0.1:1"}, actor="ann")
    with pytest.raises(NoSuchRoute):
        registry.update(99, {"weight": 1}, actor="ann")
    with pytest.raises(NoSuchRoute):
        registry.switch({**SHOP, "version": "v2"}, True, actor="ann")
    with pytest.raises(NoSuchRoute):
        registry.delete(99, actor="ann")
    with pytest.raises(PreconditionFailed):
        registry.update(route.id, {"weight": 1}, actor="ann", revisions=[7, 2**80])
    with pytest.raises(PreconditionFailed):
        registry.update(route.id, {"weight": 100}, actor="ann", revisions=[7])
    with pytest.raises(PreconditionFailed):
        registry.delete(route.id, actor="ann", revisions=[])
    assert registry.get(route.id) == route
    assert registry.state().revision == 1
    assert sql("SELECT count(*) FROM routes_history UNION ALL SELECT count(*) FROM routes_outbox") == [(1,), (1,)]
    assert registry.update(route.id, {"weight": 1}, actor="ann", revisions=[7, 1]).route.revision == 2


def test_writers_at_once_get_revisions_without_gaps(registry: Registry, sql: Sql) -> None:
    """Eight threads on one route: every change counts, and each begins where the last one ended."""
    route = registry.create(FIELDS, actor="ann").route
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda weight: registry.update(route.id, {"weight": weight}, actor="ann"), range(200, 240)))
    rows = sql("SELECT revision, before, after FROM routes_history ORDER BY revision")
    assert [row[0] for row in rows] == list(range(1, 42))
    assert all(newer[1] == older[2] for older, newer in pairwise(rows))
    assert registry.state().revision == 41


def test_changes_and_keys_since_a_revision_lead_to_the_snapshot(registry: Registry) -> None:
    """Routes and keys share the revisions; following them gives what a snapshot has."""
    first = registry.create(FIELDS, actor="ann").route
    second = registry.create({**FIELDS, "version": "v2"}, actor="ann").route
    assert registry.add_key(name="ci", digest=digest("sf_ci"), scopes=["routes:read"], limit="600/min").revision == 3
    assert registry.delete(first.id, actor="ann") == (first, Change(4, first.id, None))
    revoked = registry.revoke_key("ci")
    assert registry.revoke_key("ci") is None
    assert registry.changes_since(0, 2) == [Change(1, first.id, first), Change(2, second.id, second)]
    assert registry.changes_since(2) == [Change(4, first.id, None)]
    snapshot = registry.snapshot()
    assert (snapshot.epoch, snapshot.revision) == registry.state()
    assert snapshot.routes == [second]
    assert snapshot.keys == registry.keys_since(4) == [revoked]
    key = snapshot.keys[0]
    assert (key.name, key.digest, key.scopes) == ("ci", digest("sf_ci"), frozenset({"routes:read"}))
    assert (key.limit, key.revoked, key.revision) == ("600/min", True, 5)
    assert registry.keys_since(5) == []


def test_a_name_of_a_key_is_given_once(registry: Registry) -> None:
    """Also after it was revoked: the history names actors by it."""
    registry.add_key(name="ci", digest=digest("sf_1"), scopes=["admin"], limit=None)
    registry.revoke_key("ci")
    with pytest.raises(KeyTaken):
        registry.add_key(name="ci", digest=digest("sf_2"), scopes=["admin"], limit=None)
    assert [(row.name, row.scopes, row.revoked_at is None) for row in registry.list_keys()] == [
        ("ci", ["admin"], False)
    ]
    assert registry.state().revision == 2


def test_pages_of_routes_follow_each_other(registry: Registry) -> None:
    """By id, filtered, with the number of all that match."""
    for version in "abcde":
        registry.create({**FIELDS, "version": version, "active": version != "c"}, actor="ann")
    registry.create({**FIELDS, "tenant": "zeta"}, actor="ann")
    page = registry.page(after=0, limit=2, filters={"tenant": "acme", "active": True})
    assert ([route.version for route in page.routes], page.more, page.total) == (["a", "b"], True, 4)
    page = registry.page(after=page.routes[-1].id, limit=2, filters={"tenant": "acme", "active": True})
    assert ([route.version for route in page.routes], page.more, page.total) == (["d", "e"], False, 4)
    assert registry.page(after=MAX_ID, limit=2, filters={}) == ([], False, 6)


def test_bootstrap_follows_the_settings_until_somebody_else_has_a_say(registry: Registry) -> None:
    """Made once; repointed while nobody touched it; left alone once it was changed, deleted, or was there before."""
    catalogue, user, links = (house(name, "http://127.0.0.1:1") for name in ("catalogue", "user", "links"))
    registry.create({**FIELDS, "tenant": "storefront", "service": "links"}, actor="ann")
    assert [written.route.service for written in registry.bootstrap([catalogue, user, links])] == ["catalogue", "user"]
    assert registry.bootstrap([catalogue, user, links]) == []
    moved = [house(name, "http://127.0.0.1:2") for name in ("catalogue", "user", "links")]
    assert {written.route.url for written in registry.bootstrap(moved)} == {"http://127.0.0.1:2"}
    ids = {route.service: route.id for route in registry.snapshot().routes}
    registry.update(ids["catalogue"], {"weight": 1}, actor="ann")
    registry.delete(ids["user"], actor="ann")
    assert registry.bootstrap([catalogue, user, links]) == []
    assert {route.service for route in registry.snapshot().routes} == {"catalogue", "links"}


def test_without_a_schema_it_says_so(postgres_server: PostgresServer) -> None:
    """UndefinedTable, which starts and feeds tell from a database that is away."""
    url = postgres_server.create_database("gateway_bare")
    database = Database(
        DatabaseSettings(**parse_database_url(url)),
        application="test",
        metrics=Metrics(service="gateway", version="1", commit="c"),
    )
    try:
        with pytest.raises(psycopg2.errors.UndefinedTable):
            Registry(database).state()
        with pytest.raises(psycopg2.errors.UndefinedTable):
            Registry(database).snapshot()
    finally:
        database.close()
        postgres_server.drop_database("gateway_bare")
