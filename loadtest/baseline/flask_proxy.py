"""What a proxy in Flask and urllib3 does: pooled keep-alive connections, bodies streamed, hop-by-hop headers dropped.

UPSTREAM=http://127.0.0.1:9001 gunicorn -c python:loadtest.baseline.gunicorn_conf \
    'loadtest.baseline.flask_proxy:create_app()'
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING

import urllib3
from flask import Flask, Response, g, request
from urllib3.exceptions import HTTPError
from urllib3.exceptions import TimeoutError as UpstreamTimeout

from loadtest.baseline.kit import HOP_BY_HOP, observe_flask

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

_DROPPED_FROM_REQUEST = HOP_BY_HOP | {"host", "x-request-id", "x-forwarded-for"}
_CHUNK_BYTES = 64 * 1024
_METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"]


def create_app() -> Flask:
    """A proxy of everything to UPSTREAM, with time-outs of 10 s; one connection a thread is kept open."""
    app = Flask(__name__, static_folder=None)
    observe_flask(app, service="flask_proxy")
    upstream = os.environ["UPSTREAM"].rstrip("/")
    pool = urllib3.PoolManager(
        maxsize=int(os.environ.get("THREADS", "8")),
        retries=False,
        timeout=urllib3.Timeout(connect=1.0, read=10.0),
    )

    @app.route("/", defaults={"path": ""}, methods=_METHODS)
    @app.route("/<path:path>", methods=_METHODS)
    def forward(path: str) -> ResponseReturnValue:  # noqa: ARG001 - the route gives it; request.path is used
        query = request.query_string.decode("latin-1")
        headers = {name: value for name, value in request.headers if name.lower() not in _DROPPED_FROM_REQUEST}
        headers["X-Request-ID"] = g.request_id
        headers["X-Forwarded-For"] = request.remote_addr or ""
        has_body = bool(request.content_length) or "Transfer-Encoding" in request.headers
        try:
            answer = pool.request(
                request.method,
                f"{upstream}{request.path}?{query}" if query else f"{upstream}{request.path}",
                headers=headers,
                body=request.stream if has_body else None,
                preload_content=False,
                decode_content=False,
                redirect=False,
            )
        except UpstreamTimeout:
            return {"error": "upstream timed out"}, 504
        except HTTPError:
            return {"error": "upstream is away"}, 503, {"Retry-After": "1"}
        kept = [(name, value) for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP]
        return Response(_stream(answer), status=answer.status, headers=kept, direct_passthrough=True)

    return app


def _stream(answer: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The body in pieces; the connection goes back to the pool whatever happens to the client."""
    try:
        yield from answer.stream(_CHUNK_BYTES, decode_content=False)
    finally:
        answer.release_conn()
