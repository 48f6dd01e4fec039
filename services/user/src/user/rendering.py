"""Users and pages of users as JSON bytes, and the headers that go with them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import orjson

from user.pages import Wanted
from user.repository import Rows, User

PATH = "/api/v1/users"

_FIELDS = ("id", "username", "email", "full_name", "created_at", "updated_at")


def user_body(user: User) -> bytes:
    """One user. Times are UTC and say so: `+00:00`."""
    return orjson.dumps(_object(user))


def page_body(rows: Rows, *, page: int | None, per_page: int) -> bytes:
    """A page of users; `page` is None if it was asked for by `after`."""
    return orjson.dumps(
        {
            "users": [_object(row) for row in rows.users],
            "page": page,
            "per_page": per_page,
            "total": rows.total,
            "pages": -(-rows.total // per_page),
        }
    )


def page_link(rows: Rows, wanted: Wanted) -> str:
    """The value of `Link`. `next` leads on by the last id, so that what others insert or delete shifts nothing."""
    here = f"<{PATH}?per_page={wanted.per_page}"
    links = [f'{here}>; rel="first"']
    if wanted.page is not None and wanted.page > 1:
        links.append(f'{here}&page={wanted.page - 1}>; rel="prev"')
    if rows.more:
        links.append(f'{here}&after={rows.users[-1][0]}>; rel="next"')
    return ", ".join(links)


def user_path(user_id: int) -> str:
    """The address of a user, for `Location`."""
    return f"{PATH}/{user_id}"


def _object(row: Sequence[Any]) -> dict[str, Any]:
    return dict(zip(_FIELDS, row, strict=False))  # a User also has its version, which only the ETag shows
