"""What the user service answers at its addresses: parse, ask, send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from flask import Flask, Response, request

from chassis.cache import Cache
from chassis.errors import BadRequest, DeadlineExceeded, NotFound, PreconditionFailed, Problem, Unavailable
from chassis.http import Ready, parse_body, parse_id, parse_query
from chassis.openapi import Answer, operation
from chassis.versioned import PRIVATE, allowed_versions, described, empty_answer, etag, json_answer, one
from user.idempotency import Idempotency, parse_key
from user.pages import Page, Pages, Wanted
from user.rendering import PATH, page_body, user_body, user_path
from user.repository import User, Users
from user.schemas import MAX_OFFSET, MAX_PER_PAGE, ListParameters, NewUser, UserBody, UserChanges, UserPage

T = TypeVar("T")

_MOST_REMEMBERED = 4096
_LONGEST_REMEMBERED = 64
"""Query strings, whose parsing costs more than a cached page does: how many are remembered, and up to which length."""

_TAG = "users"
ONE = f"{PATH}/<user_id>"
_ID = {"user_id": {"type": "integer", "minimum": 1}}
_VALIDATOR = {
    "ETag": "validator of this state of the user, for If-Match and If-None-Match",
    "Cache-Control": "`private, no-cache`",
}
_IF_MATCH = {"If-Match": "ETag of the state that the change is meant for; 412 if the user has moved on"}


class Endpoints:
    """The views. `announce` is called after each commit, before the answer."""

    def __init__(
        self, *, users: Users, pages: Pages, idempotency: Idempotency, cache: Cache, announce: Callable[[], None]
    ) -> None:
        self._users = users
        self._pages = pages
        self._idempotency = idempotency
        self._cache = cache
        self._announce = announce
        self._remembered: dict[str, Wanted] = {}

    def init_app(self, app: Flask) -> None:
        """Add the views to `app`."""
        for method, path, view in (
            ("GET", PATH, self.list_users),
            ("POST", PATH, self.create_user),
            ("GET", ONE, self.get_user),
            ("PATCH", ONE, self.change_user),
            ("PUT", ONE, self.replace_user),
            ("DELETE", ONE, self.delete_user),
        ):
            app.add_url_rule(path, view.__name__, view, methods=[method])

    def page_at_hand(self, query: str) -> Ready | None:
        """What `list_users` answers to a query string that it has seen before, if the cache has the page."""
        wanted = self._remembered.get(query)
        page = self._pages.peek(wanted) if wanted is not None else None
        if page is None:
            return None
        self._cache.count(page.result)
        return Ready(page.body, "", (*_page_headers(page), *described(page.body)))

    @operation(
        "Users, by page or by name",
        tag=_TAG,
        query=ListParameters,
        answers={
            200: Answer(
                text="A page of users, in the order of their ids",
                model=UserPage,
                headers={
                    "Link": "`first`, `prev` and `next` page (RFC 8288); without `next` this was the last",
                    "X-Cache": "`HIT`: from the cache; `MISS`: from the database; `BYPASS`: without the cache",
                    "Cache-Control": "`private, no-cache`",
                },
            )
        },
        problems=(400, 503, 504),
    )
    def list_users(self) -> Response:
        """All users, a page at a time, or those with a given user name or e-mail address.

        To walk through all of them follow `next` in `Link`: it neither skips nor repeats a user while others are added
        and removed. `page` numbers shift when that happens, and end 100,000 users deep.
        """
        raw: str = request.environ["QUERY_STRING"]
        wanted = self._remembered.get(raw)
        if wanted is None:
            parameters = parse_query(ListParameters)
            if parameters.username is not None or parameters.email is not None:
                return self._found(parameters)
            wanted = _wanted(parameters)
            if len(raw) <= _LONGEST_REMEMBERED:
                if len(self._remembered) >= _MOST_REMEMBERED:
                    self._remembered.clear()
                self._remembered[raw] = wanted
        page = self._pages.get(wanted)
        self._cache.count(page.result)
        return json_answer(page.body, 200, *_page_headers(page))

    @operation(
        "Create a user",
        tag=_TAG,
        body=NewUser,
        answers={
            201: Answer(
                text="Created, now or by an earlier request with the same Idempotency-Key",
                model=UserBody,
                headers={
                    **_VALIDATOR,
                    "Location": "address of the user",
                    "Idempotency-Replayed": "`true`: this is the answer that was kept for the key",
                },
            )
        },
        problems=(400, 409, 413, 415, 422, 503, 504),
        headers={
            "Idempotency-Key": "1 to 255 visible ASCII characters, best a UUID. A second request with the same key and "
            "the same body gets the first one's answer, for 24 hours."
        },
    )
    def create_user(self) -> Response:
        """Add a user. With an `Idempotency-Key` it is safe to send it again until there is an answer.

        409 says that the name or the address is taken, or that a request with this key is still in progress; 422 that
        the key was used with another body. A key counts for this operation whoever sends it.
        """
        key = parse_key(request.headers.get("Idempotency-Key"))
        new, _ = parse_body(NewUser)
        fields = new.model_dump()
        if key is None:
            user = self._announced(lambda: self._users.create(fields))
            return _one(user, 201, ("Location", user_path(user.id)))
        created = self._announced(lambda: self._idempotency.create(key, fields, render=user_body))
        headers = [("ETag", etag(created.user_id, 1)), ("Location", user_path(created.user_id)), PRIVATE]
        if created.replayed:
            headers.append(("Idempotency-Replayed", "true"))
        return json_answer(created.answer, 201, *headers)

    @operation(
        "One user",
        tag=_TAG,
        path=_ID,
        answers={
            200: Answer(text="The user", model=UserBody, headers=_VALIDATOR),
            304: Answer(text="What the client has is still right", headers=_VALIDATOR),
        },
        problems=(404, 503, 504),
        headers={"If-None-Match": "an ETag received before; 304 if the user is still in that state"},
    )
    def get_user(self, user_id: str) -> Response:
        """The user of that id. Anything that is no id is the id of no user."""
        user = self._users.get(parse_id(user_id, what="user"))
        if user is None:
            raise _no_such_user()
        return _one(user)

    @operation(
        "Change a user",
        tag=_TAG,
        path=_ID,
        body=UserChanges,
        answers={200: Answer(text="The user as it is now", model=UserBody, headers=_VALIDATOR)},
        problems=(400, 404, 409, 412, 413, 415, 503, 504),
        headers=_IF_MATCH,
    )
    def change_user(self, user_id: str) -> Response:
        """Set the fields that are sent and leave the others."""
        number = parse_id(user_id, what="user")
        changes, _ = parse_body(UserChanges)
        return self._updated(number, changes.model_dump(exclude_unset=True))

    @operation(
        "Replace a user",
        tag=_TAG,
        path=_ID,
        body=NewUser,
        answers={200: Answer(text="The user as it is now", model=UserBody, headers=_VALIDATOR)},
        problems=(400, 404, 409, 412, 413, 415, 503, 504),
        headers=_IF_MATCH,
    )
    def replace_user(self, user_id: str) -> Response:
        """Set all fields; a full name that is not sent is taken away. Ids are the service's: PUT creates nobody."""
        number = parse_id(user_id, what="user")
        replacement, _ = parse_body(NewUser)
        return self._updated(number, replacement.model_dump())

    @operation(
        "Delete a user",
        tag=_TAG,
        path=_ID,
        answers={204: Answer(text="Gone")},
        problems=(404, 412, 503, 504),
        headers=_IF_MATCH,
    )
    def delete_user(self, user_id: str) -> Response:
        """Remove the user. The id is never given to another."""
        number = parse_id(user_id, what="user")
        versions = allowed_versions(number)
        if not self._announced(lambda: self._users.delete(number, versions)):
            raise self._missing(number, versions)
        return empty_answer(204)

    def _updated(self, user_id: int, fields: dict[str, Any]) -> Response:
        versions = allowed_versions(user_id)
        user = self._announced(lambda: self._users.update(user_id, fields, versions))
        if user is None:
            raise self._missing(user_id, versions)
        return _one(user)

    def _missing(self, user_id: int, versions: Sequence[int] | None) -> Problem:
        """Why a change found nothing to change."""
        return PreconditionFailed("user") if versions is not None and self._users.get(user_id) else _no_such_user()

    def _found(self, parameters: ListParameters) -> Response:
        """The users with a given name or address. Never cached: there is at most one, and finding it is cheap."""
        if parameters.after is not None:
            raise _bad("after", "cannot be combined with username or email")
        wanted = _wanted(parameters)
        page = wanted.page or 1
        offset = (page - 1) * wanted.per_page
        rows = self._users.find(
            username=parameters.username, email=parameters.email, offset=offset, limit=wanted.per_page
        )  # fmt: skip
        self._cache.count("bypass")
        body = page_body(rows, page=page, per_page=wanted.per_page)
        return json_answer(body, 200, ("X-Cache", "BYPASS"), PRIVATE)

    def _announced(self, write: Callable[[], T]) -> T:
        """Do a write, and announce it unless it changed nothing (a false result)."""
        try:
            result = write()
        except (Unavailable, DeadlineExceeded):  # nobody can tell whether it took effect
            self._announce()
            raise
        if result:
            self._announce()
        return result


