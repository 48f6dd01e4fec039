"""Users in PostgreSQL: the only SQL of this service (the schema is in migrations/)."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

import psycopg2.errors

from chassis.database import Database
from chassis.errors import Conflict

log = logging.getLogger(__name__)

IN_FLIGHT_LIMIT_S = 1.0
"""How long a page waits for inserts in flight. Those of this service end in `operation_timeout_ms`, which is less."""

_IN_FLIGHT_POLL_S = 0.005
_SWEEP_ROWS = 1000
_COLUMNS = "id, username, email, full_name, created_at, updated_at"
_MAX_ID = 2**63 - 1


class Taken(Conflict):
    """Another user has this user name or e-mail address."""

    slug = "user-taken"

    def __init__(self) -> None:
        super().__init__("Username or email already exists")


class User(NamedTuple):
    """A row of `users`."""

    id: int
    username: str
    email: str
    full_name: str | None
    created_at: datetime
    updated_at: datetime
    version: int


class Rows(NamedTuple):
    """Users of one page without their version, whether there are more behind them, and how many there are in all."""

    users: Sequence[tuple[Any, ...]]
    more: bool
    total: int


class SavedAnswer(NamedTuple):
    """What an Idempotency-Key stands for."""

    fingerprint: bytes
    user_id: int
    answer: bytes


# --- pages --------------------------------------------------------------------------------------------------------

# One round trip, one snapshot. `facts` has a row even when the page is empty. Every subquery costs the same whatever
# the size of the table; only `offset` rows are passed over, in the index alone.
_PAGE = """
WITH facts AS MATERIALIZED (
    SELECT (SELECT coalesce(sum(users), 0)::bigint FROM users_total) AS total,
           (SELECT coalesce(max(id), 0) FROM users) AS top
)
SELECT facts.total, facts.top, page.*
FROM facts LEFT JOIN (
    SELECT id, username, email, full_name, created_at, updated_at FROM users
    WHERE {start} AND id <= %(top)s
    ORDER BY id LIMIT %(limit)s
) AS page ON true
ORDER BY page.id
"""
_AFTER = _PAGE.format(start="id > %(after)s")
_OFFSET = _PAGE.format(start="id >= (SELECT id FROM users ORDER BY id OFFSET %(offset)s LIMIT 1)")

# Locks that users_announce_insert (migration 0001) holds: the last id before the insert's own, and whose it is.
_IN_FLIGHT = """
SELECT virtualtransaction FROM pg_locks
WHERE locktype = 'advisory' AND objsubid = 1 AND classid::bigint >> 24 = 85
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND ((classid::bigint & 16777215) << 32 | objid::bigint) < %s
"""


class Users:
    """The table of users.

    Raises (all methods): chassis.errors.Unavailable, or DeadlineExceeded, when the database cannot answer.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._settled = 0
        self._given_up: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def page_after(self, after: int, limit: int) -> Rows:
        """The first `limit` users with an id greater than `after`, by id."""
        return self._page(_AFTER, {"after": after}, limit)

    def page_at(self, offset: int, limit: int) -> Rows:
        """`limit` users by id, from the one at `offset`."""
        return (
            self._page(_AFTER, {"after": 0}, limit) if offset == 0 else self._page(_OFFSET, {"offset": offset}, limit)
        )

    def _page(self, sql: str, start: Mapping[str, int], limit: int) -> Rows:
        """A page whose ids are settled: no user can turn up later with an id below the last one of the page.

        Ids are given out before the commit. A walk that has gone by id 8 while 7 was not committed would miss 7.
        """
        top, rows = self._read(sql, start, limit, top=_MAX_ID)
        if rows.users and rows.users[-1][0] > self._settled:
            self._settle(top)
            _, rows = self._read(sql, start, limit, top=top)
        return rows

    def _read(self, sql: str, start: Mapping[str, int], limit: int, *, top: int) -> tuple[int, Rows]:
        found = self._database.fetch(sql, {**start, "limit": limit + 1, "top": top})
        total, highest = found[0][:2]
        users = [row[2:] for row in found] if found[0][2] is not None else []
        return highest, Rows(users[:limit], len(users) > limit, total)

    def _settle(self, top: int) -> None:
        """Wait until no insert is in flight that may bring an id below `top`, which a finished read has seen.

        What is read after this has them all. An insert that takes longer than IN_FLIGHT_LIMIT_S, somebody's open
        transaction for instance, is waited for once and then no more.
        """
        give_up_s = time.monotonic() + IN_FLIGHT_LIMIT_S
        while waited_for := {row[0] for row in self._database.fetch(_IN_FLIGHT, (top,))} - self._given_up:
            if time.monotonic() >= give_up_s:
                log.warning("%d inserts take longer than a page can wait: a walk may miss theirs", len(waited_for))
                with self._lock:
                    self._given_up = (
                        frozenset(waited_for) | self._given_up if len(self._given_up) < 1000 else frozenset()
                    )
                break
            time.sleep(_IN_FLIGHT_POLL_S)
        with self._lock:
            self._settled = max(self._settled, top)

    def find(self, *, username: str | None, email: str | None, offset: int, limit: int) -> Rows:
        """The users with exactly this name and this address (whatever its case); None for one of them: any."""
        conditions, values = [], []
        if username is not None:
            conditions.append("username = %s")
            values.append(username)
        if email is not None:
            conditions.append("lower(email) = lower(%s)")
            values.append(email)
        found = self._database.fetch(f"SELECT {_COLUMNS} FROM users WHERE {' AND '.join(conditions)}", values)  # noqa: S608
        return Rows(found[offset : offset + limit], False, len(found))

    # --- one user ---

    def get(self, user_id: int) -> User | None:
        """The user of that id."""
        rows = self._database.fetch(f"SELECT {_COLUMNS}, version FROM users WHERE id = %s", (user_id,))  # noqa: S608
        return User(*rows[0]) if rows else None

    def create(self, fields: Mapping[str, Any]) -> User:
        """Add a user. Raises Taken."""
        try:
            return User(*self._database.execute(_INSERT, dict(fields))[0])
        except psycopg2.errors.UniqueViolation:
            raise Taken from None

    def update(self, user_id: int, fields: Mapping[str, Any], versions: Sequence[int] | None) -> User | None:
        """Set `fields` of a user in one statement, so that no update is lost. None if there is no such user.

        `versions`: do it only if the user is at one of these; None: whatever it is at. Raises Taken.
        """
        names = [name for name in ("username", "email", "full_name") if name in fields]
        assignments = "".join(f"{name} = %({name})s, " for name in names)
        try:
            rows = self._database.execute(
                f"UPDATE users SET {assignments} version = version + 1, updated_at = now() "  # noqa: S608 - our names
                f"WHERE id = %(id)s AND {_AT_VERSION} RETURNING {_COLUMNS}, version",
                {**fields, "id": user_id, "versions": _bigints(versions)},
            )
        except psycopg2.errors.UniqueViolation:
            raise Taken from None
        return User(*rows[0]) if rows else None

    def delete(self, user_id: int, versions: Sequence[int] | None) -> bool:
        """Remove a user; `versions` as in `update`. False if there is no such user."""
        return bool(
            self._database.execute(
                f"DELETE FROM users WHERE id = %(id)s AND {_AT_VERSION} RETURNING id",  # noqa: S608
                {"id": user_id, "versions": _bigints(versions)},
            )
        )

    # --- the epoch of the cache ---

    def cache_epoch(self) -> int:
        """The number of times that writers found they could not tell the cache (ADR 0021)."""
        return int(self._database.fetch("SELECT last_value FROM users_cache_epoch")[0][0])

    def next_cache_epoch(self) -> int:
        """Begin a new epoch: what was cached before must not be read any more. Returns its number."""
        return int(self._database.execute("SELECT nextval('users_cache_epoch')")[0][0])

    # --- answers kept for Idempotency-Keys ---

    def sweep_answers(self, *, older_than_h: int) -> int:
        """Forget kept answers that are too old, a batch at a time. Returns how many."""
        swept = 0
        while True:
            batch = len(self._database.execute(_SWEEP, {"hours": older_than_h, "rows": _SWEEP_ROWS}))
            swept += batch
            if batch < _SWEEP_ROWS:
                return swept


