"""Command line tools of the services: they wait for the database, and what goes wrong is one line and status 1."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

import psycopg2

from chassis.gunicorn import configure_logging
from chassis.settings import DatabaseServiceSettings, SettingsError, load
from chassis.startup import DatabaseNotThere, wait_for_database

S = TypeVar("S", bound=DatabaseServiceSettings)


class Failed(Exception):
    """What was asked cannot be done; the message is for the person who asked."""


@contextmanager
def connected(model: type[S], *, service: str, table: str, log: bool = True) -> Iterator[S]:
    """The settings of `service`, once its database answers; logging is configured.

    Args:
        table: what the service keeps, for the message that its table is not there yet.
        log: False leaves stdout to the tool's own output; warnings go to stderr.

    Raises:
        Failed: with one line, for bad settings, a database that does not come, and what files and database refuse
            inside the block.
    """
    try:
        settings = load(model)
        if log:
            configure_logging(settings, service)
        wait_for_database(settings.db, application=f"{service}-db")
        yield settings
    except (SettingsError, DatabaseNotThere) as error:
        raise Failed(str(error)) from error
    except OSError as error:
        raise Failed(f"{error.filename}: {error.strerror}") from error
    except psycopg2.errors.UndefinedTable as error:
        raise Failed(f"There is no table of {table} yet: run `{service}-db create` first") from error
    except psycopg2.Error as error:
        raise Failed(f"The database said no: {error.diag.message_primary or type(error).__name__}") from error


def main(service: str, run: Callable[[], str], *, program: str | None = None) -> None:
    """The console script `<service>-db`: what `run` did goes to stderr; exit status 1 if it raised Failed.

    Args:
        program: the script's name where it is another.
    """
    try:
        sys.stderr.write(run() + "\n")
    except Failed as error:
        sys.stderr.write(f"{program or f'{service}-db'}: {error}\n")
        raise SystemExit(1) from None
