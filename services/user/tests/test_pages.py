"""Pages of users: numbers, limits, links, and the walk by `after` while others write."""

from __future__ import annotations

import itertools
import random
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from flask import Flask
from flask.testing import FlaskClient

from chassis.testing import Meanwhile
from user import repository

MakeApp = Callable[..., Flask]
Sql = Callable[..., list[tuple[Any, ...]]]
INSERT = "INSERT INTO users (username, email) VALUES (%s, %s || '@example.com') RETURNING id"


def fill(sql: Sql, count: int) -> None:
    """Add so many users."""
    sql(
        "INSERT INTO users (username, email) "
        "SELECT 'user-' || n, 'user-' || n || '@example.com' FROM generate_series(1, %s) AS n",
        count,
    )


def one(cursor: Any) -> int:
    """The only value of the only row."""
    return int(cursor.fetchone()[0])


def links(answer: Any) -> dict[str, str]:
    """rel → address."""
    return {rel: address for address, rel in re.findall(r'<([^>]+)>; rel="(\w+)"', answer.headers["Link"])}


def walk(client: FlaskClient, address: str = "/api/v1/users?after=0&per_page=7") -> Iterator[list[dict[str, Any]]]:
    """The users of each page, by `next` to the end."""
    while True:
        answer = client.get(address)
        assert answer.status_code == 200, answer.text
        yield answer.get_json()["users"]
        if "next" not in links(answer):
            return
        address = links(answer)["next"]


def test_an_empty_table_is_one_empty_page(client: FlaskClient) -> None:
    """By number and by `after`; there is no next page."""
    for query in ("", "?after=0"):
        answer = client.get(f"/api/v1/users{query}")
        assert (
            answer.status_code,
            answer.get_json()["users"],
            answer.get_json()["total"],
            answer.get_json()["pages"],
        ) == (200, [], 0, 0)
        assert set(links(answer)) == {"first"}


