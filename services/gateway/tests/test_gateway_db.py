"""`gateway-db`: schema and first routes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import psycopg2
import pytest

from chassis import console
from chassis.console import Failed
from gateway import db

Routes = Callable[[], list[tuple[str, str]]]


@pytest.fixture(autouse=True)
def _own_process(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What a command does to its process ends with the test: logging, the wait callback."""
    monkeypatch.setattr(console, "configure_logging", lambda *_: None)
    yield
    psycopg2.extensions.set_wait_callback(None)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Callable[..., str]:
    """`run(USER_URL="http://…")` is `gateway-db create` with these variables, in the test's database."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    def run(**env: str) -> str:
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        return db.run(["create"])

    return run


@pytest.fixture
def routes(database_url: str) -> Routes:
    """`routes()` are service and URL of all routes, in their order."""

    def read() -> list[tuple[str, str]]:
        with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT service, url FROM routes ORDER BY id")
            return cursor.fetchall()

    return read


def test_the_first_start_makes_the_schema_and_the_houses_routes(run: Callable[..., str], routes: Routes) -> None:
    """One route for every service that has a URL; a service that gets one later is added; others stay."""
    assert "storefront/catalogue/prod/v1 to http://127.0.0.1:5000" in run()
    assert routes() == [("catalogue", "http://127.0.0.1:5000"), ("user", "http://127.0.0.1:5001")]
    assert run() == run()
    assert "set" not in run()
    assert "storefront/links/prod/v1 to http://127.0.0.1:5002" in run(LINKS_URL="http://127.0.0.1:5002")
    assert [service for service, _ in routes()] == ["catalogue", "user", "links"]


def test_untouched_routes_follow_the_settings(run: Callable[..., str], routes: Routes, database_url: str) -> None:
    """A new URL in the settings moves them; what an operator has changed or deleted is left alone."""
    run()
    run(CATALOGUE_URL="http://127.0.0.1:6000")
    assert dict(routes())["catalogue"] == "http://127.0.0.1:6000"
    with db.connected(table="routes") as settings, db.registry_of(settings) as registry:
        ids = {route.service: route.id for route in registry.snapshot().routes}
        registry.update(ids["catalogue"], {"url": "http://127.0.0.1:7000"}, actor="ann")
        registry.delete(ids["user"], actor="ann")
    run(CATALOGUE_URL="http://127.0.0.1:8000", USER_URL="http://127.0.0.1:8001")
    assert routes() == [("catalogue", "http://127.0.0.1:7000")]


def test_several_at_once_make_it_once(run: Callable[..., str], routes: Routes) -> None:
    """Three replicas that start together: all succeed, nothing is there twice."""
    with ThreadPoolExecutor(3) as threads:
        assert all("up to date" in line for line in threads.map(lambda _: run(), range(3)))
    assert len(routes()) == 2


def test_without_a_database_it_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    """At once: there is nothing to wait for."""
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.delenv("DB_HOST", raising=False)
    with pytest.raises(Failed, match="set DATABASE_URL or DB_HOST"):
        db.run(["create"])


@pytest.mark.slow
def test_the_command_ends_with_a_status(database_url: str) -> None:
    """0 and a line on stderr; 1 and one line when it cannot."""
    command = [sys.executable, "-m", "gateway.db"]
    env = {**os.environ, "DATABASE_URL": database_url}
    done = subprocess.run([*command, "create"], env=env, capture_output=True, text=True, check=True)
    assert done.stderr.startswith("The schema of routes in test_")
    bad = subprocess.run([*command, "create"], env={**env, "PORT": "x"}, capture_output=True, text=True, check=False)
    assert (bad.returncode, bad.stderr.count("\n")) == (1, 1)
    assert bad.stderr.startswith("gateway-db: PORT: got 'x'")


def test_a_bad_command_line_says_what_it_wants(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2 and a usage line, before anything is touched."""
    with pytest.raises(SystemExit) as error:
        db.run(["drop"])
    assert error.value.code == 2
    assert "usage: gateway-db" in capsys.readouterr().err
