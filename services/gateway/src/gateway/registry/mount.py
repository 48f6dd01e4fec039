"""The registry's Flask application as a neighbour of the edge: in threads of the same process, a bounded number.

Bodies of both directions are small and in hand, so a call is one hop to a thread and one back.
"""

from __future__ import annotations

import asyncio
import io
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import unquote_to_bytes

from flask import Flask

from chassis.errors import DeadlineExceeded, Unavailable
from gateway.edge.headers import Header
from gateway.registry.endpoints import ACTOR

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

    from gateway.edge.request import Request

THREADS = 8
MAX_WAITING = 32
"""Calls at work and calls that wait for one of these to end; one more is answered 503 at once."""

PREFIX = b"/gateway"
"""Stripped from a path: the documents are at `/gateway/docs` and `/gateway/openapi.json`."""

_KEPT_BACK = frozenset(
    {b"authorization", b"connection", b"content-length", b"content-type", b"expect", b"transfer-encoding", b"x-api-key"}
)
"""Fields that do not become `HTTP_*`: said in another way, settled already, or secret."""


class MountedAnswer(NamedTuple):
    """A whole answer. Header names are in lower case, `content-length` is among them; `endpoint` is the view's name."""

    status: int
    headers: list[Header]
    body: bytes
    endpoint: str


class Mounted:
    """`app` as a coroutine. `chassis.context.current()` is in its threads what it is where it is awaited."""

    def __init__(self, app: Flask, *, threads: int = THREADS, max_waiting: int = MAX_WAITING) -> None:
        self._app = app
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="registry")
        self._places = threading.Semaphore(threads + max_waiting)

    async def __call__(self, request: Request, body: bytes, *, actor: str) -> MountedAnswer:
        """The answer to a request.

        Args:
            actor: name of the caller's API key, for the history; "" for a request that needs none.

        Raises:
            Unavailable: too many are waiting already.
            DeadlineExceeded: the request's time ran out. What is being done goes on; what waits is given up.
        """
        if not self._places.acquire(blocking=False):
            raise Unavailable("The registry is busy")
        environ = environ_of(request, body, actor=actor)
        try:
            call = self._pool.submit(copy_context().run, self._answer, environ)
        except BaseException:
            self._places.release()
            raise
        call.add_done_callback(lambda _: self._places.release())
        try:
            async with asyncio.timeout(request.context.remaining_s()):
                return await asyncio.wrap_future(call)
        except TimeoutError:
            raise DeadlineExceeded from None

    def close(self) -> None:
        """Let what is being done end, and do no more."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _answer(self, environ: WSGIEnvironment) -> MountedAnswer:
        status, fields, endpoint = 500, list[tuple[str, str]](), "unmatched"

        def start_response(line: str, headers: list[tuple[str, str]], exc_info: Any = None) -> Any:  # noqa: ARG001
            nonlocal status, fields, endpoint
            status, fields = int(line[:3]), headers
            # Flask keeps its request in the environ until it has answered; its rule is None where no route matched.
            rule = getattr(environ.get("werkzeug.request"), "url_rule", None)
            endpoint = endpoint if rule is None else rule.endpoint

        pieces = self._app.wsgi_app(environ, start_response)
        try:
            body = b"".join(pieces)
        finally:
            getattr(pieces, "close", lambda: None)()
        encoded = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in fields]
        return MountedAnswer(status, encoded, body, endpoint)


def environ_of(request: Request, body: bytes, *, actor: str) -> WSGIEnvironment:
    """The WSGI environment of a request (PEP 3333)."""
    raw_path = request.raw_path.partition(b"?")[0]
    prefix = PREFIX if raw_path.startswith(PREFIX + b"/") else b""
    headers = request.headers
    environ: WSGIEnvironment = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": prefix.decode(),
        "PATH_INFO": unquote_to_bytes(raw_path[len(prefix) :]).decode("latin-1"),
        "QUERY_STRING": request.query.decode("latin-1"),
        "CONTENT_TYPE": headers.get(b"content-type", b"").decode("latin-1"),
        "CONTENT_LENGTH": str(len(body)),
        "SERVER_NAME": "gateway",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": f"HTTP/{request.http_version}",
        "REMOTE_ADDR": request.client,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": request.scheme,
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": sys.stderr,
        "wsgi.multithread": True,
        "wsgi.multiprocess": True,
        "wsgi.run_once": False,
        ACTOR: actor,
    }
    for name, value in headers.items():
        if name not in _KEPT_BACK and b"_" not in name:
            environ["HTTP_" + name.decode("latin-1").upper().replace("-", "_")] = value.decode("latin-1")
    return environ
