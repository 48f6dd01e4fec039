"""How long an answer may be used, and whether it may be kept at all (RFC 9111 sections 3 and 4.2, RFC 5861)."""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_tz

from gateway.edge.cache.directives import FOREVER_S, AnswerDirectives, of_answer, seconds
from gateway.edge.headers import REWRITTEN, Header

STATUSES = frozenset({200, 301, 308, 404, 410})
"""What is kept: final answers to GET that say all there is to say."""

_DATES = (
    re.compile(r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"),
    re.compile(r"[A-Z][a-z]{5,8}, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"),
    re.compile(r"[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}"),
)
"""IMF-fixdate and the two obsolete forms (RFC 9110 section 5.6.7)."""


def http_date(value: bytes | None) -> float | None:
    """An HTTP date as Unix time, None if it is none."""
    if value is None:
        return None
    text = value.decode("latin-1")
    if not any(form.fullmatch(text) for form in _DATES):
        return None
    parsed = parsedate_tz(text)
    try:
        return None if parsed is None else float(timegm((*parsed[:6], 0, 0, 0)))
    except (ValueError, OverflowError):
        return None


def joined(headers: Iterable[Header]) -> dict[bytes, bytes]:
    """The fields by name; of one given several times, the values joined by commas."""
    fields: dict[bytes, bytes] = {}
    for name, value in headers:
        fields[name] = fields[name] + b", " + value if name in fields else value
    return fields


@dataclass(frozen=True, slots=True)
class Terms:
    """On what terms an answer is kept. Seconds; ages and lifetimes count from when the answer was made.

    Attributes:
        lifetime_s: it is fresh below this age.
        age_s: its age when it came.
        always_ask: it is used only after it has been validated (`no-cache`).
        stale_while_revalidate_s, stale_if_error_s: how long after its lifetime it may still be used, while it is
            asked for again, and when that fails.
        bendable: whether a client that asks for stale answers (`max-stale`) may get it.
    """

    lifetime_s: float
    age_s: float
    always_ask: bool
    stale_while_revalidate_s: float
    stale_if_error_s: float
    bendable: bool


def terms(
    status: int, headers: list[Header], *, asked: float, came: float, stale_if_error_s: float
) -> tuple[Terms, tuple[bytes, ...]] | None:
    """(the terms of an answer to GET, the names of its `Vary`); None if it must not be kept.

    Args:
        asked, came: Unix times of the request that it answers, and of its head.
        stale_if_error_s: for answers that do not say.
    """
    if status not in STATUSES:
        return None
    fields = joined(headers)
    says = of_answer(fields.get(b"cache-control"))
    if not says.public or says.private or says.no_store or b"set-cookie" in fields or b"content-range" in fields:
        return None
    names = tuple(sorted({name.strip(b" \t").lower() for name in fields.get(b"vary", b"").split(b",")} - {b""}))
    if b"*" in names or not REWRITTEN.isdisjoint(names):  # requests that look alike here may differ there
        return None
    lifetime_s = lifetime(says, fields, came=came)
    validated = b"etag" in fields or http_date(fields.get(b"last-modified")) is not None
    if lifetime_s is None and not (says.no_cache and validated):
        return None
    strict = says.no_cache or says.must_revalidate or says.proxy_revalidate
    # s-maxage alone forbids stale answers too (section 5.2.2.10); beside RFC 5861's directives they say how stale.
    default_s = 0 if says.s_maxage_s is not None else stale_if_error_s
    found = Terms(
        lifetime_s=lifetime_s or 0,
        age_s=age(fields, asked=asked, came=came),
        always_ask=says.no_cache,
        stale_while_revalidate_s=0 if strict else says.stale_while_revalidate_s or 0,
        stale_if_error_s=0 if strict else default_s if says.stale_if_error_s is None else says.stale_if_error_s,
        bendable=not strict and says.s_maxage_s is None,
    )
    if found.lifetime_s <= found.age_s and not (validated or found.stale_while_revalidate_s):
        return None  # it would never be used
    return found, names


def lifetime(says: AnswerDirectives, fields: Mapping[bytes, bytes], *, came: float) -> float | None:
    """The explicit freshness lifetime in seconds, None if there is none. Nothing is guessed."""
    if says.s_maxage_s is not None:
        return says.s_maxage_s
    if says.max_age_s is not None:
        return says.max_age_s
    if b"expires" not in fields:
        return None
    expires = http_date(fields[b"expires"])  # anything else, `0` above all, means the past
    date = http_date(fields.get(b"date"))
    return 0 if expires is None else max(0.0, expires - (came if date is None else date))


def age(fields: Mapping[bytes, bytes], *, asked: float, came: float) -> float:
    """The corrected initial age (section 4.2.3), seconds."""
    date = http_date(fields.get(b"date"))
    apparent_s = 0.0 if date is None else max(0.0, came - date)
    first = fields.get(b"age", b"0").split(b",")[0].strip(b" \t")
    said_s = seconds(first)
    return min(float(FOREVER_S), max(apparent_s, (said_s or 0) + max(0.0, came - asked)))
