"""Hostile input: every endpoint answers 4xx with problem+json, and goes on."""

from __future__ import annotations

import http.client
import itertools
import json
import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

import orjson
import pytest
from flask.testing import FlaskClient

from chassis.testing.calls import call
from chassis.testing.gunicorn import GunicornProcess

USERS = "/api/v1/users"
StartUser = Callable[..., GunicornProcess]
GOOD = {"username": "ada", "email": "ada@example.com"}

WRITES = (("POST", USERS), ("PUT", f"{USERS}/1"), ("PATCH", f"{USERS}/1"))

BODIES: dict[str, tuple[bytes, str]] = {
    "NUL": (json.dumps({**GOOD, "full_name": "a\x00b"}).encode(), "full_name"),
    "NUL in the name": (json.dumps({**GOOD, "username": "ada\x00"}).encode(), "username"),
    "a lone surrogate": (b'{"username":"ada","email":"ada@example.com","full_name":"\\ud800"}', "body"),
    "bytes that are no UTF-8": (b'{"username":"ada","email":"ada@example.com","full_name":"\xff"}', "body"),
    "deep nesting": (b'{"username":' + b"[" * 20_000 + b"]" * 20_000 + b"}", "body"),
    "deep objects": (b'{"a":' * 8_000 + b"1" + b"}" * 8_000, "body"),
    "an unknown field": (json.dumps({**GOOD, "is_admin": True}).encode(), "is_admin"),
    "a huge number": (b'{"username":' + b"9" * 5_000 + b',"email":"a@example.com"}', "body"),
    "1e400": (b'{"username":1e400,"email":"a@example.com"}', "username"),
    "NaN": (b'{"username":NaN,"email":"a@example.com"}', "username"),
    "an array": (b"[]", "body"),
    "a string": (b'"ada"', "body"),
    "null": (b"null", "body"),
    "nothing": (b"", "body"),
    "no JSON": (b"{username: ada}", "body"),
    "two documents": (json.dumps(GOOD).encode() * 2, "body"),
    "wrong types": (b'{"username":["ada"],"email":{"a":1}}', "username"),
    "a boolean": (b'{"username":true,"email":"a@example.com"}', "username"),
    "a full name that is too long": (json.dumps({**GOOD, "full_name": "x" * 201}).encode(), "full_name"),
}


@pytest.mark.parametrize(("method", "path"), WRITES)
def test_bad_bodies_are_400_and_name_the_field(client: FlaskClient, method: str, path: str) -> None:
    """On every endpoint that takes a body, whatever is wrong with it."""
    client.post(USERS, json={"username": "first", "email": "first@example.com"})
    for kind, (body, field) in BODIES.items():
        answer = client.open(path, method=method, data=body, content_type="application/json")
        assert (answer.status_code, answer.content_type) == (400, "application/problem+json"), (kind, answer.text)
        assert field in {error["field"].partition(".")[0] for error in answer.get_json()["errors"]}
        assert answer.get_json()["error"] == answer.get_json()["detail"]


NOT_JSON = ("text/plain", "application/x-www-form-urlencoded", "application/xml", "", None)


def test_another_content_type_is_415(client: FlaskClient) -> None:
    """A form is not JSON, and neither is what does not say what it is."""
    for content_type, (method, path) in itertools.product(NOT_JSON, WRITES):
        answer = client.open(path, method=method, data=json.dumps(GOOD), content_type=content_type)
        assert answer.status_code == 415, (content_type, method)


def test_json_with_a_charset_is_json(client: FlaskClient) -> None:
    """Clients add it."""
    answer = client.post(USERS, data=orjson.dumps(GOOD), content_type="application/json; charset=utf-8")
    assert answer.status_code == 201


def test_duplicate_keys_in_a_body_are_one_value(client: FlaskClient) -> None:
    """JSON leaves open which one; ours is the last, and it is checked like any other."""
    body = b'{"username":"x","username":"ada","email":"ada@example.com"}'
    assert client.post(USERS, data=body, content_type="application/json").get_json()["username"] == "ada"


