"""Fixtures of the links service's tests: the application in process, and the service under gunicorn."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg2
import pytest
from flask.testing import FlaskClient

from chassis.servers import PostgresServer
from chassis.testing.apps import MakeApp, app_maker
from chassis.testing.databases import migrate
from chassis.testing.gunicorn import GunicornProcess
from chassis.testing.plugin import StartGunicorn
from links import create_app
from links.settings import Settings

StartLinks = Callable[..., GunicornProcess]


@pytest.fixture(scope="session")
def database_template(postgres_server: PostgresServer) -> str:
    """A database with the schema and none in it; `database_url` is a copy of it."""
    migrate("links", postgres_server.create_database("links_template"))
    return "links_template"


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
def client(database_url: str, redis_url: str, make_app: MakeApp) -> FlaskClient:
    """A client of the service with an empty table and an empty cache, which has time on a busy machine.

    It stops before they go.
    """
    patient = {"DB_CONNECT_TIMEOUT_MS": "5000", "DB_OPERATION_TIMEOUT_MS": "8000"}
    return make_app(DATABASE_URL=database_url, REDIS_URL=redis_url, **patient).test_client()


@pytest.fixture
def links(gunicorn: StartGunicorn) -> StartLinks:
    """`links(DATABASE_URL=…, …)` is the service under gunicorn, alive; with one worker unless told otherwise.

    Two of them on the same stores are two workers whose answers a test can tell apart.
    """

    def start(*, wait: bool = True, **env: str) -> GunicornProcess:
        return gunicorn("links", wait=wait, **{"DRAIN_SECONDS": "0", "WEB_CONCURRENCY": "1", **env})

    return start


@pytest.fixture
def postgres(private_postgres: PostgresServer) -> PostgresServer:
    """A PostgreSQL for this test alone, with the schema in its database `postgres`."""
    migrate("links", private_postgres.url)
    return private_postgres
