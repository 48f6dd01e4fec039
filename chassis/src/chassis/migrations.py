"""Schema changes by Alembic, from a service's own package, one process at a time, never inside a web worker."""

from __future__ import annotations

import logging
from importlib import resources
from typing import Any

from alembic.config import Config
from alembic.runtime.environment import EnvironmentContext
from alembic.script import ScriptDirectory
from sqlalchemy import URL, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool

from chassis.settings import DatabaseSettings

log = logging.getLogger(__name__)

LOCK_KEY = 0x53544F52
"""The advisory lock that makes a second migration wait for the first."""

LOCK_TIMEOUT = "1s"
"""Of a statement of a migration. While one waits for a table, everybody who comes after it waits too, so it gives up,
and the migration is run again (docs/decisions/0070-kubernetes.md)."""


def upgrade(package: str, settings: DatabaseSettings, *, revision: str = "head") -> None:
    """Bring the schema to `revision` with the scripts in `<package>/migrations`. Doing it again changes nothing.

    Old services may be at work meanwhile: a migration never waits long for a table that they use, it fails and leaves
    all as it was. Services may share a database: the version table is named `<package>_alembic_version`.

    Raises:
        psycopg2.Error: a statement failed, or a table was in use for longer than `LOCK_TIMEOUT`.
    """
    config = Config()
    config.set_main_option("script_location", str(resources.files(package) / "migrations"))
    script = ScriptDirectory.from_config(config)
    url = URL.create(
        "postgresql+psycopg2",
        settings.user,
        settings.password.get_secret_value() if settings.password else None,
        settings.host,
        settings.port,
        settings.name,
        query={"sslmode": settings.sslmode, "application_name": f"{package}-migrations", "connect_timeout": "5"},
    )
    try:
        with create_engine(url, poolclass=NullPool).begin() as connection:
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": LOCK_KEY})
            connection.execute(text(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT}'"))

            def plan(current: Any, _context: object) -> Any:
                return script._upgrade_revs(revision, current)  # noqa: SLF001 - as alembic.command.upgrade does

            with EnvironmentContext(config, script, fn=plan, destination_rev=revision) as environment:
                environment.configure(connection=connection, version_table=f"{package}_alembic_version")
                environment.run_migrations()
    except DBAPIError as error:
        raise (error.orig or error) from error
    log.info("Schema of %s is at %s", package, revision)
