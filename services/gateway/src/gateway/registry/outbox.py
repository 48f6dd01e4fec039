"""The outbox as its one reader in the whole fleet sees it. Writers are in `repository.py`, in their transactions.

SQL outside `repository.py`, because it needs what a pooled connection cannot give: a lock that belongs to the session.
Who holds it reads the outbox; it ends with the connection, however the process that had it ends.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from chassis.database import bounded, connect
from chassis.settings import DatabaseSettings

LOCK_KEY = 0x6F7574626F78
"""The advisory lock of the one reader."""
STATEMENT_LIMIT_S = 1.0
"""The longest wait for PostgreSQL. A reader notices within this, and its pause between two statements, that it lost."""
SESSION_IDLE_LIMIT_S = 10
"""PostgreSQL ends a session, and its lock with it, that says nothing for so long: its process is suspended, or its
machine is gone without a word."""


class Event(NamedTuple):
    """One row: what a revision of the registry did to a route. `payload` is JSON."""

    revision: int
    route_id: int
    action: str
    payload: bytes


class Lag(NamedTuple):
    """How many events wait, and for how long the oldest of them has, in seconds."""

    waiting: int
    oldest_s: float


class Outbox:
    """The outbox over one connection that is made when first needed. For one thread.

    Raises (all methods): psycopg2.Error. The connection is closed then, and the lock lost.
    """

    def __init__(self, settings: DatabaseSettings, *, idle_limit_s: float = SESSION_IDLE_LIMIT_S) -> None:
        self._settings = settings
        self._idle_limit_ms = round(idle_limit_s * 1000)
        self._connection: Any = None

    def try_to_lead(self) -> bool:
        """Become the one reader, if nobody else is. Call it once: the lock counts."""
        return bool(self._run("SELECT pg_try_advisory_lock(%s)", (LOCK_KEY,))[0][0])

    def read(self, *, after: int, limit: int) -> list[Event]:
        """The oldest events after revision `after`, in order. The answer also proves that the lock is still ours.

        Revisions are committed in their order, so nothing older than what was read comes later.
        """
        rows = self._run(
            "SELECT revision, route_id, action, payload::text FROM routes_outbox "
            "WHERE revision > %s ORDER BY revision LIMIT %s",
            (after, limit),
        )
        return [Event(revision, route_id, action, payload.encode()) for revision, route_id, action, payload in rows]

    def delete(self, revisions: Sequence[int]) -> None:
        """Remove events that have arrived."""
        self._run("DELETE FROM routes_outbox WHERE revision = ANY(%s)", (list(revisions),))

    def lag(self) -> Lag:
        """What waits, whoever reads."""
        waiting, oldest_s = self._run(
            "SELECT count(*), coalesce(extract(epoch FROM clock_timestamp() - min(created_at)), 0)::float8 "
            "FROM routes_outbox",
        )[0]
        return Lag(waiting, max(0.0, oldest_s))

    def close(self) -> None:
        """Close the connection, which gives the lock back."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _run(self, sql: str, parameters: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        try:
            with bounded(STATEMENT_LIMIT_S):
                if self._connection is None:
                    self._connection = connect(self._settings, application="gateway-relay")
                    with self._connection.cursor() as cursor:
                        cursor.execute("SET idle_session_timeout = %s", (self._idle_limit_ms,))
                with self._connection.cursor() as cursor:
                    cursor.execute(sql, parameters)
                    return cursor.fetchall() if cursor.description else []
        except BaseException:
            self.close()
            raise
