"""Routes, pages of them and their history as JSON bytes, and the headers that go with them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import orjson

from gateway.registry.repository import Event, Page
from gateway.registry.route import Route

PATH = "/api/v1/routes"
PRIVATE = ("Cache-Control", "private, no-cache")
"""For the holders of keys, and always asked for again: no cache on the way may keep it or answer with it unasked."""

_ETAG = re.compile(r'"([0-9]{1,19})-([0-9]{1,19})"')


def route_body(route: Route) -> bytes:
    """One route. Times are UTC and say so: `+00:00`."""
    return orjson.dumps(route)


def page_body(page: Page, *, per_page: int) -> bytes:
    """A page of routes."""
    return orjson.dumps({"routes": page.routes, "per_page": per_page, "total": page.total})


def page_link(page: Page, *, per_page: int, filters: Mapping[str, str | bool]) -> str:
    """The value of `Link`. `next` leads on by the last id, so that what others add and remove shifts nothing."""
    query = "".join(f"&{name}={_word(value)}" for name, value in filters.items())
    here = f"<{PATH}?per_page={per_page}{query}"
    links = [f'{here}>; rel="first"']
    if page.more:
        links.append(f'{here}&after={page.routes[-1].id}>; rel="next"')
    return ", ".join(links)


def history_body(events: Sequence[Event], *, per_page: int) -> bytes:
    """A page of a route's history."""
    shown = [{name: value for name, value in event._asdict().items() if name != "route_id"} for event in events]
    return orjson.dumps({"events": shown, "per_page": per_page})


def history_link(route_id: int, events: Sequence[Event], *, more: bool, per_page: int) -> str:
    """The value of its `Link`."""
    here = f"<{PATH}/{route_id}/history?per_page={per_page}"
    links = [f'{here}>; rel="first"']
    if more:
        links.append(f'{here}&before={events[-1].revision}>; rel="next"')
    return ", ".join(links)


def route_path(route_id: int) -> str:
    """The address of a route, for `Location`."""
    return f"{PATH}/{route_id}"


def etag(route: Route) -> str:
    """The strong validator of a route: every change gives it a new revision."""
    return f'"{route.id}-{route.revision}"'


def revisions_in(condition: str | None, route_id: int) -> list[int] | None:
    """The revisions of this route that an `If-Match` value allows; None: any, which `*` means too."""
    if condition is None or condition.strip() == "*":
        return None
    found = (_ETAG.fullmatch(part.strip()) for part in condition.split(","))
    return [int(match[2]) for match in found if match and int(match[1]) == route_id]


def _word(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value
