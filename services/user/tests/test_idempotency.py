"""POST with an Idempotency-Key: done once, answered as often as asked."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import psycopg2
from flask import Flask
from flask.testing import FlaskClient

from chassis.testing import wait_until

MakeApp = Callable[..., Flask]
Sql = Callable[..., list[tuple[Any, ...]]]
ADA = {"username": "ada", "email": "ada@example.com"}


def post(client: FlaskClient, key: str, body: dict[str, Any] | None = None) -> Any:
    """POST a user with a key."""
    return client.post("/api/v1/users", json=body or ADA, headers={"Idempotency-Key": key})


def test_the_second_request_gets_the_answer_of_the_first(client: FlaskClient, sql: Sql) -> None:
    """Status, body, Location and ETag are the saved ones, also when the user has changed or gone since."""
    first = post(client, "k")
    for change in (lambda: None, lambda: client.patch("/api/v1/users/1", json={"full_name": "x"}),
                   lambda: client.delete("/api/v1/users/1")):  # fmt: skip
        change()
        again = post(client, "k")
        assert (again.status_code, again.data) == (201, first.data)
        assert [again.headers[name] for name in ("Location", "ETag")] == [
            first.headers[name] for name in ("Location", "ETag")
        ]
        assert again.headers["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first.headers
    assert sql("SELECT count(*) FROM users") == [(0,)]


def test_the_same_body_written_otherwise_is_the_same(client: FlaskClient) -> None:
    """Order, white space and the case of the mail domain do not matter; what is asked for does."""
    first = post(client, "k")
    again = client.post(
        "/api/v1/users",
        data=' { "full_name" : null, "email":"ada@EXAMPLE.com", "username":" ada" } ',
        headers={"Idempotency-Key": "k", "Content-Type": "application/json"},
    )
    assert again.data == first.data


def test_another_body_with_the_key_is_422(client: FlaskClient, sql: Sql) -> None:
    """And creates nobody."""
    post(client, "k")
    for other in ({**ADA, "full_name": "Ada"}, {**ADA, "username": "ada2"}, {**ADA, "email": "ADA@example.com"}):
        answer = post(client, "k", other)
        assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    assert sql("SELECT count(*) FROM users") == [(1,)]


def test_other_keys_are_other_requests(client: FlaskClient) -> None:
    """Keys tell upper from lower case; the second user of the same name is 409 and its key stays free."""
    post(client, "k")
    assert post(client, "K").status_code == 409
    assert post(client, "K", {"username": "bob", "email": "bob@example.com"}).status_code == 201


def test_a_key_is_1_to_255_visible_ascii_characters(client: FlaskClient) -> None:
    """Anything else is 400."""
    for bad in ("", "a b", "k\u00e9", "a" * 256, "tab\tbed"):
        answer = post(client, bad)
        assert answer.status_code == 400, bad
        assert answer.get_json()["errors"][0]["field"] == "Idempotency-Key"
    assert post(client, "~" * 255).status_code == 201


def test_a_request_in_flight_makes_the_others_409(make_app: MakeApp, database_url: str, sql: Sql) -> None:
    """Of many at the same time one creates the user; the rest get its answer, or 409 with Retry-After."""
    app = make_app(DATABASE_URL=database_url)
    post(app.test_client(), "warm", {"username": "warm", "email": "warm@example.com"})
    with closing(psycopg2.connect(database_url)) as blocker, blocker.cursor() as cursor:
        cursor.execute(
            "INSERT INTO users (username, email) VALUES ('ada', 'x@example.com')"
        )  # POST has to wait for this
        with ThreadPoolExecutor(1) as thread:
            first = thread.submit(post, app.test_client(), "k")
            waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query LIKE '%INSERT%'"
            wait_until(lambda: sql(waiting) == [(1,)], what="the first request waits")
            second = post(app.test_client(), "k")
            assert (second.status_code, second.headers["Retry-After"]) == (409, "1")
            blocker.rollback()
            assert first.result().status_code == 201
    assert post(app.test_client(), "k").headers["Idempotency-Replayed"] == "true"


def test_many_at_once_create_one_user(make_app: MakeApp, database_url: str, sql: Sql) -> None:
    """Every answer is 201 with the same body, or 409; the table has one."""
    app = make_app(DATABASE_URL=database_url)
    start = threading.Barrier(6)

    def attempt(_: int) -> tuple[int, bytes]:
        start.wait()
        answer = post(app.test_client(), "k")
        return answer.status_code, answer.data if answer.status_code == 201 else b""

    with ThreadPoolExecutor(6) as threads:
        answers = set(threads.map(attempt, range(6)))
    assert {status for status, _ in answers} <= {201, 409}
    assert len({body for status, body in answers if status == 201}) == 1
    assert sql("SELECT count(*) FROM users") == [(1,)]


def test_an_answer_is_kept_for_a_day(client: FlaskClient, sql: Sql) -> None:
    """Just before, it is replayed; after that the key is a new one."""
    post(client, "k")
    sql("UPDATE users_idempotency SET created_at = now() - interval '23 hours 59 minutes'")
    assert post(client, "k").headers["Idempotency-Replayed"] == "true"
    sql("UPDATE users_idempotency SET created_at = now() - interval '24 hours 1 minute'")
    answer = post(client, "k", {"username": "bob", "email": "bob@example.com"})
    assert answer.status_code == 201
    assert "Idempotency-Replayed" not in answer.headers
    assert post(client, "k", {"username": "bob", "email": "bob@example.com"}).data == answer.data


def test_old_answers_are_forgotten_in_the_background(make_app: MakeApp, database_url: str, sql: Sql) -> None:
    """In batches, by a thread that runs from the start; those that are not old stay."""
    sql(
        "INSERT INTO users_idempotency (key, fingerprint, user_id, answer, created_at) "
        "SELECT 'k' || n, '', n, '', now() - make_interval(hours => n) FROM generate_series(1, 2500) AS n"
    )
    make_app(DATABASE_URL=database_url)
    wait_until(lambda: sql("SELECT count(*), max(user_id) FROM users_idempotency") == [(23, 23)], what="23 keys")


def test_a_failed_request_keeps_nothing(client: FlaskClient, sql: Sql) -> None:
    """The key of a bad or clashing request can be used again."""
    post(client, "other")
    assert post(client, "k").status_code == 409
    assert post(client, "k", {"username": "x", "email": "y"}).status_code == 400
    assert sql("SELECT key FROM users_idempotency") == [("other",)]
