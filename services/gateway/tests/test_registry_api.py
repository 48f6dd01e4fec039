"""The registry's API in process: routes made, found, changed, switched, deleted, and what is said of bad input.

Keys, scopes and rate limits are the edge's, in front of it, and so are request ids: a stand-in gives these here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient

from chassis.database import Database, install_wait_callback
from chassis.http import Observe
from chassis.metrics import Metrics
from chassis.servers import PostgresServer
from chassis.settings import load
from chassis.testing import free_port
from chassis.testing.contract import Case, StatusRecorder
from chassis.testing.databases import migrate
from gateway.policy import UpstreamPolicy
from gateway.registry import create_app
from gateway.registry.endpoints import ACTOR
from gateway.registry.repository import Registry
from gateway.registry.resolve import Resolver
from gateway.registry.route import Route
from gateway.registry.table import Change, Table
from gateway.settings import Settings

ROUTES = "/api/v1/routes"
NAME = {"tenant": "acme", "service": "shop", "env": "prod", "version": "v1"}
SHOP = {**NAME, "url": "http://127.0.0.1:9000"}
IN_A_HURRY = {"X-Request-Timeout-Ms": "0"}
NOT_ITS_STATE = {"If-Match": '"1-99"'}
TOO_LARGE = b'{"tenant":"' + b"a" * 70_000
EDGE = (400, 401, 403, 429)
"""Statuses of the edge in front, which its own tests prove."""


class Api:
    """The registry's application, a table that follows it at once, and what it announced."""

    def __init__(self, settings: Settings) -> None:
        self.metrics = Metrics(service="gateway", version="1", commit="c")
        self.database = (
            Database(settings.db, application="test", metrics=self.metrics) if settings.has_database else None
        )
        self.table = Table()
        self.announced: list[Change] = []
        self.app: Flask = create_app(
            settings,
            resolver=Resolver(self.table, env=settings.gateway_env),
            registry=Registry(self.database) if self.database else None,
            feed_announce=self._announce,
            policy=UpstreamPolicy(settings),
            metrics=self.metrics,
        )
        inner = self.app.wsgi_app
        outer = Observe(inner, metrics=self.metrics, timeout_ms=5000)
        self.app.wsgi_app = outer  # type: ignore[method-assign]
        self.client: FlaskClient = self.app.test_client()
        self.client.environ_base[ACTOR] = "ann"

    def _announce(self, changes: Sequence[Change]) -> None:
        self.announced += changes
        self.table.apply(changes)

    def forget(self) -> None:
        """An empty registry again, at revision 0; the next route's id is 1."""
        assert self.database is not None
        self.database.execute(
            "DELETE FROM routes; DELETE FROM routes_history; DELETE FROM routes_outbox;"
            "ALTER TABLE routes ALTER COLUMN id RESTART; UPDATE gateway_state SET revision = 0"
        )
        self.table.replace((), epoch="", revision=0)
        self.announced.clear()


