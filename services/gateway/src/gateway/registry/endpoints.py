"""What the registry answers at its addresses: parse, ask, announce, send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from flask import Flask, Response, request
from werkzeug.exceptions import NotFound as NoMatch
from werkzeug.routing import BaseConverter

from chassis.errors import NotFound, Problem, Unavailable
from chassis.http import parse_body, parse_query
from chassis.openapi import Answer, operation
from chassis.versioned import PRIVATE, allowed_versions, empty_answer, etag, json_answer, one
from gateway.registry import resolve
from gateway.registry.rendering import (
    PATH,
    history_body,
    history_link,
    page_body,
    page_link,
    route_body,
    route_path,
)
from gateway.registry.repository import Registry, Written
from gateway.registry.resolve import Resolver
from gateway.registry.route import Route
from gateway.registry.schemas import (
    MAX_ID,
    MAX_PER_PAGE,
    HistoryPage,
    HistoryParameters,
    ListParameters,
    NewRoute,
    ResolvedBody,
    ResolveParameters,
    RouteBody,
    RouteChanges,
    RouteName,
    RoutePage,
)
from gateway.registry.table import Change

ACTOR = "gateway.actor"
"""Where `Mounted` writes the name of the caller's API key into the environ."""

READ, WRITE = "routes:read", "routes:write"
INVALID = 422
"""For input that is well formed and not what the registry wants; what is not well formed is 400."""

_TAG = "routes"
ONE = f"{PATH}/<id:route_id>"
_ID = {"route_id": {"type": "integer", "minimum": 1}}
_PRIVATE = {"Cache-Control": "`private, no-cache`"}
_VALIDATOR = {"ETag": "validator of this state of the route, for If-Match and If-None-Match", **_PRIVATE}
_IF_MATCH = {"If-Match": "ETag of the state that the change is meant for; 412 if the route has moved on"}
_EDGE = (400, 401, 403, 429)
"""What the edge answers before a request gets here: malformed, no key, a key without the scope, too many requests."""

_BODY = (413, 415, INVALID)
_STORE = (503, 504)


class Id(BaseConverter):
    """A route's id in a path, so that `/activate` and its like are no ids: with another method they are 405."""

    regex = "[1-9][0-9]{0,18}"

    def to_python(self, value: str) -> int:
        """The number. Raises NotFound for one that PostgreSQL cannot have."""
        number = int(value)
        if number > MAX_ID:
            raise NoMatch
        return number


class UrlPolicy(Protocol):
    """Says where routes may lead."""

    def check_url(self, url: str) -> str:
        """`url` in its normal form. Raises ValueError, with the reason, if no route may lead there."""


