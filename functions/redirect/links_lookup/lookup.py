"""A short link's state, how it is asked of PostgreSQL, and what is answered to who follows it."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

State = Literal["live", "gone", "unknown"]

CODE = re.compile(r"[A-Za-z0-9_-]{3,32}")
"""What a code may look like; everything else is the code of no link."""

FIND = """
SELECT url, disabled_at IS NOT NULL OR coalesce(expires_at <= now(), false) AS gone,
       (extract(epoch FROM expires_at - now()) * 1000)::bigint AS left_ms
FROM links WHERE code = %(code)s AND deleted_at IS NULL
"""
"""One row, or none: for `destination`. The database's clock decides, as there is only one."""

HEADERS = (
    ("Cache-Control", "private, max-age=0"),  # every click is to be seen
    ("X-Robots-Tag", "noindex"),
    ("Content-Length", "0"),
)
"""The fields of a redirect beside `Location`."""

GONE = "This link has expired or was switched off"
UNKNOWN = "There is no such link"


class Destination(NamedTuple):
    """Where a code leads.

    Attributes:
        url: of a live link; "" of another.
        left_ms: until it expires; None if it does not.
    """

    state: State
    url: str = ""
    left_ms: int | None = None


def destination(rows: Sequence[Mapping[str, Any]]) -> Destination:
    """What the rows of `FIND` say."""
    if not rows:
        return Destination("unknown")
    row = rows[0]
    return Destination("gone") if row["gone"] else Destination("live", row["url"], row["left_ms"])
