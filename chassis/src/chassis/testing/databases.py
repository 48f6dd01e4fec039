"""What tests do to a database behind a service's back."""

from contextlib import closing
from typing import Any, Protocol

import psycopg2

from chassis.settings import DatabaseSettings, parse_database_url


class Sql(Protocol):
    """What the fixture `sql` gives."""

    def __call__(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of one statement, run in the test's database."""


def migrate(package: str, url: str) -> None:
    """Give the database at `url` the schema of the service `package`."""
    from chassis import migrations  # Alembic takes its time to import, and every test run loads this module

    migrations.upgrade(package, DatabaseSettings(**parse_database_url(url)))


def query(url: str, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
    """The rows of one statement, run at `url`."""
    with closing(psycopg2.connect(url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement, parameters or None)
            return cursor.fetchall() if cursor.description else []
