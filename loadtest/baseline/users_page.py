"""What both peers of the user page share: the SQL of a page and the shape of an answer."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

DEFAULT_PER_PAGE = 50
MAX_PER_PAGE = 100
TOTAL_SQL = "SELECT sum(users)::bigint FROM users_total"
"""The kept count, as our service reads it: counting the rows would make a peer lose by that, not by what it shows."""

COLUMNS = ("id", "username", "email", "full_name", "created_at", "updated_at")


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