_INSERT = f"""
INSERT INTO users (username, email, full_name) VALUES (%(username)s, %(email)s, %(full_name)s)
RETURNING {_COLUMNS}, version
"""  # noqa: S608
_AT_VERSION = "(%(versions)s::bigint[] IS NULL OR version = ANY (%(versions)s::bigint[]))"
_SWEEP = """
DELETE FROM users_idempotency WHERE key = ANY (ARRAY(
    SELECT key FROM users_idempotency WHERE created_at < now() - make_interval(hours => %(hours)s)
    ORDER BY created_at LIMIT %(rows)s FOR UPDATE SKIP LOCKED
)) RETURNING 1
"""


def _bigints(versions: Sequence[int] | None) -> list[int] | None:
    """Versions that a bigint can be; a client may name any number."""
    return None if versions is None else [version for version in versions if version <= _MAX_ID]


class Keyed:
    """The statements of one POST with an Idempotency-Key, in one transaction: `Database.transact` gives the cursor."""

    def __init__(self, cursor: Any, key: str) -> None:
        self._cursor = cursor
        self._key = key

    def claim(self) -> bool:
        """Reserve the key until the end of the transaction. False: another request is just using it.

        Two keys may share a lock by the hash's chance, one in 2**64; the worst of it is a 409 that says to try again.
        """
        self._cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, 5001))", (self._key,))
        return bool(self._cursor.fetchone()[0])

    def saved(self, *, not_older_than_h: int) -> SavedAnswer | None:
        """The answer kept for the key. To be asked after `claim`: its statement then sees what the last one stored."""
        self._cursor.execute(
            "SELECT fingerprint, user_id, answer FROM users_idempotency "
            "WHERE key = %s AND created_at >= now() - make_interval(hours => %s)",
            (self._key, not_older_than_h),
        )
        row = self._cursor.fetchone()
        return None if row is None else SavedAnswer(bytes(row[0]), row[1], bytes(row[2]))

    def create(self, fields: Mapping[str, Any]) -> User:
        """Add a user. Raises Taken."""
        try:
            self._cursor.execute(_INSERT, fields)
        except psycopg2.errors.UniqueViolation:
            raise Taken from None
        return User(*self._cursor.fetchone())

    def save(self, answer: SavedAnswer) -> None:
        """Keep the answer, in the place of one that is too old."""
        self._cursor.execute(
            "INSERT INTO users_idempotency (key, fingerprint, user_id, answer) VALUES (%s, %s, %s, %s) "
            "ON CONFLICT (key) DO UPDATE SET fingerprint = excluded.fingerprint, user_id = excluded.user_id, "
            "answer = excluded.answer, created_at = now()",
            (self._key, answer.fingerprint, answer.user_id, answer.answer),
        )


# --- made-up users, for `user-db seed` ---


def seeded(cursor: Any) -> tuple[int, int]:
    """How many users there are, and the number after the greatest `user-<8 digits>`."""
    cursor.execute(
        "SELECT (SELECT sum(users)::bigint FROM users_total), "
        "(SELECT substr(username, 6)::int FROM users WHERE username BETWEEN 'user-00000000' AND 'user-99999999' "
        "AND username ~ '^user-[0-9]{8}$' ORDER BY username DESC LIMIT 1)"
    )
    total, number = cursor.fetchone()
    return total, (number or 0) + 1


def copy(cursor: Any, lines: Any) -> None:
    """Add users from a file of COPY's text format: user name, e-mail address, full name."""
    cursor.copy_expert("COPY users (username, email, full_name) FROM STDIN", lines)


def finish_copying(cursor: Any) -> None:
    """Begin a new epoch of the cache, and bring statistics and visibility map up to date."""
    cursor.execute("SELECT nextval('users_cache_epoch')")
    cursor.execute("VACUUM (ANALYZE) users")
