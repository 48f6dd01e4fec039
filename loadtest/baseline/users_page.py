"""What the peers of the user page share: the SQL of a page, what asks for one, and the shape of an answer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

DEFAULT_PER_PAGE = 50
MAX_PER_PAGE = 100
TOTAL_SQL = "SELECT sum(users)::bigint FROM users_total"
"""The kept count, as our service reads it: counting the rows would make a peer lose by that, not by what it shows."""

COLUMNS = ("id", "username", "email", "full_name", "created_at", "updated_at")
PAGE_SQL = f"SELECT {', '.join(COLUMNS)} FROM users ORDER BY id LIMIT %s OFFSET %s"
"""With psycopg2's marks."""


def asked_page(arguments: Mapping[str, str]) -> tuple[int, int] | None:
    """The number of the page and how many users are on it; None if there is no such page."""
    try:
        page, per_page = int(arguments.get("page", "1")), int(arguments.get("per_page", DEFAULT_PER_PAGE))
    except ValueError:
        return None
    return (page, min(per_page, MAX_PER_PAGE)) if page > 0 and per_page > 0 else None


def read_page(cursor: Any, page: int, per_page: int) -> tuple[list[Any], int]:
    """The rows of a page and how many users there are, by two statements on a cursor of psycopg2."""
    cursor.execute(PAGE_SQL, (per_page, (page - 1) * per_page))
    rows = cursor.fetchall()
    cursor.execute(TOTAL_SQL)
    (total,) = cursor.fetchone() or (0,)
    return rows, total


def page_answer(rows: Iterable[Any], *, page: int, per_page: int, total: int) -> dict[str, Any]:
    """The answer's JSON object from rows in the order of COLUMNS."""
    return {
        "users": [{name: _plain(value) for name, value in zip(COLUMNS, row, strict=True)} for row in rows],
        "page": page,
        "per_page": per_page,
        "total": total,
        "pages": -(-total // per_page),
    }


def _plain(value: Any) -> Any:
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
