"""Fixtures of the catalogue's tests: the application in process, and the service under gunicorn."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import psycopg2
import pytest
from flask.testing import FlaskClient

from catalogue import create_app, repository
from catalogue.products import PACKAGED, Product, read_file
from catalogue.settings import Settings
from chassis.servers import PostgresServer
from chassis.testing.apps import MakeApp, app_maker
from chassis.testing.databases import migrate
from chassis.testing.gunicorn import GunicornProcess
from chassis.testing.plugin import StartGunicorn

StartCatalogue = Callable[..., GunicornProcess]


def load_products(url: str, products: list[Product]) -> None:
    """Put `products` into the database at `url`."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        for _ in repository.upsert(cursor, products):
            pass
        repository.move_sequence(cursor)


@pytest.fixture(scope="session")
def database_template(postgres_server: PostgresServer) -> str:
    """A database with the schema and the packaged products; `database_url` is a copy of it."""
    url = postgres_server.create_database("catalogue_template")
    migrate("catalogue", url)
    load_products(url, read_file(PACKAGED))
    return "catalogue_template"


@pytest.fixture
def make_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeApp]:
    """`make_app(DATA_SOURCE="db", …)` builds the application with exactly these variables."""
    yield from app_maker(create_app, Settings, monkeypatch)


@pytest.fixture
def client(make_app: MakeApp) -> FlaskClient:
    """A client of the catalogue in JSON mode, with the packaged products."""
    return make_app().test_client()


@pytest.fixture
def db_client(make_app: MakeApp, database_url: str) -> FlaskClient:
    """A client of the catalogue in database mode, with the packaged products in the database."""
    return make_app(DATA_SOURCE="db", DATABASE_URL=database_url).test_client()


@pytest.fixture
def catalogue(gunicorn: StartGunicorn) -> StartCatalogue:
    """`catalogue(DATA_SOURCE="db", …)` is the service under gunicorn with two workers, alive."""

    def start(*, wait: bool = True, **env: str) -> GunicornProcess:
        return gunicorn("catalogue", wait=wait, **{"DRAIN_SECONDS": "0", **env})

    return start


@pytest.fixture
def products_file(tmp_path: Path) -> Callable[[Any], Path]:
    """`products_file(content)` is the path of a file with that JSON."""

    def write(content: Any) -> Path:
        path = tmp_path / "products.json"
        path.write_bytes(content if isinstance(content, bytes) else orjson.dumps(content))
        return path

    return write
