"""Every status that `/openapi.json` documents, provoked once; a status without a case fails the last test."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from chassis.testing.contract import Case, StatusRecorder, fuzz
from chassis.testing.gunicorn import GunicornProcess

MakeApp = Callable[..., Flask]
USERS = "/api/v1/users"
ADA = {"username": "ada", "email": "ada@example.com"}
BOB = {"username": "bob", "email": "bob@example.com"}
ONE = "/api/v1/users/{user_id}"
IN_A_HURRY = {"X-Request-Timeout-Ms": "0"}
NOT_ITS_STATE = {"If-Match": '"1-99"'}
TOO_LARGE = b'{"username":"' + b"a" * 70_000

statuses = StatusRecorder()


@pytest.fixture
def full(client: FlaskClient) -> FlaskClient:
    """A client of a service with two users, ada (id 1) and bob (id 2)."""
    for body in (ADA, BOB):
        assert client.post(USERS, json=body).status_code == 201
    return client


@pytest.fixture
def lost(make_app: MakeApp, free_port: int) -> FlaskClient:
    """A client of a service whose database is not there."""
    return make_app(DB_HOST="127.0.0.1", DB_PORT=str(free_port)).test_client()


def _case(method: str, path: str, status: int, client: str = "full", **options: Any) -> None:
    statuses.request(method, path, status, client, **options)


_case("GET", USERS, 200)
_case("GET", USERS, 400, at=f"{USERS}?page=0")
_case("GET", USERS, 503, client="lost")
_case("GET", USERS, 504, headers=IN_A_HURRY)

_case("POST", USERS, 201, json={"username": "eve", "email": "eve@example.com"})
_case("POST", USERS, 400, json={})
_case("POST", USERS, 409, json=ADA)
_case("POST", USERS, 413, data=TOO_LARGE, content_type="application/json")
_case("POST", USERS, 415, data="{}")
_case("POST", USERS, 503, client="lost", json=ADA)
_case("POST", USERS, 504, json=ADA, headers=IN_A_HURRY)


@statuses.case("POST", USERS, 422)
def _key_of_another_body(full: FlaskClient) -> TestResponse:
    key = {"Idempotency-Key": "k"}
    assert full.post(USERS, json={"username": "eve", "email": "eve@example.com"}, headers=key).status_code == 201
    return full.post(USERS, json={"username": "kim", "email": "kim@example.com"}, headers=key)


_case("GET", ONE, 200)
_case("GET", ONE, 304, headers={"If-None-Match": '"1-1"'})
_case("GET", ONE, 404, at=f"{USERS}/99")
_case("GET", ONE, 503, client="lost")
_case("GET", ONE, 504, headers=IN_A_HURRY)

for _method, _body in (("PUT", {**ADA, "full_name": "Ada"}), ("PATCH", {"full_name": "Ada"})):
    _case(_method, ONE, 200, json=_body)
    _case(_method, ONE, 400, json={})
    _case(_method, ONE, 404, at=f"{USERS}/99", json=_body)
    _case(_method, ONE, 409, json={**ADA, "username": "bob"})
    _case(_method, ONE, 412, json=_body, headers=NOT_ITS_STATE)
    _case(_method, ONE, 413, data=TOO_LARGE, content_type="application/json")
    _case(_method, ONE, 415, data="{}")
    _case(_method, ONE, 503, client="lost", json=_body)
    _case(_method, ONE, 504, json=_body, headers=IN_A_HURRY)

_case("DELETE", ONE, 204)
_case("DELETE", ONE, 404, at=f"{USERS}/99")
_case("DELETE", ONE, 412, headers=NOT_ITS_STATE)
_case("DELETE", ONE, 503, client="lost")
_case("DELETE", ONE, 504, headers=IN_A_HURRY)

_case("GET", "/health", 200)
_case("GET", "/health", 503, client="lost")
_case("GET", "/health/live", 200)
_case("GET", "/health/ready", 200)
_case("GET", "/health/ready", 503, client="lost")
_case("GET", "/metrics", 200)


@pytest.mark.parametrize("case", statuses.cases, ids=str)
def test_a_documented_status_is_answered_as_documented(
    case: Case, client: FlaskClient, request: pytest.FixtureRequest
) -> None:
    """Status and media type are what the document says of this operation, and documented headers are there."""
    document = client.get("/openapi.json").get_json()
    answer: Any = case.answer(request)
    assert statuses.faults(case, answer, document) == []
    headers = document["paths"][case.path][case.method.lower()]["responses"][str(case.status)].get("headers", {})
    assert {name for name in headers if name not in answer.headers} <= {"Idempotency-Replayed"}


def test_the_document_has_no_status_without_a_case(client: FlaskClient) -> None:
    """Each documented status has a case above, and each case is documented."""
    assert statuses.difference(client.get("/openapi.json").get_json()) == ([], [])


def test_the_documents_are_served(client: FlaskClient) -> None:
    """`/openapi.json` and a page for people."""
    assert client.get("/openapi.json").get_json()["openapi"].startswith("3.1")
    assert client.get("/docs").status_code == 200


@pytest.mark.slow
def test_no_5xx_and_no_undocumented_answer(
    user: Callable[..., GunicornProcess], database_url: str, redis_url: str
) -> None:
    """schemathesis, all phases: statuses, media types, headers, schemas, bad input refused.

    One check is left out: that what fits the schema is taken. A schema cannot say that `page` and `after` exclude each
    other, where pages end, or in which state a user is.
    """
    service = user(DATABASE_URL=database_url, REDIS_URL=redis_url, LOG_LEVEL="WARNING")
    fuzz(service.url, "--exclude-checks=positive_data_acceptance")
    assert '"level":"ERROR"' not in service.text()
