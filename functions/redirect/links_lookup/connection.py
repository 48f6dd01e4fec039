"""One connection to PostgreSQL, made when it is first needed and again after it was lost; no wait is without an end."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import psycopg2
import psycopg2.extensions
from psycopg2.extensions import POLL_OK, POLL_READ
from psycopg2.extras import RealDictCursor

CONNECT_LIMIT_S = 5.0
OPERATION_LIMIT_S = 5.0
"""Longest connect, and longest statement with its answer."""


class _TimedOut(psycopg2.OperationalError):
    """psycopg2 closes the connection that it is raised on."""


class OneConnection:
    """A context manager for cursors whose rows are dicts, one caller at a time.

    Args:
        parameters: for `psycopg2.connect`; see `from_environment`.
    """

    def __init__(self, parameters: Mapping[str, Any]) -> None:
        self._parameters = dict(parameters)
        self._lock = threading.Lock()
        self._connection: Any = None
        self._deadline_s = 0.0

    @contextmanager
    def cursor(self) -> Iterator[Any]:
        """A cursor of the connection, which is made if there is none; after an error of it there is none.

        Raises:
            psycopg2.Error: the database cannot be reached, does not answer in time, or refuses a statement.
        """
        with self._lock:
            if self._connection is None or not _is_idle(self._connection):
                self._connect()
            self._deadline_s = time.monotonic() + OPERATION_LIMIT_S
            try:
                with self._connection.cursor(cursor_factory=RealDictCursor) as cursor:
                    yield cursor
            except psycopg2.Error:
                self._close()
                raise

    def close(self) -> None:
        """Close the connection, if there is one."""
        with self._lock:
            self._close()

    def _connect(self) -> None:
        self._close()
        psycopg2.extensions.set_wait_callback(self._wait)  # the process's, and this is all that it has
        self._deadline_s = time.monotonic() + CONNECT_LIMIT_S
        self._connection = psycopg2.connect(
            **self._parameters,
            connect_timeout=round(CONNECT_LIMIT_S),
            application_name="redirect-function",
            keepalives_idle=30,
            options=f"-c timezone=UTC -c statement_timeout={round(OPERATION_LIMIT_S * 1000)}",
        )
        self._connection.autocommit = True

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _wait(self, connection: Any) -> None:
        """psycopg2's wait callback: poll the socket until the deadline. libpq knows none once a query is sent."""
        while (state := connection.poll()) != POLL_OK:
            poller = select.poll()  # a new one each time: libpq may change sockets while it connects
            poller.register(connection.fileno(), select.POLLIN if state == POLL_READ else select.POLLOUT)
            if not poller.poll(max(0.0, (self._deadline_s - time.monotonic()) * 1000)):
                raise _TimedOut("no answer in time")


def _is_idle(connection: Any) -> bool:
    """Whether the server has said nothing since the last statement; what it says then is goodbye, most often."""
    if connection.closed:
        return False
    poller = select.poll()
    poller.register(connection.fileno(), select.POLLIN)
    return not poller.poll(0)


def from_environment() -> dict[str, Any]:
    """What `DATABASE_URL`, or else `DB_HOST`, `DB_PORT`, `DB_NAME`, `DB_USER`, `DB_PASSWORD` and `DB_SSLMODE`, say."""
    if url := os.environ.get("DATABASE_URL"):
        return {"dsn": url}
    get = os.environ.get
    return {
        "host": get("DB_HOST") or "localhost",
        "port": get("DB_PORT") or "5432",
        "dbname": get("DB_NAME") or "storefront",
        "user": get("DB_USER") or "storefront",
        "password": get("DB_PASSWORD") or None,
        "sslmode": get("DB_SSLMODE") or "prefer",
    }
