"""The floor under every WSGI service: a ready body, and nothing else. No metrics, no ids, no log: this is the limit.

PORT=9000 gunicorn -c python:loadtest.baseline.gunicorn_conf 'loadtest.baseline.bare_wsgi:create_app()'
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from loadtest.baseline.body import ready_body

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def create_app() -> WSGIApplication:
    """An application that answers anything with the ready body."""
    body = ready_body()
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(body)))]
    answer = [body]

    def app(_environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", headers)
        return answer

    return app
