"""Routes, pages of them and their history as JSON bytes, and the headers that go with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import orjson

from gateway.registry.repository import Event, Page
from gateway.registry.route import Route

PATH = "/api/v1/routes"


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


def _word(value: str | bool) -> str:
    return str(value).lower() if isinstance(value, bool) else value
