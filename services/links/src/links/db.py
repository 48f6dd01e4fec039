"""`links-db`: the schema of the links service's database."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from chassis import console, migrations
from links.settings import Settings


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main_parser = argparse.ArgumentParser(
        prog="links-db",
        description="Schema of the links service's database. "
        "Where that is, is read as the service does: DATABASE_URL or DB_HOST, DB_NAME, DB_USER, DB_PASSWORD.",
    )
    verbs = main_parser.add_subparsers(dest="verb", required=True, metavar="create")
    verbs.add_parser("create", help="make the schema, or bring it up to date; doing it again changes nothing")
    return main_parser


def run(arguments: Sequence[str] | None = None) -> str:
    """Do what the command line says, once the database is there. Returns what was done.

    Raises:
        console.Failed: with one line that says why not.
    """
    parser().parse_args(arguments)
    with console.connected(Settings, service="links", table="links") as settings:
        migrations.upgrade("links", settings.db)
        return f"The schema of links in {settings.db.name} is up to date"


def main() -> None:
    """The console script: exit status 0, or 1 with one line on stderr."""
    console.main("links", run)


if __name__ == "__main__":
    main()
