"""Every status that `/openapi.json` documents, provoked once; a status without a case fails the last test."""

from __future__ import annotations

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from chassis import lifecycle
from chassis.health import Result
from chassis.testing.contract import Case, StatusRecorder

statuses = StatusRecorder()


def revalidated(client: FlaskClient, path: str) -> TestResponse:
    """The answer to a request with the ETag of the answer before."""
    return client.get(path, headers={"If-None-Match": client.get(path).headers["ETag"]})


IN_A_HURRY = {"X-Request-Timeout-Ms": "0"}


@statuses.case("GET", "/", 200)
def _home(client: FlaskClient) -> TestResponse:
    return client.get("/")


@statuses.case("GET", "/", 304)
def _home_not_modified(client: FlaskClient) -> TestResponse:
    return revalidated(client, "/")


@statuses.case("GET", "/", 504)
def _home_too_late(db_client: FlaskClient) -> TestResponse:
    return db_client.get("/", headers=IN_A_HURRY)


@statuses.case("GET", "/api/products", 200)
def _products(client: FlaskClient) -> TestResponse:
    return client.get("/api/products")


@statuses.case("GET", "/api/products", 304)
def _products_not_modified(client: FlaskClient) -> TestResponse:
    return revalidated(client, "/api/products?sort=name")


@statuses.case("GET", "/api/products", 400)
def _products_bad_page(client: FlaskClient) -> TestResponse:
    return client.get("/api/products?page=0")


@statuses.case("GET", "/api/products", 504)
def _products_too_late(db_client: FlaskClient) -> TestResponse:
    return db_client.get("/api/products", headers=IN_A_HURRY)


@statuses.case("GET", "/api/products/{product_id}", 200)
def _product(client: FlaskClient) -> TestResponse:
    return client.get("/api/products/1")


@statuses.case("GET", "/api/products/{product_id}", 304)
def _product_not_modified(client: FlaskClient) -> TestResponse:
    return revalidated(client, "/api/products/1")


@statuses.case("GET", "/api/products/{product_id}", 404)
def _product_unknown(client: FlaskClient) -> TestResponse:
    return client.get("/api/products/999")


@statuses.case("GET", "/api/products/{product_id}", 504)
def _product_too_late(db_client: FlaskClient) -> TestResponse:
    return db_client.get("/api/products/1", headers=IN_A_HURRY)


@statuses.case("GET", "/static/{filename}", 200)
def _picture(client: FlaskClient) -> TestResponse:
    return client.get("/static/images/origami/001-crane.svg")


@statuses.case("GET", "/static/{filename}", 304)
def _picture_not_modified(client: FlaskClient) -> TestResponse:
    return revalidated(client, "/static/images/origami/001-crane.svg")


@statuses.case("GET", "/static/{filename}", 404)
def _picture_unknown(client: FlaskClient) -> TestResponse:
    return client.get("/static/../settings.py")


@statuses.case("GET", "/health", 200)
def _health(client: FlaskClient) -> TestResponse:
    return client.get("/health")


@statuses.case("GET", "/health", 503)
def _health_of_something_required(client: FlaskClient) -> TestResponse:
    """The catalogue requires nothing; this is what the chassis answers for a service that does."""
    client.application.extensions["health"].add("needed", lambda _limit_s: Result("unhealthy", "gone"), required=True)
    return client.get("/health")


@statuses.case("GET", "/health/live", 200)
def _health_live(client: FlaskClient) -> TestResponse:
    return client.get("/health/live")


@statuses.case("GET", "/health/ready", 200)
def _health_ready(db_client: FlaskClient) -> TestResponse:
    return db_client.get("/health/ready")


@statuses.case("GET", "/health/ready", 503)
def _health_draining(client: FlaskClient) -> TestResponse:
    lifecycle.set_draining(True)
    try:
        return client.get("/health/ready")
    finally:
        lifecycle.set_draining(False)


@statuses.case("GET", "/metrics", 200)
def _metrics(client: FlaskClient) -> TestResponse:
    return client.get("/metrics")


@pytest.mark.parametrize("case", statuses.cases, ids=str)
def test_a_documented_status_is_answered_as_documented(
    case: Case, client: FlaskClient, request: pytest.FixtureRequest
) -> None:
    """Status and media type are what the document says of this operation."""
    document = client.get("/openapi.json").get_json()
    assert statuses.faults(case, case.answer(request), document) == []


def test_the_document_has_no_status_without_a_case(client: FlaskClient) -> None:
    """Each documented status has a case above, and each case is documented."""
    assert statuses.difference(client.get("/openapi.json").get_json()) == ([], [])
