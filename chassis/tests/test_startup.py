"""chassis.startup and chassis.migrations: before a service serves."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor

import psycopg2
import pytest

from chassis import migrations
from chassis.servers import PostgresServer
from chassis.settings import DatabaseSettings, parse_database_url
from chassis.startup import DatabaseNotThere, wait_for_database


def settings_of(url: str) -> DatabaseSettings:
    """Settings for the database at `url`."""
    return DatabaseSettings(**parse_database_url(url))


def test_five_attempts_each_a_warning_then_a_clear_error(free_port: int, caplog: pytest.LogCaptureFixture) -> None:
    """Waits of 0, 2, 4, 8 and 16 s, each attempt logged; the error says where it looked and what to check."""
    slept: list[float] = []
    with caplog.at_level(logging.WARNING), pytest.raises(DatabaseNotThere, match=rf"127\.0\.0\.1:{free_port}.*DB_HOST"):
        wait_for_database(
            settings_of(f"postgresql://u:secret@127.0.0.1:{free_port}/x"), application="test", sleep=slept.append
        )
    assert slept == [2, 4, 8, 16]
    assert len([each for each in caplog.records if each.levelno == logging.WARNING]) == 5
    assert "secret" not in caplog.text


def test_a_database_that_comes_late_is_waited_for(private_postgres: PostgresServer) -> None:
    """The server starts while it is being waited for: no error."""
    url = private_postgres.url
    private_postgres.stop()
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            private_postgres.start()

    wait_for_database(settings_of(url), application="test", sleep=sleep)
    assert slept == [2, 4]


def test_migrations_may_run_twice_and_at_once(database_url: str) -> None:
    """Two processes that migrate wait for each other, and the second finds nothing to do."""
    settings = settings_of(database_url)
    with ThreadPoolExecutor(2) as executor:
        list(executor.map(lambda _: migrations.upgrade("sample_service", settings), range(2)))
    migrations.upgrade("sample_service", settings)
    connection = psycopg2.connect(database_url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT version_num FROM sample_service_alembic_version")
        assert cursor.fetchall() == [("0001",)]
        cursor.execute("INSERT INTO notes (text) VALUES ('x') RETURNING id")
        assert cursor.fetchall() == [(1,)]
    connection.close()
