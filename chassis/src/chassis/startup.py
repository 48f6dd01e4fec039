"""Waiting for the database at start-up: five attempts, each failure logged, then a clear end."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import psycopg2
from tenacity import RetryCallState, Retrying, retry_if_exception_type, stop_after_attempt

from chassis.database import bounded, connect, install_wait_callback
from chassis.settings import DatabaseServiceSettings, DatabaseSettings

log = logging.getLogger(__name__)

WAITS_S = (2.0, 4.0, 8.0, 16.0)
"""Waits between the five attempts, the first of which is made at once (contract, section 2)."""


class DatabaseNotThere(Exception):
    """The database did not answer any of the attempts. The message says where it was looked for and what to do."""


def wait_for_database(
    settings: DatabaseSettings, *, application: str, sleep: Callable[[float], None] = time.sleep
) -> None:
    """Return once the database answers `SELECT 1`.

    Raises:
        DatabaseNotThere: after the last attempt.
    """

    def attempt() -> None:
        with bounded(5.0):
            connection = connect(settings, application=application)
            try:
                with connection.cursor() as cursor:
                    cursor.execute("SELECT 1")
            finally:
                connection.close()

    def warn(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        log.warning(
            "Database is not there yet (attempt %d of %d, %s), next try in %g s",
            state.attempt_number, len(WAITS_S) + 1, type(error).__name__, WAITS_S[state.attempt_number - 1],
        )  # fmt: skip

    retrying = Retrying(
        stop=stop_after_attempt(len(WAITS_S) + 1),
        wait=lambda state: WAITS_S[min(state.attempt_number, len(WAITS_S)) - 1],
        retry=retry_if_exception_type(psycopg2.OperationalError),
        before_sleep=warn,
        reraise=True,
        sleep=sleep,
    )
    try:
        retrying(attempt)
    except psycopg2.OperationalError as error:
        log.warning("Database is not there (attempt %d of %d)", len(WAITS_S) + 1, len(WAITS_S) + 1)
        raise DatabaseNotThere(
            f"No database at {settings.host}:{settings.port}/{settings.name} after {len(WAITS_S) + 1} attempts "
            f"({type(error).__name__}). Check DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD, or DATABASE_URL."
        ) from error


def require_database(settings: DatabaseServiceSettings, *, application: str) -> None:
    """Wait for the database in a process that has no use without it: give it to `gunicorn.configure(before_start=)`.

    Raises:
        SystemExit: 1, after one clear line in the log.
    """
    install_wait_callback()  # a hung server must not hold up an attempt for ever
    try:
        wait_for_database(settings.db, application=application)
    except DatabaseNotThere as error:
        log.error("%s", error)  # noqa: TRY400 - its traceback would say nothing more
        raise SystemExit(1) from None
