"""The redirect as a Cloud Function: `/<code>` is answered with 302 to where the short link leads.

The platform imports this module and calls `redirect`. What lives from one request to the next, in an instance, is made
at the first of them.
"""

from __future__ import annotations

import atexit
import json
import logging
import threading
from functools import cache

import flask
import functions_framework
import psycopg2

from links_lookup.connection import OneConnection, from_environment
from links_lookup.lookup import CODE, FIND, GONE, HEADERS, UNKNOWN, Destination, destination
from links_lookup.tally import COUNT, Tally

log = logging.getLogger(__name__)

FLUSH_AFTER_S = 0.5
_TITLES = {404: "Not Found", 405: "Method Not Allowed", 410: "Gone", 503: "Service Unavailable"}


class Redirector:
    """Finds destinations in the database, and adds clicks to it in batches."""

    def __init__(self, connection: OneConnection) -> None:
        self._connection = connection
        self._tally = Tally()
        self._timer: threading.Timer | None = None
        self._lock = threading.Lock()

    def find(self, code: str) -> Destination:
        """Where a code leads.

        Raises:
            psycopg2.Error: the database does not say.
        """
        with self._connection.cursor() as cursor:
            cursor.execute(FIND, {"code": code})
            return destination(cursor.fetchall())

    def count(self, code: str) -> None:
        """Count a click; half a second later it is stored, with all that came meanwhile."""
        self._tally.add(code)
        with self._lock:
            if self._timer is None:
                self._timer = threading.Timer(FLUSH_AFTER_S, self.flush)
                self._timer.daemon = True
                self._timer.start()

    def flush(self) -> None:
        """Store the clicks counted until now. What cannot be stored waits for the next click, or the end."""
        with self._lock:
            self._timer = None
        try:
            while (batch := self._tally.batch()) is not None:
                with self._connection.cursor() as cursor:
                    cursor.execute(COUNT, batch.parameters())
                self._tally.done(batch)
        except psycopg2.Error as error:
            log.warning("Clicks wait to be counted: %s", type(error).__name__)


@cache
def redirector() -> Redirector:
    """The instance's own."""
    made = Redirector(OneConnection(from_environment()))
    atexit.register(made.flush)
    return made


@functions_framework.http
def redirect(request: flask.Request) -> flask.Response:
    """Follow a link. 404: there is none; 410: not any more; 503: the database does not answer."""
    if request.path == "/health/live":
        return flask.Response('{"status":"alive"}', content_type="application/json")
    code = request.path.lstrip("/")
    if request.method not in ("GET", "HEAD"):
        return _problem(405, "This address does not take that method", {"Allow": "GET, HEAD"})
    if not CODE.fullmatch(code):
        return _problem(404, UNKNOWN)
    try:
        found = redirector().find(code)
    except psycopg2.Error as error:
        log.error("The database does not answer: %s", type(error).__name__)  # noqa: TRY400 - a traceback says no more
        return _problem(503, "The database does not answer", {"Retry-After": "1"})
    if found.state != "live":
        return _problem(404, UNKNOWN) if found.state == "unknown" else _problem(410, GONE)
    if request.method == "GET":
        redirector().count(code)
    return _AsItIs(None, 302, headers=[("Location", found.url), *HEADERS])


class _AsItIs(flask.Response):
    """A response whose headers werkzeug does not touch: it would rewrite the URL."""

    def get_wsgi_headers(self, environ: object) -> object:  # type: ignore[override]  # noqa: ARG002
        del self.headers["Content-Type"]  # of the body that it does not have
        return self.headers


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> flask.Response:
    """An error as the services answer it (RFC 9457)."""
    body = {"type": "about:blank", "title": _TITLES[status], "status": status, "detail": detail, "error": detail}
    return flask.Response(
        json.dumps(body), status, headers=headers, content_type="application/problem+json"
    )  # fmt: skip
