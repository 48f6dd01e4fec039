"""The page for people: a form, and the link it has made. It works without JavaScript and without a mouse."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import TYPE_CHECKING, Any

from flask import Flask, Response, render_template, request
from pydantic import ValidationError

from chassis.errors import NotFound, Problem
from chassis.http import bad_input, ready, send
from links.schemas import NewLink
from links_lookup.lookup import CODE, UNKNOWN

if TYPE_CHECKING:
    from chassis.http import Ready
    from links.endpoints import Endpoints
    from links.redirects import Redirects
    from links.rendering import Addresses

HTML = "text/html; charset=utf-8"
PATH = "/links"
LIVES_DAYS = {"1": "a day", "7": "a week", "30": "a month", "365": "a year"}
_TYPES = {"css": "text/css; charset=utf-8", "js": "text/javascript; charset=utf-8"}
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}
_REFUSED = {
    "401": "This key is not valid. Ask whoever runs this storefront for one.",
    "403": "This key is valid, but it may not make links. It needs the scope links:write.",
}


class Page:
    """The form and what comes of it."""

    def __init__(self, *, api: Endpoints, redirects: Redirects, addresses: Addresses) -> None:
        self._api = api
        self._redirects = redirects
        self._addresses = addresses
        self._files = _load_files()

    def init_app(self, app: Flask) -> None:
        """Add the page to `app`, at `/` and where the gateway has it."""
        for path in ("/", PATH):
            app.add_url_rule(path, "page", self.page, methods=["GET"])
            app.add_url_rule(path, "shorten", self.shorten, methods=["POST"])
        app.add_url_rule(f"{PATH}/static/<name>", "static_file", self.static_file, methods=["GET"])

    def page(self) -> Response:
        """The form; with `?made=<code>` the link of that code as well."""
        made = request.args.get("made", "")
        if not CODE.fullmatch(made):
            return self._render({})
        found = self._redirects.follow(made, counts=False)
        if found.state != "live":
            return self._render({}, status=404, message=UNKNOWN)
        return self._render({}, made=made, url=found.url)

    def shorten(self) -> Response:
        """Make a link of what was sent, and show it; or the form again, with what is wrong."""
        sent = {name: request.form.get(name, "").strip() for name in ("url", "code", "days")}
        refused = request.headers.get("X-Caller-Refused")
        if refused is not None:
            status = 403 if refused == "403" else 401
            return self._render(sent, status=status, errors={"key": _REFUSED[str(status)]})
        try:
            link = self._api.create(_new_link(sent))
        except Problem as problem:
            errors = {error["field"]: error["message"] for error in problem.errors}
            if problem.slug == "code-taken":
                errors = {"code": "is taken, choose another one"}
            message = "" if errors else problem.detail
            return self._render(sent, status=problem.status, errors=errors, message=message, more=problem.headers)
        return Response(None, 303, headers={"Location": f"{PATH}?made={link['code']}", "Cache-Control": "no-store"})

    def static_file(self, name: str) -> Response:
        """Style and script of the page."""
        file = self._files.get(name)
        if file is None:
            raise NotFound("There is nothing at this address")
        return send(file)

    def _render(
        self,
        sent: Mapping[str, str],
        *,
        status: int = 200,
        errors: Mapping[str, str] | None = None,
        message: str = "",
        made: str = "",
        url: str = "",
        more: Mapping[str, str] | None = None,
    ) -> Response:
        html = render_template(
            "page.html", sent=sent, errors=errors or {}, message=message, lives_days=LIVES_DAYS, url=url,
            short_url=self._addresses.short_url(made) if made else "", code=made,
        )  # fmt: skip
        challenge = {"WWW-Authenticate": 'Bearer realm="storefront"'} if status == 401 else {}
        return Response(html, status, headers={**_HEADERS, **challenge, **(more or {})}, content_type=HTML)


def _new_link(sent: Mapping[str, str]) -> NewLink:
    """What the form means. Raises Problem, 422, naming the fields."""
    fields: dict[str, Any] = {"url": sent["url"]}
    if sent["code"]:
        fields["code"] = sent["code"]
    if sent["days"] in LIVES_DAYS:
        fields["expires_at"] = datetime.now(UTC) + timedelta(days=int(sent["days"]))
    try:
        return NewLink.model_validate(fields)
    except ValidationError as error:
        raise bad_input(error, status=422) from None


def _load_files() -> dict[str, Ready]:
    folder = resources.files("links") / "static"
    return {
        file.name: ready(
            file.read_bytes(), ("Cache-Control", "public, max-age=300"),
            content_type=_TYPES[file.name.rpartition(".")[2]],
        )
        for file in folder.iterdir()
    }  # fmt: skip