_X_CACHE = {"hit": "HIT", "miss": "MISS", "bypass": "BYPASS"}


def _wanted(parameters: ListParameters) -> Wanted:
    """Which page the parameters mean.

    Raises:
        BadRequest: `page` and `after` together, or a page too deep.
    """
    per_page = min(parameters.per_page, MAX_PER_PAGE)
    if parameters.after is not None:
        if parameters.page is not None:
            raise _bad("after", "cannot be combined with page")
        return Wanted(per_page, None, parameters.after)
    page = 1 if parameters.page is None else parameters.page
    if (page - 1) * per_page >= MAX_OFFSET:
        raise _bad("page", f"pages end {MAX_OFFSET:,} users deep; walk with after=<id>, as `next` in Link does")
    return Wanted(per_page, page, 0)


def _page_headers(page: Page) -> tuple[tuple[str, str], ...]:
    return ("X-Cache", _X_CACHE[page.result]), ("Link", page.link), PRIVATE


def _one(user: User, status: int = 200, *headers: tuple[str, str]) -> Response:
    return one(user_body(user), etag(user.id, user.version), status, *headers)


def _no_such_user() -> NotFound:
    return NotFound("There is no such user")


def _bad(field: str, message: str) -> BadRequest:
    return BadRequest(f"{field}: {message}", errors=[{"field": field, "message": message}])
