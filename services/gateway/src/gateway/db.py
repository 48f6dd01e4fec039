"""`gateway-db`: the schema of the registry's database, and the routes that the first start makes."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from chassis import console, migrations
from chassis.database import Database, install_wait_callback
from chassis.errors import DeadlineExceeded, Unavailable
from chassis.metrics import Metrics
from chassis.settings import SettingsError, load
from gateway.registry.house import house_routes
from gateway.registry.repository import Registry
from gateway.settings import Settings

APPLICATION = "gateway-db"
PATIENCE_MS = {"connect_timeout_ms": 5_000, "operation_timeout_ms": 30_000}
"""In the place of what a request may take: who runs a command rather waits than does it again."""


@contextmanager
def connected(*, table: str, log: bool = True) -> Iterator[Settings]:
    """As `console.connected`. Without DATABASE_URL or DB_HOST there is no registry, and nothing to wait for.

    Raises:
        console.Failed: with one line.
    """
    try:
        configured = load(Settings).has_database
    except SettingsError as error:
        raise console.Failed(str(error)) from error
    if not configured:
        raise console.Failed("There is no registry without a database: set DATABASE_URL or DB_HOST")
    with console.connected(Settings, service="gateway", table=table, log=log) as settings:
        yield settings


@contextmanager
def registry_of(settings: Settings) -> Iterator[Registry]:
    """The registry, for a program that uses it and ends.

    Raises:
        console.Failed: the database is lost meanwhile.
    """
    install_wait_callback()
    metrics = Metrics(service="gateway", version=settings.app_version, commit=settings.commit)
    database = Database(settings.db.model_copy(update=PATIENCE_MS), application=APPLICATION, metrics=metrics)
    try:
        yield Registry(database)
    except (Unavailable, DeadlineExceeded) as error:
        raise console.Failed(f"{error.detail}; try again") from error
    finally:
        database.close()


def create(settings: Settings) -> str:
    """Make the schema, or bring it up to date, and the storefront's own routes. Returns what was done."""
    migrations.upgrade("gateway", settings.db)
    with registry_of(settings) as registry:
        written = registry.bootstrap(house_routes(settings))
    names = ", ".join(f"{each.route.name} to {each.route.url}" for each in written)
    return f"The schema of routes in {settings.db.name} is up to date" + (f"; set {names}" if names else "")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main_parser = argparse.ArgumentParser(
        prog=APPLICATION,
        description="Schema and first routes of the registry's database. "
        "Where that is, is read as the gateway does: DATABASE_URL or DB_HOST, DB_NAME, DB_USER, DB_PASSWORD.",
    )
    verbs = main_parser.add_subparsers(dest="verb", required=True, metavar="create")
    verbs.add_parser(
        "create",
        help="make the schema, or bring it up to date, and routes to CATALOGUE_URL, USER_URL and LINKS_URL; doing it "
        "again lets these follow the settings, unless somebody has changed or deleted them",
    )
    return main_parser


def run(arguments: Sequence[str] | None = None) -> str:
    """Do what the command line says, once the database is there. Returns what was done.

    Raises:
        console.Failed: with one line that says why not.
    """
    parser().parse_args(arguments)
    with connected(table="routes") as settings:
        return create(settings)


def main() -> None:
    """The console script: exit status 0, or 1 with one line on stderr."""
    console.main("gateway", run)


if __name__ == "__main__":
    main()