@pytest.fixture
def service(user: StartUser, database_url: str, redis_url: str) -> Iterator[GunicornProcess]:
    """A running service, which must still be well after the test and have logged no 5xx."""
    service = user(DATABASE_URL=database_url, REDIS_URL=redis_url)
    yield service
    assert call(service, "GET", "/health").status == 200
    assert not any(line.get("status", 0) >= 500 or "exc_info" in line for line in service.logs)


def test_ten_megabytes_are_413(service: GunicornProcess) -> None:
    """Announced, or in chunks without a length; the rest is not read."""
    for chunked in (False, True):
        with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)) as connection:
            body = b'{"username":"' + b"a" * 10_000_000
            pieces = (body[at : at + 65536] for at in range(0, len(body), 65536)) if chunked else body
            with suppress(OSError):  # it may hang up as soon as it has answered
                connection.request("POST", USERS, pieces, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert response.status == 413
            assert response.headers["Content-Type"] == "application/problem+json"


BAD_ADDRESSES = (
    *(f"{USERS}/{part}" for part in ("%ff", "%00", "..%2f..%2fetc", "1;DROP", "/1", "")),
    *(f"{USERS}?{query}" for query in ("page=%ff", "%ff=1", "page=1&page=1", "username=%ed%a0%80", "email=%00")),
    *(f"{USERS}?{query}" for query in ("page=-1", "page[]=1", "&".join(f"a{n}=1" for n in range(200)))),
    "//",
    "/%c0%af",
)


def test_bad_addresses_are_4xx(service: GunicornProcess) -> None:
    """Invalid UTF-8, NUL, tricks with slashes, duplicate and countless parameters."""
    for target, method in itertools.product(BAD_ADDRESSES, ("GET", "HEAD", "DELETE", "PUT")):
        with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)) as connection:
            connection.request(method, target)
            response = connection.getresponse()
            data = response.read()
        assert 400 <= response.status < 500, (method, target)
        assert response.headers["Content-Type"] == "application/problem+json"
        if method != "HEAD":
            assert orjson.loads(data)["status"] == response.status


def test_bytes_outside_ascii_in_an_address_are_4xx(service: GunicornProcess) -> None:
    """Sent raw, not percent-encoded, in path and query."""
    for target in (USERS.encode() + b"/\xff", USERS.encode() + b"?email=\xff", USERS.encode() + "?email=ü".encode()):
        with closing(socket.create_connection(("127.0.0.1", service.port), timeout=10)) as connection:
            connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            head = b""
            while piece := connection.recv(65536):
                head += piece
        assert head.startswith(b"HTTP/1.1 4"), head[:200]


def test_a_body_in_chunks_is_taken_whole_or_not_at_all(service: GunicornProcess) -> None:
    """What fits is read; of what does not, no part passes for the whole."""
    good = orjson.dumps(GOOD)
    for padding, status in ((1000, 201), (70_000, 413)):
        with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)) as connection:
            connection.request("POST", USERS, iter([good, b" " * padding]), {"Content-Type": "application/json"})
            assert connection.getresponse().status == status


def test_methods_that_are_not_taken_are_405(client: FlaskClient) -> None:
    """With `Allow`."""
    for method, path in (("DELETE", USERS), ("PATCH", USERS), ("PUT", USERS), ("POST", f"{USERS}/1"), ("BREW", USERS)):
        answer = client.open(path, method=method)
        assert (answer.status_code, answer.content_type) == (405, "application/problem+json")
        assert "GET" in answer.headers["Allow"]


def test_what_looks_like_sql_is_text(client: FlaskClient) -> None:
    """Quotes, percent signs and backslashes come back as they were sent."""
    name = "Robert'); DROP TABLE users;-- %s %(id)s \\ \" ${x} {0}"
    answer = client.post(USERS, json={**GOOD, "full_name": name})
    assert answer.get_json()["full_name"] == name
    assert client.get(f"{USERS}?username=%27%20OR%201=1--").get_json()["users"] == []
    assert client.get(f"{USERS}?email=%25").get_json()["users"] == []


def test_any_text_survives(client: FlaskClient) -> None:
    """Emoji, right-to-left, combining and control characters other than NUL."""
    name = "😀 مرحبا e\u0301 \u202e \t \u2028 \U0010ffff"
    created = client.post(USERS, json={**GOOD, "full_name": name}).get_json()
    assert client.get(f"{USERS}/{created['id']}").get_json()["full_name"] == name
