"""`user-db`: schema and made-up users."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg2
import pytest
from flask import Flask

from chassis import console
from chassis.console import Failed
from chassis.servers import PostgresServer
from user import db

MakeApp = Callable[..., Flask]
Sql = Callable[..., list[tuple[Any, ...]]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Callable[..., str]:
    """`run("seed", "--count", "5")` does what the command line does, in the test's database."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setattr(console, "configure_logging", lambda *_: None)
    return lambda *arguments: db.run(arguments)


def test_seeding_fills_the_table_up_to_a_number(run: Callable[..., str], sql: Sql) -> None:
    """Unique, the same for the same number; doing it again adds nothing, a larger number adds the difference."""
    assert "Added 1,500 users" in run("seed", "--count", "1500")
    rows = sql("SELECT username, email, full_name FROM users ORDER BY id")
    assert rows[0] == ("user-00000001", "user-00000001@example.com", "Alan Allen")
    assert len({row[0] for row in rows}) == len({row[1] for row in rows}) == 1500
    assert "nothing to do" in run("seed", "--count", "1500")
    assert "nothing to do" in run("seed", "--count", "10")
    assert "Added 10 users" in run("seed", "--count", "1510")
    assert sql("SELECT count(*), max(username) FROM users") == [(1510, "user-00001510")]


def test_seeding_goes_round_users_who_are_there(run: Callable[..., str], sql: Sql) -> None:
    """People's own accounts count, gaps are not filled, and no name is given twice."""
    sql("INSERT INTO users (username, email) VALUES ('ada', 'ada@example.com'), ('user-00000007', 'x@example.com')")
    assert "Added 8 users" in run("seed", "--count", "10")
    sql("DELETE FROM users WHERE username = 'user-00000009'")
    run("seed", "--count", "10")
    names = [row[0] for row in sql("SELECT username FROM users WHERE username LIKE 'user-%' ORDER BY 1")]
    assert names == [f"user-{number:08d}" for number in (7, 8, *range(10, 17))]


def test_seeded_users_can_be_read_at_once(run: Callable[..., str], make_app: MakeApp, database_url: str) -> None:
    """With total and pages; and a seeded name cannot be taken again."""
    run("seed", "--count", "120")
    client = make_app(DATABASE_URL=database_url).test_client()
    assert client.get("/api/v1/users?page=3").get_json()["total"] == 120
    taken = {"username": "user-00000001", "email": "new@example.com"}
    assert client.post("/api/v1/users", json=taken).status_code == 409


def test_it_is_fast(run: Callable[..., str], sql: Sql) -> None:
    """COPY, in chunks: 50,000 users take seconds, not minutes."""
    began_s = time.monotonic()
    run("seed", "--count", "50000")
    assert time.monotonic() - began_s < 20
    assert sql("SELECT sum(users) FROM users_total") == [(50_000,)]


@pytest.mark.parametrize("line", ["", "drop", "seed", *(f"seed --count {n}" for n in ("0", "-5", "x", "100000000"))])
def test_a_bad_command_line_says_what_it_wants(
    run: Callable[..., str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 2 and a usage line, before anything is touched."""
    with pytest.raises(SystemExit) as error:
        run(*line.split())
    assert error.value.code == 2
    assert "usage: user-db" in capsys.readouterr().err


def test_seeding_without_a_schema_says_so(postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line, not a traceback."""
    monkeypatch.setattr(console, "configure_logging", lambda *_: None)
    monkeypatch.setenv("DATABASE_URL", postgres_server.create_database("user_bare"))
    try:
        with pytest.raises(Failed, match="user-db create"):
            db.run(["seed", "--count", "5"])
    finally:
        postgres_server.drop_database("user_bare")


def test_creating_the_schema_is_idempotent_and_waits_its_turn(
    postgres_server: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three at the same time, then once more: one makes it, all succeed, and the data stays."""
    monkeypatch.setattr(console, "configure_logging", lambda *_: None)
    url = postgres_server.create_database("user_thrice")
    monkeypatch.setenv("DATABASE_URL", url)
    try:
        with ThreadPoolExecutor(3) as threads:
            assert all("up to date" in line for line in threads.map(lambda _: db.run(["create"]), range(3)))
        db.run(["seed", "--count", "3"])
        db.run(["create"])
        connection = psycopg2.connect(url)
        with connection, connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM users")
            assert cursor.fetchone() == (3,)
        connection.close()
    finally:
        postgres_server.drop_database("user_thrice")


@pytest.mark.slow
def test_the_command_ends_with_a_status(database_url: str) -> None:
    """0 and a line on stderr; 1 and one line when it cannot."""
    command = [sys.executable, "-m", "user.db", "seed", "--count", "3"]
    env = {**os.environ, "DATABASE_URL": database_url}
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stderr == "Added 3 users, now there are 3\n"
    bad = subprocess.run(command, env={**env, "PORT": "x"}, capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stderr) == (1, bad.stderr.splitlines()[0] + "\n")
    assert bad.stderr.startswith("user-db: PORT: got 'x'")