def test_a_page_is_fifty_users_by_id_unless_told_otherwise(client: FlaskClient, sql: Sql) -> None:
    """With its number, size, and how many there are in all; more than 100 means 100."""
    fill(sql, 120)
    for query, page, per_page, first, count in (
        ("", 1, 50, 1, 50),
        ("?page=2", 2, 50, 51, 50),
        ("?page=3", 3, 50, 101, 20),
        ("?page=4", 4, 50, None, 0),
        ("?per_page=100", 1, 100, 1, 100),
        ("?per_page=101", 1, 100, 1, 100),
        ("?per_page=99999999999999999999999999999999999999", 1, 100, 1, 100),
        ("?page=40&per_page=3", 40, 3, 118, 3),
        ("?page=120&per_page=1", 120, 1, 120, 1),
    ):
        body = client.get(f"/api/v1/users{query}").get_json()
        assert (body["page"], body["per_page"], body["total"], body["pages"]) == (
            page,
            per_page,
            120,
            -(-120 // per_page),
        )
        assert len(body["users"]) == count
        assert [user["id"] for user in body["users"]] == list(range(first or 0, (first or 0) + count))


@pytest.mark.parametrize("query", ["?after=40", "?after=40&per_page=50"])
def test_a_page_by_after_has_no_number(client: FlaskClient, sql: Sql, query: str) -> None:
    """It begins behind the id, which need not exist, and has everything else of a page."""
    fill(sql, 120)
    sql("DELETE FROM users WHERE id BETWEEN 30 AND 45")
    body = client.get(f"/api/v1/users{query}").get_json()
    assert [user["id"] for user in body["users"]] == list(range(46, 96))
    assert (body["page"], body["per_page"], body["total"], body["pages"]) == (None, 50, 104, 3)


def test_bad_parameters_are_400_and_named(client: FlaskClient) -> None:
    """Zero, negative, not a number, twice, unknown, and what excludes each other."""
    for query, field in (
        ("page=0", "page"), ("page=-1", "page"), ("page=x", "page"), ("page=", "page"), ("page=1.0", "page"),
        ("page=%2B1", "page"), ("page=1_0", "page"), ("page= 1", "page"), ("page=1e3", "page"), ("page=%D9%A1", "page"),
        ("per_page=0", "per_page"), ("per_page=-5", "per_page"), ("per_page=abc", "per_page"),
        ("after=-1", "after"), ("after=x", "after"), ("after=9223372036854775808", "after"),
        ("after=" + "9" * 40, "after"),
        ("page=1&page=2", "page"), ("limit=5", "limit"), ("after=1&page=1", "after"), ("after=1&email=a@b.de", "after"),
        ("page=" + "9" * 400, "page"), ("username=%00", "username"), ("email=" + "a" * 300, "email"),
    ):  # fmt: skip
        answer = client.get(f"/api/v1/users?{query}")
        assert answer.status_code == 400, query
        assert answer.content_type == "application/problem+json"
        assert answer.get_json()["errors"][0]["field"] == field, query
        assert answer.get_json()["error"].startswith(field)


def test_numbered_pages_end_100_000_users_deep(client: FlaskClient) -> None:
    """The first page beyond is 400 and says how to go on; the last one is not."""
    for query in ("page=1001&per_page=100", "page=2001", "page=100001&per_page=1"):
        answer = client.get(f"/api/v1/users?{query}")
        assert answer.status_code == 400
        assert "after" in answer.get_json()["detail"]
    for query in ("page=1000&per_page=100", "page=2000", "page=100000&per_page=1"):
        assert client.get(f"/api/v1/users?{query}").status_code == 200


def test_links_lead_to_first_previous_and_next(client: FlaskClient, sql: Sql) -> None:
    """They keep the size of the page; `next` goes by the last id."""
    fill(sql, 30)
    assert links(client.get("/api/v1/users?per_page=10")) == {
        "first": "/api/v1/users?per_page=10", "next": "/api/v1/users?per_page=10&after=10",
    }  # fmt: skip
    assert links(client.get("/api/v1/users?per_page=10&page=2")) == {
        "first": "/api/v1/users?per_page=10",
        "prev": "/api/v1/users?per_page=10&page=1",
        "next": "/api/v1/users?per_page=10&after=20",
    }
    assert "next" not in links(client.get("/api/v1/users?per_page=10&page=3"))
    assert "next" not in links(client.get("/api/v1/users?per_page=10&after=20"))


def test_a_walk_sees_everybody_once(client: FlaskClient, sql: Sql) -> None:
    """By `next`, from the first numbered page or from `after=0`."""
    fill(sql, 100)
    sql("DELETE FROM users WHERE id % 7 = 0")
    expected = [number for number in range(1, 101) if number % 7]
    for start in ("/api/v1/users?after=0&per_page=7", "/api/v1/users?per_page=9"):
        assert [user["id"] for page in walk(client, start) for user in page] == expected


def test_a_walk_waits_for_an_insert_in_flight(client: FlaskClient, sql: Sql, database_url: str) -> None:
    """An id given out before the walk came by and committed after is seen all the same."""
    fill(sql, 3)
    with closing(psycopg2.connect(database_url)) as slow, slow.cursor() as cursor:
        cursor.execute(INSERT, ("slow", "slow"))
        late = one(cursor)
        early = sql(INSERT, "quick", "quick")[0][0]
        assert late < early
        committing = threading.Timer(0.3, slow.commit)
        committing.start()
        seen = [user["id"] for page in walk(client) for user in page]
        committing.join()
    assert seen == [1, 2, 3, late, early]


def test_an_insert_that_hangs_holds_nobody_up_twice(
    client: FlaskClient, sql: Sql, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody's forgotten transaction is waited for once, for so long and no longer; then pages go on without it."""
    monkeypatch.setattr(repository, "IN_FLIGHT_LIMIT_S", 0.2)
    with closing(psycopg2.connect(database_url)) as forgotten, forgotten.cursor() as cursor:
        cursor.execute(INSERT, ("forgotten", "forgotten"))
        for name in ("one", "two"):
            client.post("/api/v1/users", json={"username": name, "email": f"{name}@example.com"})
            assert [user["username"] for user in client.get("/api/v1/users?after=0").get_json()["users"]][-1] == name


def test_an_undone_insert_is_not_waited_for(client: FlaskClient, sql: Sql) -> None:
    """Its id stays free, and the walk goes over the gap."""
    client.post("/api/v1/users", json={"username": "ada", "email": "ada@example.com"})
    assert client.post("/api/v1/users", json={"username": "ada", "email": "x@example.com"}).status_code == 409
    client.post("/api/v1/users", json={"username": "bob", "email": "bob@example.com"})
    assert [user["username"] for page in walk(client) for user in page] == ["ada", "bob"]


def test_a_walk_neither_skips_nor_repeats_while_others_insert_and_delete(
    make_app: MakeApp, database_url: str, sql: Sql
) -> None:
    """Whoever is there to the end and has an id that the walk went by was seen by it, once.

    The writers hold their transactions open for random times, so that ids are committed out of order.
    """
    fill(sql, 60)
    client = make_app(DATABASE_URL=database_url).test_client()
    committed: list[int] = []
    numbers = itertools.count()

    def write(ending: threading.Event) -> None:
        chance = random.Random(next(numbers))
        with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
            while not ending.is_set():
                name = f"writer-{next(numbers)}"
                cursor.execute(INSERT, (name, name))
                new = one(cursor)
                ending.wait(chance.uniform(0, 0.02))  # other ids are given out and committed meanwhile
                connection.commit()
                committed.append(new)
                cursor.execute("DELETE FROM users WHERE id = %s", (chance.randrange(1, new),))
                connection.commit()

    walks = []
    with Meanwhile(write, threads=4) as writing:
        while len(committed) < 200 and not writing.ending.is_set():
            walks.append([user["id"] for page in walk(client, "/api/v1/users?after=0&per_page=20") for user in page])
    there = {row[0] for row in sql("SELECT id FROM users")}
    for seen in walks:
        assert seen == sorted(set(seen))
        assert not {number for number in there if number <= seen[-1]} - set(seen)


def test_totals_stay_exact_above_100_000_users(client: FlaskClient, sql: Sql) -> None:
    """The count is kept, not estimated, so nothing says that it is an estimate; deep pages are at hand."""
    fill(sql, 100_250)
    body = client.get("/api/v1/users?page=1000&per_page=100").get_json()
    assert (body["total"], len(body["users"])) == (100_250, 100)
    assert "total_is_estimate" not in body
    following = client.get("/api/v1/users?per_page=100&after=100000").get_json()
    assert [user["id"] for user in following["users"]] == list(range(100_001, 100_101))


def test_the_page_of_a_large_table_reads_a_few_blocks(sql: Sql) -> None:
    """No statement behind a page by `after` touches more of the table than the page, wherever it is."""
    fill(sql, 50_000)
    sql("ANALYZE users")
    for after in (0, 25_000, 49_900):
        values = {"after": after, "limit": 51, "top": 2**63 - 1}
        statement = repository._AFTER % {name: str(value) for name, value in values.items()}
        plan = sql("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) " + statement)[0][0][0]["Plan"]
        assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 60


def test_head_is_get_without_the_body(client: FlaskClient) -> None:
    """The same headers, no body."""
    get, head = client.get("/api/v1/users"), client.head("/api/v1/users")
    assert (head.status_code, head.data, head.headers["Content-Length"]) == (200, b"", get.headers["Content-Length"])
