"""Redirects that Redis knows, given before Flask sees the request (ADR 0022 says why)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from flask import Flask

from chassis.http import ENDPOINT, Observe
from links_lookup.lookup import HEADERS

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment

PREFIX = "/s/"


class Ahead:
    """WSGI: GET and HEAD below `/s/` where the answer is at hand; all else goes on to `application`.

    Args:
        peek: gives the URL that a code leads to, or None; it must not raise.
        endpoint: name of the view that would answer.
    """

    def __init__(self, application: WSGIApplication, peek: Callable[..., str | None], *, endpoint: str) -> None:
        self._application = application
        self._peek = peek
        self._endpoint = endpoint

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        method = environ["REQUEST_METHOD"]
        if path.startswith(PREFIX) and method in ("GET", "HEAD"):
            url = self._peek(path[len(PREFIX) :], counts=method == "GET")
            if url is not None:
                environ[ENDPOINT] = self._endpoint
                start_response("302 FOUND", [("Location", url), *HEADERS])
                return ()
        return self._application(environ, start_response)


def init_app(app: Flask, peek: Callable[..., str | None], *, endpoint: str) -> None:
    """Redirect ahead of Flask, but inside Observe: with ids, metrics and log lines.

    Not for an application with CORS, whose headers depend on the request.
    """
    observe = app.wsgi_app
    if not isinstance(observe, Observe):
        raise TypeError("chassis.service.mount comes first")
    observe.application = Ahead(observe.application, peek, endpoint=endpoint)
