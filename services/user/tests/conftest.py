"""Fixtures of the user service's tests: the application in process, and the service under gunicorn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from typing import Any

import psycopg2
import pytest
from flask.testing import FlaskClient

from chassis import migrations
from chassis.servers import PostgresServer
from chassis.settings import DatabaseSettings, parse_database_url
from chassis.testing.apps import MakeApp, app_maker
from chassis.testing.gunicorn import GunicornProcess
from chassis.testing.plugin import StartGunicorn
from user import create_app
from user.settings import Settings

StartUser = Callable[..., GunicornProcess]
Sql = Callable[..., list[tuple[Any, ...]]]


def migrate(url: str) -> None:
    """Give the database at `url` the schema of users."""
    migrations.upgrade("user", DatabaseSettings(**parse_database_url(url)))


def query(url: str, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of one statement, run at `url` behind the service's back."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []


@pytest.fixture(scope="session")
def database_template(postgres_server: PostgresServer) -> str:
    """A database with the schema and nobody in it; `database_url` is a copy of it."""
    migrate(postgres_server.create_database("user_template"))
    return "user_template"


@pytest.fixture(autouse=True)
def _own_wait_callback() -> Iterator[None]:
    """The wait callback that an application installs belongs to the process: here it ends with the test."""
    yield
    psycopg2.extensions.set_wait_callback(None)


@pytest.fixture
def make_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeApp]:
    """`make_app(DATABASE_URL=…, …)` builds the application with exactly these variables."""
    yield from app_maker(create_app, Settings, monkeypatch)


@pytest.fixture
def client(make_app: MakeApp, database_url: str, redis_url: str) -> FlaskClient:
    """A client of the service with an empty table and an empty cache, which has time on a busy machine."""
    patient = {"DB_CONNECT_TIMEOUT_MS": "5000", "DB_OPERATION_TIMEOUT_MS": "8000"}
    return make_app(DATABASE_URL=database_url, REDIS_URL=redis_url, **patient).test_client()


@pytest.fixture
def sql(database_url: str) -> Sql:
    """`sql(statement, *parameters)` runs a statement in the test's database and returns its rows."""
    return lambda statement, *parameters: query(database_url, statement, *parameters)


@pytest.fixture
def user(gunicorn: StartGunicorn) -> StartUser:
    """`user(DATABASE_URL=…, …)` is the service under gunicorn, alive; with one worker unless told otherwise.

    Two of them on the same stores are two workers whose answers a test can tell apart.
    """

    def start(*, wait: bool = True, **env: str) -> GunicornProcess:
        return gunicorn("user", wait=wait, **{"DRAIN_SECONDS": "0", "WEB_CONCURRENCY": "1", **env})

    return start


@pytest.fixture
def postgres(private_postgres: PostgresServer) -> PostgresServer:
    """A PostgreSQL for this test alone, with the schema in its database `postgres`."""
    migrate(private_postgres.url)
    return private_postgres
