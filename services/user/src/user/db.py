"""`user-db`: the schema of the user service's database, and users to fill it with."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import closing

import psycopg2
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from chassis import migrations
from chassis.database import connect
from chassis.gunicorn import configure_logging
from chassis.settings import DatabaseSettings, SettingsError, load
from chassis.startup import DatabaseNotThere, wait_for_database
from user import seeding
from user.settings import Settings

APPLICATION = "user-db"


class Failed(Exception):
    """What was asked cannot be done; the message is for the person who asked."""


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
            raise Failed(f"Numbers of seeded users end at {seeding.MAX_NUMBER:,}")
        with _progress() as progress:
            task = progress.add_task("Seeding users", total=missing)
            for written in seeding.fill(connection, first=first, count=missing):
                progress.update(task, completed=written)
    return f"Added {missing:,} users, now there are {count:,}"


def _progress() -> Progress:
    """A bar on stderr, for as long as the work takes; nothing where nobody watches."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    return Progress(*columns, console=console, transient=True, disable=not console.is_terminal)


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
        Failed: with one line that says why not.
    """
    options = parser().parse_args(arguments)
    try:
        settings = load(Settings)
        configure_logging(settings, "user")
        wait_for_database(settings.db, application=APPLICATION)
        if options.verb == "create":
            return create(settings.db)
        return seed(settings.db, options.count)
    except (SettingsError, DatabaseNotThere) as error:
        raise Failed(str(error)) from error
    except psycopg2.errors.UndefinedTable as error:
        raise Failed("There is no table of users yet: run `user-db create` first") from error
    except psycopg2.Error as error:
        raise Failed(f"The database said no: {error.diag.message_primary or type(error).__name__}") from error


def main() -> None:
    """The console script: exit status 0, or 1 with one line on stderr."""
    try:
        sys.stderr.write(run() + "\n")
    except Failed as error:
        sys.stderr.write(f"{APPLICATION}: {error}\n")
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