class Endpoints:
    """The views.

    Args:
        registry: None where there is no database: then all but `resolve` are 503.
        announce: called with what a write changed, after its commit and before the answer.
    """

    def __init__(
        self,
        *,
        resolver: Resolver,
        registry: Registry | None,
        announce: Callable[[Sequence[Change]], object],
        policy: UrlPolicy,
    ) -> None:
        self._resolver = resolver
        self._registry = registry
        self._announce = announce
        self._policy = policy

    def init_app(self, app: Flask) -> None:
        """Add the views to `app`."""
        app.url_map.converters["id"] = Id
        for method, path, view in (
            ("GET", resolve.PATH, self.resolve_route),
            ("GET", PATH, self.list_routes),
            ("POST", PATH, self.create_route),
            ("POST", f"{PATH}/activate", self.activate_route),
            ("POST", f"{PATH}/deactivate", self.deactivate_route),
            ("GET", ONE, self.get_route),
            ("PATCH", ONE, self.change_route),
            ("DELETE", ONE, self.delete_route),
            ("GET", f"{ONE}/history", self.get_history),
        ):
            app.add_url_rule(path, view.__name__, view, methods=[method])

    @operation(
        "Where a service is",
        tag=_TAG,
        scope=READ,
        query=ResolveParameters,
        answers={
            200: Answer(text="The route that is chosen", model=ResolvedBody, headers={"Cache-Control": "`no-store`"})
        },
        problems=(404, INVALID, *_EDGE),
    )
    def resolve_route(self) -> Response:
        """The URL of a service, from the gateway's memory: it answers whether or not the database is there.

        Without `version` each call chooses one of the active versions by their weights; with it, that version if it is
        active. 404 if there is none.
        """
        resolved = self._resolver.answer(request.query_string)  # the edge has asked already, unless it is not there
        if resolved is None:
            parse_query(ResolveParameters, invalid=INVALID)
            raise NotFound("There is no active route to that")
        return json_answer(resolved.body, resolved.status, ("Cache-Control", "no-store"))

    @operation(
        "Routes, by page",
        tag=_TAG,
        scope=READ,
        query=ListParameters,
        answers={
            200: Answer(
                text="A page of routes, in the order of their ids",
                model=RoutePage,
                headers={"Link": "`first` and `next` page (RFC 8288); without `next` this was the last", **_PRIVATE},
            )
        },
        problems=(INVALID, *_EDGE, *_STORE),
    )
    def list_routes(self) -> Response:
        """All routes, or those with given values, a page at a time: follow `next` in `Link`."""
        wanted = parse_query(ListParameters, invalid=INVALID)
        per_page = min(wanted.per_page, MAX_PER_PAGE)
        filters = wanted.model_dump(exclude_unset=True, exclude={"after", "per_page"})
        page = self._store().page(after=wanted.after, limit=per_page, filters=filters)
        link = page_link(page, per_page=per_page, filters=filters)
        return json_answer(page_body(page, per_page=per_page), 200, ("Link", link), PRIVATE)

    @operation(
        "Create a route",
        tag=_TAG,
        scope=WRITE,
        body=NewRoute,
        answers={
            201: Answer(text="Created", model=RouteBody, headers={**_VALIDATOR, "Location": "address of the route"})
        },
        problems=(409, *_BODY, *_EDGE, *_STORE),
    )
    def create_route(self) -> Response:
        """Add a route. Unless told otherwise it is active, with weight 100, and takes traffic within a second.

        A canary is safer with a weight of its own: `"weight": 5` beside a version of weight 95 takes one request in
        twenty; `"weight": 0` takes those that name its version, and no others.
        """
        new, _ = parse_body(NewRoute, invalid=INVALID)
        fields = {**new.model_dump(), "url": self._checked(new.url)}
        route = self._announced(self._store().create(fields, actor=_actor()))
        return _one(route, 201, ("Location", route_path(route.id)))

    @operation(
        "Activate a route",
        tag=_TAG,
        scope=WRITE,
        body=RouteName,
        answers={200: Answer(text="The route as it is now", model=RouteBody, headers=_VALIDATOR)},
        problems=(404, *_BODY, *_EDGE, *_STORE),
    )
    def activate_route(self) -> Response:
        """Let a version take traffic. One that does already stays as it is."""
        return self._switch(active=True)

    @operation(
        "Deactivate a route",
        tag=_TAG,
        scope=WRITE,
        body=RouteName,
        answers={200: Answer(text="The route as it is now", model=RouteBody, headers=_VALIDATOR)},
        problems=(404, *_BODY, *_EDGE, *_STORE),
    )
    def deactivate_route(self) -> Response:
        """Let a version take no traffic. One that takes none already stays as it is."""
        return self._switch(active=False)

    @operation(
        "One route",
        tag=_TAG,
        scope=READ,
        path=_ID,
        answers={
            200: Answer(text="The route", model=RouteBody, headers=_VALIDATOR),
            304: Answer(text="What the client has is still right", headers=_VALIDATOR),
        },
        problems=(404, *_EDGE, *_STORE),
        headers={"If-None-Match": "an ETag received before; 304 if the route is still in that state"},
    )
    def get_route(self, route_id: int) -> Response:
        """The route of that id. Anything that is no id is the id of no route."""
        return _one(self._store().get(route_id))

    @operation(
        "Change a route",
        tag=_TAG,
        scope=WRITE,
        path=_ID,
        body=RouteChanges,
        answers={200: Answer(text="The route as it is now", model=RouteBody, headers=_VALIDATOR)},
        problems=(404, 412, *_BODY, *_EDGE, *_STORE),
        headers=_IF_MATCH,
    )
    def change_route(self, route_id: int) -> Response:
        """Set `url`, `weight` or `active`, those that are sent. What a route is the route of cannot change."""
        changes, _ = parse_body(RouteChanges, invalid=INVALID)
        fields = changes.model_dump(exclude_unset=True)
        if "url" in fields:
            fields["url"] = self._checked(fields["url"])
        return _one(
            self._announced(
                self._store().update(route_id, fields, actor=_actor(), revisions=allowed_versions(route_id))
            )
        )

    @operation(
        "Delete a route",
        tag=_TAG,
        scope=WRITE,
        path=_ID,
        answers={204: Answer(text="Gone")},
        problems=(404, 412, *_EDGE, *_STORE),
        headers=_IF_MATCH,
    )
    def delete_route(self, route_id: int) -> Response:
        """Remove the route. Its history stays, and its id is never given to another."""
        self._announced(self._store().delete(route_id, actor=_actor(), revisions=allowed_versions(route_id)))
        return empty_answer(204)

    @operation(
        "The history of a route",
        tag=_TAG,
        scope=READ,
        path=_ID,
        query=HistoryParameters,
        answers={
            200: Answer(
                text="A page of changes, newest first",
                model=HistoryPage,
                headers={"Link": "`first` and `next` page (RFC 8288); without `next` this was the last", **_PRIVATE},
            )
        },
        problems=(404, INVALID, *_EDGE, *_STORE),
    )
    def get_history(self, route_id: int) -> Response:
        """Who changed what, and when: also of a route that has been deleted."""
        wanted = parse_query(HistoryParameters, invalid=INVALID)
        per_page = min(wanted.per_page, MAX_PER_PAGE)
        events, more = self._store().history(route_id, before=wanted.before, limit=per_page)
        link = history_link(route_id, events, more=more, per_page=per_page)
        return json_answer(history_body(events, per_page=per_page), 200, ("Link", link), PRIVATE)

    def _switch(self, *, active: bool) -> Response:
        name, _ = parse_body(RouteName, invalid=INVALID)
        return _one(self._announced(self._store().switch(name.model_dump(), active, actor=_actor())))

    def _store(self) -> Registry:
        if self._registry is None:
            raise Unavailable("The registry has no database", retry_after_s=60)
        return self._registry

    def _announced(self, written: Written) -> Route:
        if written.change is not None:
            self._announce([written.change])
        return written.route

    def _checked(self, url: str) -> str:
        try:
            return self._policy.check_url(url)
        except ValueError as error:
            message = str(error)
            raise Problem(f"url: {message}", status=INVALID, errors=[{"field": "url", "message": message}]) from None


def _actor() -> str:
    actor: str = request.environ[ACTOR]
    return actor


def _one(route: Route, status: int = 200, *headers: tuple[str, str]) -> Response:
    return one(route_body(route), etag(route.id, route.revision), status, *headers)
