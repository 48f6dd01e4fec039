"""A service that can do little, or nothing: MODE=ok answers at once, slow after SERVICE_MS, fail always 503.

PORT=9000 THREADS=4 MODE=slow SERVICE_MS=40 gunicorn -c python:loadtest.baseline.gunicorn_conf \
    'loadtest.baseline.frail:create_app()'
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed.wsgi import StartResponse, WSGIApplication, WSGIEnvironment


def create_app() -> WSGIApplication:
    """An application that counts what it is asked for; `/seen` says how often that was."""
    mode, service_s = os.environ.get("MODE", "ok"), int(os.environ.get("SERVICE_MS", "0")) / 1000
    status = "503 Service Unavailable" if mode == "fail" else "200 OK"
    lock = threading.Lock()
    seen = 0

    def app(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        nonlocal seen
        path = environ["PATH_INFO"]
        if path in ("/seen", "/health/live"):
            body = str(seen).encode()
            start_response("200 OK", [("Content-Length", str(len(body)))])
            return [body]
        with lock:
            seen += 1
        time.sleep(service_s)
        start_response(status, [("Content-Length", "2"), ("Cache-Control", "no-store")])
        return [b"ok"]

    return app