@contextmanager
def built(**env: str) -> Iterator[Api]:
    """The API with these variables."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("DATABASE_URL", "DB_HOST", "DB_PORT"):
            patch.delenv(name, raising=False)
        for name, value in env.items():
            patch.setenv(name, value)
        api = Api(load(Settings))
    yield api
    if api.database is not None:
        api.database.close()


@pytest.fixture(autouse=True)
def _bounded() -> Iterator[None]:
    """psycopg2 waits as it does in a worker, until the test is over."""
    install_wait_callback()
    yield
    psycopg2.extensions.set_wait_callback(None)


@pytest.fixture(scope="session")
def shared_url(postgres_server: PostgresServer) -> str:
    """A database with the schema, for all tests of this process."""
    url = postgres_server.create_database("gateway_api")
    migrate("gateway", url)
    return url


@pytest.fixture(scope="session")
def shared_api(shared_url: str) -> Iterator[Api]:
    """The API on it, likewise."""
    with built(DATABASE_URL=shared_url) as api:
        yield api


@pytest.fixture
def api(shared_api: Api) -> Api:
    """The API on an empty registry."""
    shared_api.forget()
    return shared_api


@pytest.fixture(scope="session")
def lost_api() -> Iterator[Api]:
    """An API whose database is not there, for all tests of this process: its breaker is open after the first."""
    with built(DB_HOST="127.0.0.1", DB_PORT=str(free_port())) as api:
        yield api


@pytest.fixture
def client(api: Api) -> FlaskClient:
    """A client of it, whose key is called ann."""
    return api.client


# --- what it does -------------------------------------------------------------------------------------------------


def test_a_route_is_made_found_and_resolved(client: FlaskClient) -> None:
    """201 with its address and validator, active with weight 100 unless told otherwise, and at once it resolves."""
    made = client.post(ROUTES, json=SHOP)
    route = made.get_json()
    assert made.status_code == 201
    assert made.headers["Location"] == f"{ROUTES}/{route['id']}"
    assert (route["active"], route["weight"], route["revision"]) == (True, 100, 1)
    assert route["created_at"] == route["updated_at"]
    assert datetime.fromisoformat(route["created_at"]).utcoffset() == UTC.utcoffset(None)
    found = client.get(made.headers["Location"])
    assert (found.get_json(), found.headers["ETag"]) == (route, made.headers["ETag"])
    resolved = client.get(f"{ROUTES}/resolve", query_string=NAME)
    assert resolved.get_json() == {**SHOP, "weight": 100}
    assert resolved.headers["Cache-Control"] == "no-store"


def test_resolving_takes_versions_by_weight_and_only_active_ones(client: FlaskClient) -> None:
    """Nine to one over many calls; a pinned version whatever its weight; nothing for one that is switched off."""
    for version, weight in (("v1", 90), ("v2", 10), ("v3", 0)):
        client.post(ROUTES, json={**SHOP, "version": version, "weight": weight})
    where = f"{ROUTES}/resolve?tenant=acme&service=shop"
    versions = [client.get(where).get_json()["version"] for _ in range(200)]
    assert 17 <= versions.count("v2") <= 23
    assert "v3" not in versions
    assert client.get(f"{where}&version=v3").get_json()["version"] == "v3"
    client.post(f"{ROUTES}/deactivate", json={**NAME, "version": "v1"})
    assert client.get(where).get_json()["version"] == "v2"
    for gone in (
        f"{where}&version=v1",
        f"{where}&version=v9",
        f"{where}&env=dev",
        f"{ROUTES}/resolve?tenant=x&service=y",
    ):
        answer = client.get(gone)
        assert (answer.status_code, answer.mimetype) == (404, "application/problem+json")


def test_switching_is_idempotent(api: Api) -> None:
    """On and off; a second time is 200 with the same state, and tells nobody anything."""
    made = api.client.post(ROUTES, json=SHOP).get_json()
    off = api.client.post(f"{ROUTES}/deactivate", json=NAME)
    assert (off.status_code, off.get_json()["active"], off.get_json()["revision"]) == (200, False, 2)
    assert api.client.post(f"{ROUTES}/deactivate", json=NAME).get_json() == off.get_json()
    assert api.client.post(f"{ROUTES}/activate", json=NAME).get_json()["active"] is True
    assert [change.revision for change in api.announced] == [1, 2, 3]
    assert next(iter(api.table)).revision == 3
    assert made["id"] == api.announced[-1].route_id


def test_a_change_is_guarded_by_the_state_it_is_meant_for(client: FlaskClient) -> None:
    """ETag, If-Match, 412; If-None-Match, 304; without a condition the last one wins."""
    made = client.post(ROUTES, json=SHOP)
    at, first = made.headers["Location"], made.headers["ETag"]
    changed = client.patch(at, json={"weight": 5}, headers={"If-Match": first})
    assert (changed.status_code, changed.get_json()["weight"]) == (200, 5)
    assert client.patch(at, json={"weight": 6}, headers={"If-Match": first}).status_code == 412
    assert client.delete(at, headers={"If-Match": first}).status_code == 412
    assert client.get(at, headers={"If-None-Match": changed.headers["ETag"]}).status_code == 304
    assert client.get(at, headers={"If-None-Match": first}).status_code == 200
    assert client.patch(at, json={"url": "http://127.0.0.1:1/"}).get_json()["url"] == "http://127.0.0.1:1"
    assert client.delete(at, headers={"If-Match": "*"}).status_code == 204
    assert client.get(at).status_code == 404


def test_of_changes_at_once_with_one_condition_one_wins(api: Api) -> None:
    """No update is lost: the others are 412."""
    made = api.client.post(ROUTES, json=SHOP)

    def change(weight: int) -> int:
        client = api.app.test_client()
        headers = {"If-Match": made.headers["ETag"]}
        answer = client.patch(
            made.headers["Location"], json={"weight": weight}, headers=headers, environ_overrides={ACTOR: "bob"}
        )
        return answer.status_code

    with ThreadPoolExecutor(6) as threads:
        assert sorted(threads.map(change, range(6))) == [200, 412, 412, 412, 412, 412]


def test_the_history_says_who_did_what(client: FlaskClient) -> None:
    """Newest first, a page at a time, also when the route is gone."""
    at = client.post(ROUTES, json=SHOP).headers["Location"]
    client.patch(at, json={"weight": 5}, environ_overrides={ACTOR: "bob"})
    client.post(f"{ROUTES}/deactivate", json=NAME)
    client.delete(at)
    page = client.get(f"{at}/history?per_page=3")
    events = page.get_json()["events"]
    assert [(event["action"], event["actor"]) for event in events] == [
        ("deleted", "ann"), ("deactivated", "ann"), ("updated", "bob"),
    ]  # fmt: skip
    assert (events[2]["before"]["weight"], events[2]["after"]["weight"], events[0]["after"]) == (100, 5, None)
    following = re.search('<([^>]*)>; rel="next"', page.headers["Link"])
    assert following is not None
    rest = client.get(following[1])
    assert [event["action"] for event in rest.get_json()["events"]] == ["created"]
    assert 'rel="next"' not in rest.headers["Link"]


def test_walking_through_all_routes_meets_each_once(client: FlaskClient) -> None:
    """By `next`, with filters kept, while routes that were passed are deleted."""
    for number in range(7):
        client.post(ROUTES, json={**SHOP, "version": f"v{number}", "active": number != 3})
    client.post(ROUTES, json={**SHOP, "tenant": "zeta"})
    at: str | None = f"{ROUTES}?per_page=2&tenant=acme&service=shop&env=prod&active=true"
    seen: list[str] = []
    while at is not None:
        page = client.get(at)
        assert page.get_json()["total"] == 6 - len(seen)
        routes = page.get_json()["routes"]
        seen += [route["version"] for route in routes]
        for route in routes:
            client.delete(f"{ROUTES}/{route['id']}")
        following = re.search('<([^>]*)>; rel="next"', page.headers["Link"])
        at = following[1] if following else None
    assert seen == ["v0", "v1", "v2", "v4", "v5", "v6"]
    assert client.get(f"{ROUTES}?per_page=1000").get_json()["per_page"] == 100


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("tenant", "Acme"), ("tenant", "a" * 64), ("service", ""), ("env", "a b"), ("env", None), ("version", "v/1"),
        ("version", "é"), ("weight", -1), ("weight", 1001), ("weight", 1.5), ("weight", "5"), ("weight", True),
        ("weight", None), ("active", "yes"), ("active", 1), ("url", "ftp://127.0.0.1"), ("url", "not a url"),
        ("url", "http://169.254.169.254"), ("url", "http://user:pw@127.0.0.1"), ("url", "http://elsewhere.example"),
        ("url", "http://127.0.0.1/\x00"), ("url", "http://127.0.0.1/" + "a" * 2048), ("url", ""), ("colour", "red"),
    ],
)  # fmt: skip
def test_bad_input_is_422_and_names_the_field(client: FlaskClient, field: str, value: Any) -> None:
    """On create, and where the field can be changed, on change; nothing is written."""
    answer = client.post(ROUTES, json={**SHOP, field: value})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.get_json()["errors"]] == [field]
    assert answer.get_json()["detail"].startswith(f"{field}: ")
    if field in ("url", "weight", "active"):
        at = client.post(ROUTES, json=SHOP).headers["Location"]
        changed = client.patch(at, json={field: value})
        assert (changed.status_code, changed.get_json()["errors"][0]["field"]) == (422, field)
        assert client.get(at).get_json()["revision"] == 1


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [
        ("tenant=acme", 422, "service"), ("service=shop", 422, "tenant"), ("", 422, "tenant"),
        ("tenant=acme&service=shop&version=", 422, "version"), ("tenant=acme&service=shop&colour=red", 422, "colour"),
        ("tenant=acme&tenant=acme&service=shop", 400, "tenant"), ("tenant=%FF&service=shop", 400, None),
    ],
)  # fmt: skip
def test_a_bad_query_names_the_field(client: FlaskClient, query: str, status: int, field: str | None) -> None:
    """What can be read and is wrong is 422; what cannot be read is 400."""
    answer = client.get(f"{ROUTES}/resolve?{query}")
    assert answer.status_code == status
    assert [error["field"] for error in answer.get_json().get("errors", [])][:1] == ([field] if field else [])


@pytest.mark.parametrize("query", ["per_page=0", "per_page=x", "after=-1", "after=99999999999999999999", "active=1"])
def test_a_bad_page_is_422(client: FlaskClient, query: str) -> None:
    """Zero, negative, not a number, beyond every id."""
    assert client.get(f"{ROUTES}?{query}").status_code == 422


def test_routes_that_cannot_be_are_404(client: FlaskClient) -> None:
    """Whatever is no id is the id of no route."""
    for number in ("0", "-1", "01", "x", "9999999999999999999", "99999999999999999999", "resolve ", "%00", "1/"):
        assert client.patch(f"{ROUTES}/{number}", json={"weight": 1}).status_code == 404
    for verb in ("resolve", "activate", "deactivate"):
        assert client.patch(f"{ROUTES}/{verb}", json={"weight": 1}).status_code == 405
    assert client.get(f"{ROUTES}/7/history").status_code == 404
    assert client.post(f"{ROUTES}/activate", json=NAME).status_code == 404


def test_without_a_database_resolving_goes_on() -> None:
    """Routes of the settings resolve; everything that needs the registry is 503 and says why."""
    now = datetime.now(UTC)
    with built() as api:
        api.table.apply([Change(1, 1, Route(1, "acme", "shop", "prod", "v1", SHOP["url"], True, 100, now, now))])
        assert api.client.get(f"{ROUTES}/resolve?tenant=acme&service=shop").status_code == 200
        for method, path in (
            ("GET", ROUTES),
            ("POST", ROUTES),
            ("DELETE", f"{ROUTES}/1"),
            ("GET", f"{ROUTES}/1/history"),
        ):
            answer = api.client.open(path, method=method, json=SHOP if method == "POST" else None)
            assert (answer.status_code, answer.get_json()["detail"]) == (503, "The registry has no database")
            assert answer.headers["Retry-After"]


def test_without_tables_it_says_what_to_run(postgres_server: PostgresServer) -> None:
    """503, not 500: the schema may just be on its way."""
    with built(DATABASE_URL=postgres_server.create_database("gateway_api_bare")) as api:
        answer = api.client.get(ROUTES)
    postgres_server.drop_database("gateway_api_bare")
    assert answer.status_code == 503
    assert "gateway-db create" in answer.get_json()["detail"]
    assert answer.headers["Retry-After"]


def test_a_write_that_fails_half_way_leaves_nothing(api: Api, shared_url: str) -> None:
    """The outbox refuses its row: the route and its history are not there either, and nobody was told."""
    with closing(psycopg2.connect(shared_url)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute("ALTER TABLE routes_outbox ADD CONSTRAINT refused CHECK (action <> 'created')")
        answer = api.client.post(ROUTES, json=SHOP)
        cursor.execute("ALTER TABLE routes_outbox DROP CONSTRAINT refused")
        cursor.execute(
            "SELECT (SELECT count(*) FROM routes), (SELECT count(*) FROM routes_history), revision FROM gateway_state"
        )
        assert (answer.status_code, cursor.fetchone()) == (500, (0, 0, 0))
    assert api.announced == []


# --- the document -------------------------------------------------------------------------------------------------

statuses = StatusRecorder()
ONE = f"{ROUTES}/{{route_id}}"


@pytest.fixture
def full(client: FlaskClient) -> FlaskClient:
    """A client of a registry with one route, of id 1."""
    assert client.post(ROUTES, json=SHOP).status_code == 201
    return client


@pytest.fixture
def lost(lost_api: Api) -> FlaskClient:
    """A client of a registry whose database is not there."""
    return lost_api.client


def _case(method: str, path: str, status: int, client: str = "full", **options: Any) -> None:
    statuses.request(method, path, status, client, **options)


RESOLVE = f"{ROUTES}/resolve"
_case("GET", RESOLVE, 200, query_string=NAME)
_case("GET", RESOLVE, 400, at=f"{RESOLVE}?tenant=%FF")
_case("GET", RESOLVE, 404, at=f"{RESOLVE}?tenant=acme&service=other")
_case("GET", RESOLVE, 422)

_case("GET", ROUTES, 200)
_case("GET", ROUTES, 400, at=f"{ROUTES}?after=1&after=1")
_case("GET", ROUTES, 422, at=f"{ROUTES}?after=x")
_case("GET", ROUTES, 503, client="lost")
_case("GET", ROUTES, 504, headers=IN_A_HURRY)

for _method, _path, _ok, _body in (
    ("POST", ROUTES, 201, {**SHOP, "version": "v2"}),
    ("POST", f"{ROUTES}/activate", 200, NAME),
    ("POST", f"{ROUTES}/deactivate", 200, NAME),
    ("PATCH", ONE, 200, {"weight": 5}),
):
    _case(_method, _path, _ok, json=_body)
    _case(_method, _path, 400, data=b"{", content_type="application/json")
    _case(_method, _path, 413, data=TOO_LARGE, content_type="application/json")
    _case(_method, _path, 415, data="{}")
    _case(_method, _path, 422, json={})
    _case(_method, _path, 503, client="lost", json=_body)
    _case(_method, _path, 504, json=_body, headers=IN_A_HURRY)

_case("POST", ROUTES, 409, json=SHOP)
_case("POST", f"{ROUTES}/activate", 404, json={**NAME, "version": "v9"})
_case("POST", f"{ROUTES}/deactivate", 404, json={**NAME, "version": "v9"})
_case("PATCH", ONE, 404, at=f"{ROUTES}/99", json={"weight": 5})
_case("PATCH", ONE, 412, json={"weight": 5}, headers=NOT_ITS_STATE)

_case("GET", ONE, 200)
_case("GET", ONE, 304, headers={"If-None-Match": '"1-1"'})
_case("GET", ONE, 404, at=f"{ROUTES}/99")
_case("GET", ONE, 503, client="lost")
_case("GET", ONE, 504, headers=IN_A_HURRY)

_case("DELETE", ONE, 204)
_case("DELETE", ONE, 404, at=f"{ROUTES}/99")
_case("DELETE", ONE, 412, headers=NOT_ITS_STATE)
_case("DELETE", ONE, 503, client="lost")
_case("DELETE", ONE, 504, headers=IN_A_HURRY)

_case("GET", f"{ONE}/history", 200)
_case("GET", f"{ONE}/history", 400, at=f"{ROUTES}/1/history?before=%FF")
_case("GET", f"{ONE}/history", 404, at=f"{ROUTES}/99/history")
_case("GET", f"{ONE}/history", 422, at=f"{ROUTES}/1/history?before=0")
_case("GET", f"{ONE}/history", 503, client="lost")
_case("GET", f"{ONE}/history", 504, headers=IN_A_HURRY)


@pytest.mark.parametrize("case", statuses.cases, ids=str)
def test_a_documented_status_is_answered_as_documented(
    case: Case, client: FlaskClient, request: pytest.FixtureRequest
) -> None:
    """Status and media type are what the document says of this operation, and documented headers are there."""
    document = client.get("/openapi.json").get_json()
    answer: Any = case.answer(request)
    assert statuses.faults(case, answer, document) == []
    headers = document["paths"][case.path][case.method.lower()]["responses"][str(case.status)].get("headers", {})
    assert {name for name in headers if name not in answer.headers} == set()


def test_the_document_has_no_status_without_a_case(client: FlaskClient) -> None:
    """Each documented status has a case above, and each case is documented; but for what the edge answers by itself."""
    document = client.get("/openapi.json").get_json()
    missing, unknown = statuses.difference(document)
    assert [case for case in missing if ROUTES in case and int(case.rpartition(" ")[2]) not in EDGE] == []
    assert unknown == []


def test_the_document_says_who_may(client: FlaskClient) -> None:
    """Every operation of the registry needs a key with a scope; what the edge answers by itself is described, too."""
    document = client.get("/openapi.json").get_json()
    assert set(document["components"]["securitySchemes"]) == {"bearer", "key"}
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            if path.startswith(ROUTES):
                scope = "routes:read" if method == "get" else "routes:write"
                assert operation["security"] == [{"bearer": [scope]}, {"key": [scope]}]
                assert {str(status) for status in EDGE} <= set(operation["responses"])
            else:
                assert "security" not in operation
    assert {"/health", "/health/live", "/health/ready", "/api/service-status", "/metrics"} <= set(document["paths"])
    assert document["servers"] == [{"url": ".."}]
    assert client.get("/docs").status_code == 200
