"""`user-db`: the schema of the user service's database, and users to fill it with."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chassis import console, migrations
from chassis.database import connect
from chassis.settings import DatabaseSettings
from user import seeding
from user.settings import Settings

APPLICATION = "user-db"


def create(settings: DatabaseSettings) -> str:
    """Make the schema, or bring it up to date. Returns what was done."""
    migrations.upgrade("user", settings)
    return f"The schema of users in {settings.name} is up to date"


def seed(settings: DatabaseSettings, count: int) -> str:
    """Fill the table up to `count` users. Returns what was done."""
    with closing(connect(settings, application=APPLICATION)) as connection:
        there, first = seeding.state(connection)
        missing = count - there
        if missing <= 0:
            return f"There are {there:,} users already, {count:,} were asked for: nothing to do"
        if first + missing - 1 > seeding.MAX_NUMBER:
            raise console.Failed(f"Numbers of seeded users end at {seeding.MAX_NUMBER:,}")
        with _progress() as progress:
            task = progress.add_task("Seeding users", total=missing)
            for written in seeding.fill(connection, first=first, count=missing):
                progress.update(task, completed=written)
    return f"Added {missing:,} users, now there are {count:,}"


def _progress() -> Progress:
    """A bar on stderr, for as long as the work takes; nothing where nobody watches."""
    terminal = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal)


def _positive(text: str) -> int:
    number = int(text)
    if not 0 < number <= seeding.MAX_NUMBER:
        raise ValueError
    return number


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main_parser = argparse.ArgumentParser(
        prog=APPLICATION,
        description="Schema and data of the user service's database. "
        "Where that is, is read as the service does: DATABASE_URL or DB_HOST, DB_NAME, DB_USER, DB_PASSWORD.",
    )
    verbs = main_parser.add_subparsers(dest="verb", required=True, metavar="create|seed")
    verbs.add_parser("create", help="make the schema, or bring it up to date; doing it again changes nothing")
    seeder = verbs.add_parser("seed", help="fill the table with made-up users; doing it again changes nothing")
    seeder.add_argument(
        "--count", type=_positive, required=True, metavar="N", help="how many users there shall be in all"
    )
    return main_parser


def run(arguments: Sequence[str] | None = None) -> str:
    """Do what the command line says, once the database is there. Returns what was done.

    Raises:
        console.Failed: with one line that says why not.
    """
    options = parser().parse_args(arguments)
    with console.connected(Settings, service="user", table="users") as settings:
        if options.verb == "create":
            return create(settings.db)
        return seed(settings.db, options.count)


def main() -> None:
    """The console script: exit status 0, or 1 with one line on stderr."""
    console.main("user", run)


if __name__ == "__main__":
    main()
