"""Whatever comes in, the answer is a proper one or a 4xx problem: never 5xx, never HTML."""

from __future__ import annotations

import http.client
import json
from contextlib import closing

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chassis.testing.gunicorn import GunicornProcess
from chassis.testing.plugin import StartGunicorn

PROBLEM = "application/problem+json"


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ("page=0", "page"),
        ("page=-1", "page"),
        ("page=1.0", "page"),
        ("page=%201", "page"),
        ("page=1_0", "page"),
        ("page=", "page"),
        ("page=x", "page"),
        ("page=%D9%A1", "page"),  # an Arabic digit one
        ("page=1000001", "page"),
        ("page=99999999999999999999999999", "page"),
        (f"page={'9' * 5000}", "page"),
        ("per_page=0", "per_page"),
        ("per_page=101", "per_page"),
        ("min_price=-1", "min_price"),
        ("min_price=NaN", "min_price"),
        ("min_price=1e5", "min_price"),
        ("max_price=Infinity", "max_price"),
        ("max_price=12.505", "max_price"),
        ("max_price=99999999999", "max_price"),
        ("in_stock=yes", "in_stock"),
        ("in_stock=", "in_stock"),
        ("sort=stock", "sort"),
        ("sort=--price", "sort"),
        ("q=%00", "q"),
        ("category=%00", "category"),
        ("tag=a%00b", "tag"),
        (f"q={'a' * 201}", "q"),
        ("limit=5", "limit"),
        ("_=1", "_"),
        ("PAGE=1", "PAGE"),
        ("page=1&page=1", "page"),
        ("q=a&q=b", "q"),
    ],
)
def test_a_bad_parameter_is_named(client: FlaskClient, query: str, field: str) -> None:
    """400, with the field in `detail` and in `errors`."""
    answer = client.get(f"/api/products?{query}")
    assert (answer.status_code, answer.content_type) == (400, PROBLEM)
    body = answer.get_json()
    assert body["errors"][0]["field"] == field
    assert body["detail"].startswith(field)
    assert body["error"] == body["detail"]


def test_too_long_a_text_says_how_long_it_may_be(client: FlaskClient) -> None:
    """The limit is in the detail, in characters."""
    assert "200 characters" in client.get(f"/api/products?q={'a' * 201}").get_json()["detail"]


@pytest.mark.parametrize("query", ["q=%FF", "q=%ED%A0%80", "%FF=1", "&".join(f"a{n}=1" for n in range(60))])
def test_a_query_string_that_is_no_text_is_400(client: FlaskClient, query: str) -> None:
    """Invalid UTF-8, a lone surrogate, more fields than anybody needs."""
    answer = client.get(f"/api/products?{query}")
    assert (answer.status_code, answer.content_type) == (400, PROBLEM)


NOWHERE = (
    "/api/products/0",
    "/api/products/-1",
    "/api/products/x",
    "/api/products/1.0",
    "/api/products/%D9%A1",
    "/api/products/1%00",
    "/api/products/%FF",
    "/api/products/%ED%A0%80",
    f"/api/products/{2**31}",
    f"/api/products/{2**63}",
    f"/api/products/{'9' * 4000}",
    "/api/products/",
    "/api/products/1/2",
    "/api//products",
    "/static/",
    "/static/images",
    "/static/..%2f__init__.py",
    "/static/%2e%2e/settings.py",
    "/static/%00",
    "/nowhere/%FF",
)


@pytest.mark.parametrize("mode", ["client", "db_client"])
def test_an_address_of_nothing_is_404(mode: str, request: pytest.FixtureRequest) -> None:
    """A malformed id is the id of no product; files outside the folder are not there."""
    client: FlaskClient = request.getfixturevalue(mode)
    for path in NOWHERE:
        answer = client.get(path)
        assert (answer.status_code, answer.content_type) == (404, PROBLEM), path


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/api/products", "/api/products/1", "/", "/health"])
def test_a_method_that_is_not_offered_is_405(client: FlaskClient, method: str, path: str) -> None:
    """405 with `Allow`."""
    answer = client.open(path, method=method, data=b"{}")
    assert (answer.status_code, answer.content_type) == (405, PROBLEM)
    assert "GET" in answer.headers["Allow"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.dictionaries(st.sampled_from(["q", "category", "tag", "page", "sort", "min_price"]), st.text()))
def test_any_text_is_answered(db_client: FlaskClient, query: dict[str, str]) -> None:
    """Any text in any parameter: 200 from the database, which never sees what it cannot take, or 400."""
    try:
        answer = db_client.get("/api/products", query_string=query)
    except UnicodeEncodeError:
        return  # the test client itself cannot write a lone surrogate
    assert answer.status_code in (200, 400), answer.text
    assert answer.headers.get("X-Data-Source", "db") == "db"


@pytest.fixture
def running(gunicorn: StartGunicorn) -> GunicornProcess:
    """The service under gunicorn, in JSON mode, with one worker."""
    return gunicorn("catalogue", DRAIN_SECONDS="0", WEB_CONCURRENCY="1")


def test_raw_bytes_on_the_wire(running: GunicornProcess) -> None:
    """What no client library sends: raw bytes in path and query, and a body on GET. None is an error of ours."""
    for target, body, wanted in [
        (b"/api/products/\xff\xfe", b"", 400),
        (b"/api/products?q=\xff", b"", 400),
        (b"/api/products?q=a&q=b", b"", 400),
        (b"/api/products", b"[" * 100_000, 200),
        (b"/api/products/1", b"x" * 1_000_000, 200),
        (b"/api/products", b"", 200),
    ]:
        with closing(http.client.HTTPConnection("127.0.0.1", running.port, timeout=5)) as connection:
            connection.connect()
            connection.sock.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: a\r\n")
            connection.sock.sendall(b"Content-Length: %d\r\n\r\n" % len(body) + body)
            with http.client.HTTPResponse(connection.sock, method="GET") as response:
                response.begin()
                text = response.read()
        assert response.status == wanted, (target, text)
        if wanted >= 400:
            assert json.loads(text)["status"] == wanted
    assert '"level":"ERROR"' not in running.text()
