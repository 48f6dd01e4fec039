"""Links in PostgreSQL: the only SQL of this service beside what it shares with the redirect function."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

from chassis.database import Database
from chassis.errors import Conflict
from links import codes
from links_lookup.lookup import FIND, Destination, destination
from links_lookup.tally import COUNT, Batch

Link = dict[str, Any]
"""A row of `links`: `id`, and all fields of `schemas.LinkBody` but for the addresses."""

_TRIES = 10
_COLUMNS = "id, code, url, clicks, created_at, expires_at, disabled_at IS NOT NULL AS disabled"
_OWN = "deleted_at IS NULL AND (%(owner)s::text IS NULL OR owner = %(owner)s)"
_KEPT_DAYS = 1


class Taken(Conflict):
    """Another link has this code, or had it once."""

    slug = "code-taken"

    def __init__(self) -> None:
        super().__init__("This code is taken")


class Links:
    """The table of links. `owner` None, where it may be: whosever link it is.

    Raises (all methods): chassis.errors.Unavailable, or DeadlineExceeded, when the database cannot answer.
    """

    def __init__(self, database: Database, *, make_code: Callable[[], str] = codes.generate) -> None:
        self._database = database
        self._make_code = make_code

    def create(self, *, url: str, code: str | None, expires_at: datetime | None, owner: str) -> Link:
        """Add a link, with a code of ours if `code` is None. Raises Taken."""
        for _ in range(1 if code else _TRIES):
            fields = {"code": code or self._make_code(), "url": url, "expires_at": expires_at, "owner": owner}
            rows = self._database.execute_dicts(_INSERT, fields)
            if rows:
                return rows[0]
        raise Taken

    def get(self, code: str, *, owner: str | None) -> Link | None:
        """The link of that code."""
        rows = self._database.fetch_dicts(
            f"SELECT {_COLUMNS} FROM links WHERE code = %(code)s AND {_OWN}",  # noqa: S608
            {"code": code, "owner": owner},
        )
        return rows[0] if rows else None

    def page(self, *, before: int, limit: int, owner: str | None) -> list[Link]:
        """The `limit` newest links with an id below `before`, the newest first."""
        return self._database.fetch_dicts(
            f"SELECT {_COLUMNS} FROM links WHERE {_OWN} AND id < %(before)s "  # noqa: S608
            "ORDER BY id DESC LIMIT %(limit)s",
            {"before": before, "limit": limit, "owner": owner},
        )

    def update(self, code: str, changes: Mapping[str, Any], *, owner: str | None) -> Link | None:
        """Set `disabled` and `expires_at`, those that are there. None if there is no such link."""
        assignments = ["code = code"]
        if "disabled" in changes:
            assignments.append("disabled_at = CASE WHEN %(disabled)s THEN coalesce(disabled_at, now()) END")
        if "expires_at" in changes:
            assignments.append("expires_at = %(expires_at)s")
        rows = self._database.execute_dicts(
            f"UPDATE links SET {', '.join(assignments)} WHERE code = %(code)s AND {_OWN} "  # noqa: S608 - our names
            f"RETURNING {_COLUMNS}",
            {**changes, "code": code, "owner": owner},
        )
        return rows[0] if rows else None

    def delete(self, code: str, *, owner: str | None) -> bool:
        """Remove a link, where it led included; its code stays taken. False if there is no such link."""
        return bool(
            self._database.execute(
                f"UPDATE links SET deleted_at = now(), url = '' WHERE code = %(code)s AND {_OWN} "  # noqa: S608
                "RETURNING code",
                {"code": code, "owner": owner},
            )
        )

    # --- following them ---

    def destination(self, code: str) -> Destination:
        """Where a code leads."""
        return destination(self._database.fetch_dicts(FIND, {"code": code}))

    def count(self, batch: Batch) -> None:
        """Add a batch of clicks; one that was added before changes nothing."""
        self._database.execute(COUNT, batch.parameters())

    def sweep_batches(self) -> None:
        """Forget the ids of batches that nobody can send again."""
        self._database.execute(_SWEEP, {"days": _KEPT_DAYS})


_INSERT = f"""
INSERT INTO links (code, url, expires_at, owner) VALUES (%(code)s, %(url)s, %(expires_at)s, %(owner)s)
ON CONFLICT DO NOTHING RETURNING {_COLUMNS}
"""  # noqa: S608
_SWEEP = "DELETE FROM links_batches WHERE applied_at < now() - make_interval(days => %(days)s)"
