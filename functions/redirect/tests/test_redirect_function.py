"""The function as functions-framework runs it, on a real database."""

from __future__ import annotations

import http.client
import os
import signal
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psycopg2
import pytest

from chassis import migrations
from chassis.children import free_port, port_is_free, spawn
from chassis.servers import PostgresServer
from chassis.settings import DatabaseSettings, parse_database_url
from chassis.testing import CutProxy, wait_until

FOLDER = Path(__file__).resolve().parents[1]


def query(url: str, statement: str) -> list[tuple[Any, ...]]:
    """The rows of a statement."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture
def database(postgres_server: PostgresServer) -> Iterator[str]:
    """A database with a few links."""
    url = postgres_server.create_database("redirect_function")
    migrations.upgrade("links", DatabaseSettings(**parse_database_url(url)))
    query(
        url,
        "INSERT INTO links (code, url, disabled_at, expires_at) VALUES "
        "('live', 'https://example.com/a?b=%C3%BC&c=[d]', NULL, now() + interval '1 day'), "
        "('off', 'https://example.com/', now(), NULL), ('over', 'https://example.com/', NULL, now())",
    )
    yield url
    postgres_server.drop_database("redirect_function")


def test_the_function(database: str, tmp_path: Path) -> None:
    """It redirects, says what is gone, counts each click once, finds its database again, and stores the last clicks
    when it is ended.
    """
    port = free_port()
    settings = DatabaseSettings(**parse_database_url(database))
    with CutProxy(settings.host, settings.port) as wire, (tmp_path / "log").open("wb") as log:
        environment = {"PATH": os.environ["PATH"], "DATABASE_URL": wire.url_for(database), "PYTHONWARNINGS": "ignore"}
        command = ["functions-framework", "--source", str(FOLDER / "main.py"), "--target", "redirect"]
        process = spawn(
            [str(Path(sys.executable).with_name(command[0])), *command[1:], "--port", str(port)],
            env=environment, cwd=tmp_path, stdout=log, stderr=log,
        )  # fmt: skip
        try:
            wait_until(lambda: not port_is_free(port), timeout_s=30)
            _check(port, wire, database)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(15)
    assert query(database, "SELECT clicks FROM links ORDER BY code") == [(8,), (0,), (0,)]
    assert "Traceback" not in (tmp_path / "log").read_text()


def _check(port: int, wire: CutProxy, database: str) -> None:
    def ask(method: str, path: str) -> tuple[int, Any]:
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=20)) as connection:
            connection.request(method, path)
            answer = connection.getresponse()
            answer.read()
            return answer.status, answer.headers

    assert ask("GET", "/health/live")[0] == 200
    assert wire.connections == 0
    status, headers = ask("GET", "/live")
    assert (status, headers["Location"]) == (302, "https://example.com/a?b=%C3%BC&c=[d]")
    assert (headers["Cache-Control"], headers["X-Robots-Tag"]) == ("private, max-age=0", "noindex")
    for _ in range(4):
        assert ask("GET", "/live")[0] == 302
    assert ask("HEAD", "/live")[0] == 302
    wait_until(lambda: query(database, "SELECT clicks FROM links WHERE code = 'live'") == [(5,)])
    assert wire.connections == 1
    wanted = {"/off": 410, "/over": 410, "/nothere": 404, "/": 404, "/live/x": 404, "/%00": 404, "/a%0d%0ab:c": 404}
    assert {path: ask("GET", path)[0] for path in wanted} == wanted
    assert ask("POST", "/live")[0] == 405
    wire.cut()
    status, headers = ask("GET", "/live")
    assert (status, headers["Retry-After"]) == (503, "1")
    assert headers["Content-Type"] == "application/problem+json"
    wire.heal()
    for _ in range(3):
        assert ask("GET", "/live")[0] == 302
    assert wire.connections == 2
