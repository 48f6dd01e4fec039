"""The chassis in a Flask application: errors, input, conditional answers, health, OpenAPI."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from flask import Flask
from flask.testing import FlaskClient

MakeApp = Callable[..., Flask]


@pytest.fixture
def client(make_app: MakeApp, database_url: str) -> FlaskClient:
    """A client of the sample service with a database and without a cache."""
    return make_app(DATABASE_URL=database_url).test_client()


def test_every_error_is_a_problem(client: FlaskClient) -> None:
    """Ours, werkzeug's and unexpected ones have one shape, and never a driver's or Python's text."""
    for path, status, detail in (
        ("/conflict", 409, "It is there already"),
        ("/nowhere", 404, "There is nothing at this address"),
        ("/notes/x", 404, "There is no such note"),
        ("/boom", 500, "Something went wrong on our side"),
    ):
        answer = client.get(path, headers={"X-Request-ID": "r-1"})
        assert answer.status_code == status
        assert answer.content_type == "application/problem+json"
        assert answer.headers["X-Request-ID"] == "r-1"
        body = answer.get_json(force=True)
        assert (body["status"], body["detail"], body["error"]) == (status, detail, detail)
        assert body["request_id"] == "r-1"
        assert set(body) == {"type", "title", "status", "detail", "error", "request_id"}
    refused = client.put("/notes")
    assert refused.status_code == 405
    assert "POST" in refused.headers["Allow"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (b"", "body: "),
        (b"[1]", "body: "),
        (b'{"text": 5}', "text: "),
        (b'{"text": ""}', "text: "),
        (b'{"text": "a\\u0000b"}', "text: must not contain the NUL character"),
        (b'{"text": "\\ud800"}', "body: "),
        (b'{"text": "x", "stars": 1e999}', ""),
        (b'{"text": "x", "stars": 99999999999999999999999}', "stars: "),
        (b'{"text": "x", "colour": "red"}', "colour: is not a known field"),
        (b'{"text": "x", "": "red"}', "(no name): is not a known field"),
        (b"[" * 30_000, "body: "),
        (b'{"text": "\xff"}', "body: "),
    ],
    ids=[
        "empty",
        "array",
        "wrong type",
        "too short",
        "nul",
        "surrogate",
        "infinite",
        "huge",
        "unknown",
        "no name",
        "deep",
        "utf8",
    ],
)
def test_bad_bodies_are_400_that_names_the_field(client: FlaskClient, body: bytes, detail: str) -> None:
    """No body makes anything but a clear 400."""
    answer = client.post("/notes", data=body, content_type="application/json")
    problem = answer.get_json(force=True)
    assert answer.status_code == 400
    assert problem["detail"].startswith(detail)
    assert problem["errors"][0]["message"]


def test_other_content_types_and_large_bodies_are_refused(client: FlaskClient) -> None:
    """415 for what is not plain JSON, 413 for what is over the limit, with and without a Content-Length."""
    assert client.post("/notes", data=b"text=x").status_code == 415
    coded = {"Content-Type": "application/json", "Content-Encoding": "gzip"}
    assert client.post("/notes", data=b'{"text": "x"}', headers=coded).status_code == 415
    assert client.post("/notes", data=b" " * 65_537, content_type="application/json").status_code == 413
    assert client.post("/notes", data=b'{"text": "x"}', content_type="application/json").status_code == 201


@pytest.mark.parametrize(
    ("query", "status"),
    [("stars=3", 200), ("", 200), ("stars=6", 400), ("stars=x", 400), ("stars=1&stars=2", 400), ("star=1", 400),
     ("stars=%ff", 400), ("stars=" + "9" * 5000, 400), ("&".join(f"a{n}=1" for n in range(99)), 400)],
)  # fmt: skip
def test_bad_queries_are_400(client: FlaskClient, query: str, status: int) -> None:
    """Wrong, unknown, doubled, undecodable and too many parameters."""
    assert client.get(f"/notes?{query}").status_code == status


def test_if_none_match_gives_304_without_a_body(client: FlaskClient) -> None:
    """The ETag of an answer, alone, in a list, weak, or a star, spares the body; another one does not."""
    first = client.get("/notes")
    etag = first.headers["ETag"]
    assert int(first.headers["Content-Length"]) == len(first.data)
    for condition in (etag, f'"other", {etag}', f"W/{etag}", "*"):
        answer = client.get("/notes", headers={"If-None-Match": condition})
        assert (answer.status_code, answer.data, answer.headers["ETag"]) == (304, b"", etag)
    assert client.get("/notes", headers={"If-None-Match": '"other"'}).status_code == 200
    assert client.head("/notes").headers["Content-Length"] == first.headers["Content-Length"]
    assert client.get("/notes?stars=2").headers["ETag"] != etag


