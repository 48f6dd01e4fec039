"""Things that have versions: their validators, and the answers that depend on them (RFC 9110, sections 8.8 and 13)."""

from __future__ import annotations

import re

from flask import Response, request

from chassis.http import JSON, FinishedResponse, matches

PRIVATE = ("Cache-Control", "private, no-cache")
"""For this client, and always asked for again: no cache on the way may keep it or answer with it unasked."""

_ETAG = re.compile(r'"([0-9]{1,19})-([0-9]{1,19})"')


def etag(number: int, version: int) -> str:
    """The strong validator of the thing `number` at `version`. Numbers must not be used again for another thing."""
    return f'"{number}-{version}"'


def allowed_versions(number: int) -> list[int] | None:
    """The versions of the thing `number` that the request's `If-Match` allows; None: any, which `*` means too."""
    condition = request.headers.get("If-Match")
    if condition is None or condition.strip() == "*":
        return None
    found = (_ETAG.fullmatch(part.strip()) for part in condition.split(","))
    return [int(match[2]) for match in found if match and int(match[1]) == number]


def described(body: bytes) -> tuple[tuple[str, str], ...]:
    """The header fields that describe a JSON body."""
    return ("Content-Type", JSON), ("Content-Length", str(len(body)))


def json_answer(body: bytes, status: int, *headers: tuple[str, str]) -> Response:
    """An answer of JSON bytes."""
    return FinishedResponse(body, status, headers=(*headers, *described(body)))


def empty_answer(status: int, *headers: tuple[str, str]) -> Response:
    """An answer without a body."""
    response = Response(None, status, headers=headers)
    del response.headers["Content-Type"]  # of what it does not have
    return response


def one(body: bytes, tag: str, status: int = 200, *headers: tuple[str, str]) -> Response:
    """One thing and its validator; 304 without a body to a GET or HEAD whose `If-None-Match` names it."""
    condition = request.headers.get("If-None-Match")
    if condition is not None and request.method in ("GET", "HEAD") and matches(condition, tag):
        return empty_answer(304, ("ETag", tag), PRIVATE)
    return json_answer(body, status, ("ETag", tag), PRIVATE, *headers)
