"""`catalogue-db`: the schema and the data of the catalogue's database."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, TextIO

import orjson
from rich.console import Console
from rich.progress import Progress

from catalogue import repository
from catalogue.products import PACKAGED, BadProducts, as_dict, read_file
from catalogue.settings import Settings
from chassis import console, migrations
from chassis.database import connect
from chassis.settings import DatabaseSettings

APPLICATION = "catalogue-db"


def create(settings: DatabaseSettings) -> str:
    """Make the schema, or bring it up to date. Returns what was done."""
    migrations.upgrade("catalogue", settings)
    return f"The schema of {settings.name} is up to date"


def import_products(settings: DatabaseSettings, file: Path) -> str:
    """Put the products of `file` into the table, all or none: new ids are added, known ones replaced, others stay.

    Returns what was done.

    Raises:
        BadProducts: what is wrong with the file.
    """
    products = read_file(file)
    with closing(connect(settings, application=APPLICATION)) as connection, _progress() as progress:
        connection.autocommit = False
        task = progress.add_task("Importing", total=len(products))
        with connection, connection.cursor() as cursor:
            for written in repository.upsert(cursor, products):
                progress.update(task, completed=written)
            repository.move_sequence(cursor)
    return f"Imported {len(products)} products into {settings.name}"


def export_products(settings: DatabaseSettings, file: Path | None) -> str:
    """Write every product to `file`, or to stdout if that is None, as `import_products` reads it.

    A file appears under its name only when it is whole. Returns what was done.
    """
    with closing(connect(settings, application=APPLICATION)) as connection:
        connection.autocommit = False
        if file is None:
            count = _export(connection, sys.stdout)
        else:
            partial = file.with_name(f".{file.name}.{os.getpid()}.partial")
            try:
                with partial.open("w", encoding="utf-8") as stream:
                    count = _export(connection, stream)
                partial.replace(file)
            finally:
                partial.unlink(missing_ok=True)
    return f"Exported {count} products from {settings.name}"


def _export(connection: Any, stream: TextIO) -> int:
    with connection, connection.cursor() as cursor, _progress() as progress:
        task = progress.add_task("Exporting", total=repository.count_all(cursor))
        written = 0
        stream.write("[")
        for product in repository.read_all(connection):
            stream.write(",\n" if written else "\n")
            stream.write(orjson.dumps(as_dict(product)).decode())
            written += 1
            progress.update(task, completed=written)
        stream.write("\n]\n")
    return written


def _progress() -> Progress:
    """A bar on stderr, for as long as the work takes; nothing where nobody watches."""
    terminal = Console(stderr=True)
    return Progress(console=terminal, transient=True, disable=not terminal.is_terminal)


def parser() -> argparse.ArgumentParser:
    """The command line."""
    main_parser = argparse.ArgumentParser(
        prog="catalogue-db",
        description="Schema and data of the catalogue's database. "
        "Where that is, is read as the service does: DATABASE_URL or DB_HOST, DB_NAME, DB_USER, DB_PASSWORD.",
    )
    verbs = main_parser.add_subparsers(dest="verb", required=True, metavar="create|import|export")
    verbs.add_parser("create", help="make the schema, or bring it up to date; doing it again changes nothing")
    loading = verbs.add_parser("import", help="add products from a JSON file, and replace those with the same id")
    loading.add_argument(
        "file", nargs="?", type=Path, default=PACKAGED, metavar="FILE", help="default: the packaged products"
    )
    saving = verbs.add_parser("export", help="write all products to a JSON file")
    saving.add_argument("file", nargs="?", type=Path, metavar="FILE", help="default: standard output")
    return main_parser


def run(arguments: Sequence[str] | None = None) -> str:
    """Do what the command line says, once the database is there. Returns what was done.

    Raises:
        console.Failed: with one line that says why not.
    """
    options = parser().parse_args(arguments)
    with console.connected(Settings, service="catalogue", table="products") as settings:
        if options.verb == "create":
            return create(settings.db)
        if options.verb == "export":
            return export_products(settings.db, options.file)
        try:
            return import_products(settings.db, options.file)
        except BadProducts as error:
            raise console.Failed(f"{options.file}: want {error}") from error


def main() -> None:
    """The console script: exit status 0, or 1 with one line on stderr."""
    console.main("catalogue", run)


if __name__ == "__main__":
    main()
