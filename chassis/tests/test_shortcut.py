"""chassis.shortcut: fixed answers ahead of Flask are observed as all others are."""

from __future__ import annotations

import pytest
from flask import Flask, Response
from flask.testing import FlaskClient

from chassis import http, shortcut
from chassis.http import ready, send
from chassis.metrics import Metrics
from chassis.shortcut import AtHand, fixed

ANSWER = ready(b'{"a":1}', ("Cache-Control", "public"))


@pytest.fixture
def app() -> Flask:
    """An application whose `/fixed` and `/flask` answer alike, the first by a shortcut."""
    made = Flask(__name__)
    http.init_app(made, metrics=Metrics(service="test", version="1", commit="c"), timeout_ms=1000, max_body_bytes=1000)

    def view() -> Response:
        return send(ANSWER)

    made.add_url_rule("/fixed", "fixed", view)
    made.add_url_rule("/flask", "flask", view)
    made.add_url_rule("/asked", "asked", lambda: Response("from Flask"))
    answers = {"/fixed": fixed("fixed", ANSWER), "/asked": AtHand("asked", {"a=1": ANSWER}.get)}
    shortcut.init_app(made, answers)
    return made


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of that application."""
    return app.test_client()


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("condition", [None, ANSWER.etag, '"other"', "*"])
def test_the_answer_is_what_flask_answers(client: FlaskClient, method: str, condition: str | None) -> None:
    """Status, headers and body are the same, for conditions, too."""
    headers = {"X-Request-ID": "id-1", **({"If-None-Match": condition} if condition else {})}
    fixed, flask = (client.open(path, method=method, headers=headers) for path in ("/fixed", "/flask"))
    assert fixed.status == flask.status
    assert fixed.data == flask.data
    assert sorted(fixed.headers) == sorted(flask.headers)
    assert fixed.headers["X-Request-ID"] == "id-1"


def test_anything_else_goes_on_to_flask(client: FlaskClient) -> None:
    """Other methods, a query, other paths."""
    assert client.post("/fixed").status_code == 405
    assert client.get("/fixed?a=1").status_code == 200
    assert client.get("/fixed/").status_code == 404


def test_an_answer_may_depend_on_the_query_string(client: FlaskClient) -> None:
    """What is at hand for this query string is given, the rest is the view's."""
    assert client.get("/asked?a=1").data == ANSWER.body
    assert client.get("/asked?a=2").data == b"from Flask"


def test_requests_are_counted_under_the_endpoints_name(client: FlaskClient) -> None:
    """As if Flask had answered."""
    client.get("/fixed")
    client.get("/fixed?a=1")
    assert 'test_http_requests_total{endpoint="fixed",method="GET",status="200"} 2.0' in client.get("/metrics").text


def test_it_belongs_inside_observe() -> None:
    """An application that is not mounted yet is refused: its requests would not be seen."""
    with pytest.raises(TypeError):
        shortcut.init_app(Flask(__name__), {})
