"""What the links service answers at its addresses: parse, ask, send."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask, Response, request

from chassis.errors import NotFound, Problem
from chassis.http import FinishedResponse, parse_body, parse_query, ready, send
from chassis.openapi import Answer, operation
from chassis.versioned import PRIVATE, empty_answer, json_answer
from links import callers, destinations
from links.pictures import TYPES, Kind
from links.rendering import PATH
from links.schemas import MAX_PER_PAGE, LinkBody, LinkChanges, LinkPage, ListParameters, NewLink
from links_lookup.lookup import CODE, GONE, HEADERS, UNKNOWN, Destination

if TYPE_CHECKING:
    from collections.abc import Callable

    from links.clicks import Clicks
    from links.pictures import Pictures
    from links.redirects import Redirects
    from links.rendering import Addresses
    from links.repository import Link, Links

ONE = f"{PATH}/<code>"
QR_CACHING = ("Cache-Control", "public, max-age=300")
"""As long as somebody may be shown the QR code of a link that is gone; what it shows never changes."""

_CODE = {"code": {"type": "string", "pattern": r"^[A-Za-z0-9_-]{3,32}$"}}
_LINK = "links"
_FOLLOW = "following"
_PRIVATE = {"Cache-Control": "`private, no-cache`"}
_CALLER = {
    "X-Caller": "set by the gateway: the name of the caller's key. Without it, as inside, all links are seen",
    "X-Caller-Scopes": "set by the gateway: what the key may do; `admin` sees all links",
}


class Gone(Problem):
    """410: there was such a thing, and it is over."""

    status = 410
    slug = "link-gone"


class Destinations:
    """Refuses what leads back to us.

    Args:
        public_url, function_url: where our redirects are.
    """

    def __init__(self, *, public_url: str, function_url: str | None) -> None:
        self._own = destinations.hosts_of([public_url])
        self._function_url = function_url

    def check(self, url: str) -> None:
        """Raises Problem, 422, if `url`, a normal one, is a redirect of ours."""
        named = (request.headers.get("Host"), request.headers.get("X-Forwarded-Host"))
        own = self._own | destinations.hosts_of(f"http://{name}" for name in named if name)
        if destinations.is_own_redirect(url, own, function_url=self._function_url):
            message = "must not be a short link of ours"
            raise Problem(f"url: {message}", status=422, errors=[{"field": "url", "message": message}])


class Endpoints:
    """The views of the API and of the redirect."""

    def __init__(
        self,
        *,
        links: Links,
        redirects: Redirects,
        clicks: Clicks,
        pictures: Pictures,
        addresses: Addresses,
        allowed: Destinations,
        function_url: str | None,
    ) -> None:
        self._links = links
        self._redirects = redirects
        self._clicks = clicks
        self._pictures = pictures
        self._addresses = addresses
        self._allowed = allowed
        self._function_url = function_url

    def init_app(self, app: Flask) -> None:
        """Add the views to `app`."""
        views: tuple[tuple[str, str, Callable[..., Response]], ...] = (
            ("GET", PATH, self.list_links),
            ("POST", PATH, self.create_link),
            ("GET", ONE, self.get_link),
            ("PATCH", ONE, self.change_link),
            ("DELETE", ONE, self.delete_link),
            ("GET", "/s/<code>", self.redirect),
            ("GET", "/qr/<code>.svg", self.qr_svg),
            ("GET", "/qr/<code>.png", self.qr_png),
        )
        for method, path, view in views:
            app.add_url_rule(path, view.__name__, view, methods=[method])

    # --- the links ---

    @operation(
        "One's links",
        tag=_LINK,
        query=ListParameters,
        answers={
            200: Answer(
                text="A page of links, the newest first",
                model=LinkPage,
                headers={"Link": "`first` and `next` page (RFC 8288); without `next` this was the last", **_PRIVATE},
            )
        },
        problems=(400, 503, 504),
        headers=_CALLER,
    )
    def list_links(self) -> Response:
        """The links that the caller's key has made, with their clicks. Follow `next` in `Link`."""
        parameters = parse_query(ListParameters)
        per_page = min(parameters.per_page, MAX_PER_PAGE)
        self._clicks.settle()
        found = self._links.page(before=parameters.before, limit=per_page + 1, owner=callers.owner())
        page = found[:per_page]
        relations = [_relation(f"per_page={per_page}", "first")]
        if len(found) > per_page:
            relations.append(_relation(f"per_page={per_page}&before={page[-1]['id']}", "next"))
        body = self._addresses.page(page, per_page=per_page)
        return json_answer(body, 200, ("Link", ", ".join(relations)), PRIVATE)

    @operation(
        "Create a link",
        tag=_LINK,
        body=NewLink,
        answers={
            201: Answer(text="Created", model=LinkBody, headers={"Location": "address of the link", **_PRIVATE}),
        },
        problems=(400, 409, 413, 415, 422, 503, 504),
        headers={"X-Caller": "set by the gateway: the name of the caller's key, to which the link will belong"},
    )
    def create_link(self) -> Response:
        """Shorten a URL. 422 says what is wrong with it or with the code; 409 that the code is, or was, another's.

        Where it leads is stored and answered in one spelling, in ASCII: hosts in other scripts as `xn--…`.
        """
        new, _ = parse_body(NewLink, invalid=422)
        link = self.create(new)
        return json_answer(self._addresses.one(link), 201, ("Location", f"{PATH}/{link['code']}"), PRIVATE)

    def create(self, new: NewLink) -> Link:
        """Make the link that the caller wants.

        Raises:
            Problem: 422 or 409.
        """
        self._allowed.check(new.url)
        link = self._links.create(url=new.url, code=new.code, expires_at=new.expires_at, owner=callers.name())
        self._redirects.forget(link["code"])  # somebody may have asked for the code before it was there
        return link

    @operation(
        "One link",
        tag=_LINK,
        path=_CODE,
        answers={200: Answer(text="The link", model=LinkBody, headers=_PRIVATE)},
        problems=(404, 503, 504),
        headers=_CALLER,
    )
    def get_link(self, code: str) -> Response:
        """A link of the caller's, with its clicks."""
        _must_be_a_code(code)
        self._clicks.settle()
        return self._answer(self._links.get(code, owner=callers.owner()))

    @operation(
        "Change a link",
        tag=_LINK,
        path=_CODE,
        body=LinkChanges,
        answers={200: Answer(text="The link as it is now", model=LinkBody, headers=_PRIVATE)},
        problems=(400, 404, 413, 415, 422, 503, 504),
        headers=_CALLER,
    )
    def change_link(self, code: str) -> Response:
        """Switch a link off or on, or set when it expires. Where it leads cannot be changed: it may be printed."""
        _must_be_a_code(code)
        changes, _ = parse_body(LinkChanges, invalid=422)
        link = self._links.update(code, changes.model_dump(exclude_unset=True), owner=callers.owner())
        self._redirects.forget(code)
        return self._answer(link)

    @operation(
        "Delete a link",
        tag=_LINK,
        path=_CODE,
        answers={204: Answer(text="Gone")},
        problems=(404, 503, 504),
        headers=_CALLER,
    )
    def delete_link(self, code: str) -> Response:
        """Remove a link. Its code is never given to another."""
        _must_be_a_code(code)
        deleted = self._links.delete(code, owner=callers.owner())
        self._redirects.forget(code)
        if not deleted:
            raise NotFound(UNKNOWN)
        return empty_answer(204)

    def _answer(self, link: Link | None) -> Response:
        if link is None:
            raise NotFound(UNKNOWN)
        return json_answer(self._addresses.one(link), 200, PRIVATE)

    # --- following them ---

    @operation(
        "Follow a link",
        tag=_FOLLOW,
        path=_CODE,
        answers={
            302: Answer(
                text="Go there",
                headers={
                    "Location": "where the link leads",
                    "Cache-Control": "`private, max-age=0`, so that every click is counted",
                    "X-Robots-Tag": "`noindex`",
                },
            )
        },
        problems=(404, 410, 503, 504),
    )
    def redirect(self, code: str) -> Response:
        """To where the code leads. 404: nowhere; 410: not any more. GET counts as a click, HEAD does not.

        With USE_CLOUD_FUNCTION_REDIRECT it leads to the redirect function, which knows the rest.
        """
        if self._function_url is not None:
            _must_be_a_code(code)
            url = f"{self._function_url}/{code}"
        else:
            url = _live(self._redirects.follow(code, counts=request.method == "GET")).url
        response = FinishedResponse(None, 302, headers=[("Location", url), *HEADERS])  # werkzeug would rewrite the URL
        del response.headers["Content-Type"]  # of what it does not have
        return response

    @operation(
        "QR code of a link, as SVG",
        tag=_FOLLOW,
        path=_CODE,
        answers={200: Answer(text="The picture", media=TYPES["svg"], headers={"ETag": "strong validator"})},
        problems=(404, 410, 503, 504),
    )
    def qr_svg(self, code: str) -> Response:
        """The short URL as a QR code that scales."""
        return self._qr(code, "svg")

    @operation(
        "QR code of a link, as PNG",
        tag=_FOLLOW,
        path=_CODE,
        answers={200: Answer(text="The picture", media=TYPES["png"], headers={"ETag": "strong validator"})},
        problems=(404, 410, 503, 504),
    )
    def qr_png(self, code: str) -> Response:
        """The short URL as a QR code in pixels, ten for each module."""
        return self._qr(code, "png")

    def _qr(self, code: str, kind: Kind) -> Response:
        _live(self._redirects.follow(code, counts=False))
        picture = self._pictures.get(self._addresses.short_url(code), kind)
        return send(ready(picture, QR_CACHING, ("X-Robots-Tag", "noindex"), content_type=TYPES[kind]))


def _must_be_a_code(code: str) -> None:
    if not CODE.fullmatch(code):
        raise NotFound(UNKNOWN)


def _live(destination: Destination) -> Destination:
    if destination.state == "unknown":
        raise NotFound(UNKNOWN)
    if destination.state == "gone":
        raise Gone(GONE)
    return destination


def _relation(query: str, name: str) -> str:
    return f'<{PATH}?{query}>; rel="{name}"'
