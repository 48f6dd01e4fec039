"""Cached pages, answered before Flask sees the request.

A page from Redis costs Flask more than Redis (ADR 0022 has the figures). So a GET whose query string is known, and
whose page is in the cache and fresh, is answered here; everything else goes on to Flask, errors and misses included.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from flask import Flask

from chassis.cache import Cache
from chassis.http import ENDPOINT, JSON, Observe
from user.pages import Pages, Wanted
from user.rendering import PATH, PRIVATE

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


class Hits:
    """WSGI: answers cache hits, gives the rest to `application`.

    Args:
        known: query string → page, as the endpoint has parsed it before.
    """

    def __init__(
        self, application: WSGIApplication, *, known: Mapping[str, Wanted], pages: Pages, cache: Cache, endpoint: str
    ) -> None:
        self._application = application
        self._known = known
        self._pages = pages
        self._cache = cache
        self._endpoint = endpoint

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["PATH_INFO"] == PATH and environ["REQUEST_METHOD"] == "GET":
            wanted = self._known.get(environ["QUERY_STRING"])
            page = self._pages.peek(wanted) if wanted is not None else None
            if page is not None:
                environ[ENDPOINT] = self._endpoint
                self._cache.count("hit")
                length = str(len(page.body))
                headers = [
                    ("X-Cache", "HIT"), ("Link", page.link), PRIVATE,
                    ("Content-Type", JSON), ("Content-Length", length),
                ]  # fmt: skip
                start_response("200 OK", headers)
                return (page.body,)
        return self._application(environ, start_response)


def init_app(app: Flask, *, known: Mapping[str, Wanted], pages: Pages, cache: Cache, endpoint: str) -> None:
    """Answer hits of `app` ahead of Flask, but inside Observe: with ids, metrics and log lines.

    Not for an application with CORS, whose headers depend on the request.
    """
    observe = app.wsgi_app
    if not isinstance(observe, Observe):
        raise TypeError("chassis.service.mount comes first")
    observe.application = Hits(observe.application, known=known, pages=pages, cache=cache, endpoint=endpoint)