def test_health_has_the_shape_of_the_contract(client: FlaskClient) -> None:
    """Live, ready and summary, with a database and without a cache."""
    assert client.get("/health/live").get_json() == {"status": "alive"}
    ready = client.get("/health/ready")
    body = ready.get_json()
    assert (ready.status_code, body["status"]) == (200, "ready")
    assert body["checks"]["database"] == {
        "status": "healthy",
        "message": "Database is accessible",
        "pool": {"size": 8, "in_use": 0, "available": 8, "waiting": 0},
    }
    assert body["checks"]["cache"]["status"] == "degraded"
    summary = client.get("/health")
    assert summary.status_code == 200
    assert summary.get_json() == {
        "status": "degraded", "service": "sample_service", "version": "1.0.0", "features": ["notes"],
        "database": "connected", "error": "CacheUnavailable",
    }  # fmt: skip


def test_a_lost_database_is_unhealthy_and_unready(make_app: MakeApp, free_port: int) -> None:
    """A required check that fails makes 503 of both, and names the class of the error and nothing more."""
    client = make_app(DATABASE_URL=f"postgresql://u:p@127.0.0.1:{free_port}/x").test_client()
    summary = client.get("/health")
    assert summary.status_code == 503
    body = summary.get_json()
    assert (body["status"], body["database"], body["error"]) == ("unhealthy", "disconnected", "OperationalError")
    ready = client.get("/health/ready")
    assert (ready.status_code, ready.get_json()["status"]) == (503, "not_ready")
    answer = client.get("/now")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")
    assert str(free_port) not in answer.get_data(as_text=True)


def test_the_document_says_what_the_code_does(client: FlaskClient) -> None:
    """/openapi.json is 3.1 and has the parameters, bodies, answers and headers that `@operation` gave."""
    answer = client.get("/openapi.json")
    document = json.loads(answer.data)
    assert document["openapi"] == "3.1.0"
    assert document["paths"]["/notes"]["get"]["parameters"][0]["name"] == "stars"
    post = document["paths"]["/notes"]["post"]
    assert set(post["responses"]) == {"201", "400", "413", "415"}
    assert "X-Request-ID" in post["responses"]["400"]["headers"]
    assert post["requestBody"]["content"]["application/json"]["schema"] == {"$ref": "#/components/schemas/Note"}
    assert set(document["components"]["schemas"]) >= {"Note", "ProblemBody", "HealthBody"}
    assert set(document["paths"]["/health/ready"]["get"]["responses"]) == {"200", "503"}
    assert client.get("/openapi.json", headers={"If-None-Match": answer.headers["ETag"]}).status_code == 304


def test_cors_is_for_the_named_origins_only(make_app: MakeApp, database_url: str) -> None:
    """None by default; with CORS_ORIGINS, those and no others."""
    closed = make_app(DATABASE_URL=database_url).test_client()
    origin = {"Origin": "https://shop.example"}
    assert "Access-Control-Allow-Origin" not in closed.get("/notes", headers=origin).headers
    client = make_app(DATABASE_URL=database_url, CORS_ORIGINS="https://shop.example").test_client()
    assert client.get("/notes", headers=origin).headers["Access-Control-Allow-Origin"] == "https://shop.example"
    other = client.get("/notes", headers={"Origin": "https://evil.example"})
    assert "Access-Control-Allow-Origin" not in other.headers


def test_metrics_name_routes_never_paths(client: FlaskClient) -> None:
    """The endpoint is the route's name, `unmatched` for a 404, and odd methods are OTHER."""
    client.get("/notes/1")
    client.get("/wp-admin.php")
    client.open("/notes", method="BREW")
    text = client.get("/metrics").get_data(as_text=True)
    assert 'sample_service_http_requests_total{endpoint="get_note",method="GET",status="200"} 1.0' in text
    assert 'sample_service_http_requests_total{endpoint="unmatched",method="GET",status="404"} 1.0' in text
    assert 'method="OTHER"' in text
    assert "wp-admin" not in text
    assert "BREW" not in text


def test_the_first_error_has_an_increase(client: FlaskClient) -> None:
    """Before there was any error, the server's errors of every route, and the known kinds of errors, are there as 0;
    probes have none.
    """
    text = client.get("/metrics").get_data(as_text=True)
    for method, endpoint in (("GET", "get_note"), ("POST", "keep_note"), ("GET", "list_notes"), ("GET", "openapi")):
        for status in (500, 503, 504):
            labels = f'endpoint="{endpoint}",method="{method}",status="{status}"'
            assert f"sample_service_http_requests_total{{{labels}}} 0.0" in text
    for kind in ("unavailable", "deadline-exceeded", "database-unavailable", "pool-exhausted"):
        assert f'app_errors_total{{service="sample_service",type="{kind}"}} 0.0' in text
    assert 'endpoint="health' not in text


def test_debug_mode_needs_flask_env(make_app: MakeApp, database_url: str) -> None:
    """FLASK_ENV=development is the only way to debug mode."""
    assert not make_app(DATABASE_URL=database_url, FLASK_DEBUG="1").debug
    assert make_app(DATABASE_URL=database_url, FLASK_ENV="development").debug
