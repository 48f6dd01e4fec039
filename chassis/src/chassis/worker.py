"""The gunicorn worker of the Flask services: `gthread`, whose own errors are problems too instead of HTML pages."""

from __future__ import annotations

import signal
import socket
from typing import Any

from gunicorn.http import errors
from gunicorn.workers.gthread import ThreadWorker

from chassis.errors import CONTENT_TYPE, problem_bytes, title_of
from chassis.lifecycle import STOP_SIGNALS

_STATUSES: tuple[tuple[type[Exception], int], ...] = (
    (errors.LimitRequestLine, 414),
    (errors.LimitRequestHeaders, 431),
    (errors.ExpectationFailed, 417),
    (errors.ConfigurationProblem, 500),
    (errors.ForbiddenProxyRequest, 403),
    (errors.ParseException, 400),
)
"""What gunicorn answers to what it cannot parse; the first that fits counts."""


class Worker(ThreadWorker):
    """Answers requests that never reach the application with `application/problem+json`."""

    def init_signals(self) -> None:
        """From here on a stop signal that was held over the fork can be obeyed."""
        super().init_signals()
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)

    def _keepalive_after(self, conn: Any, keepalive: bool) -> bool:
        """Whether another request may come: not if the rest of a body that nobody wanted turns out malformed.

        The request has been answered by then, and a second answer would be taken for that to the next one.
        """
        try:
            return bool(super()._keepalive_after(conn, keepalive))  # type: ignore[misc]
        except (errors.ParseException, OSError):
            self.log.debug("Closing a connection after a malformed body")
            return False

    def handle_error(self, req: Any, client: socket.socket, addr: Any, exc: BaseException) -> None:  # noqa: ARG002
        """Log what went wrong and answer it: 4xx when the client's bytes were at fault, else 500."""
        status = next((status for kind, status in _STATUSES if isinstance(exc, kind)), 500)
        if status >= 500:
            self.log.error("Error handling request", exc_info=exc)
        else:
            self.log.warning("Bad request from %s: %s", addr[0] if addr else "", type(exc).__name__)
        title = title_of(status)
        body = problem_bytes(status, "The request is not well-formed HTTP" if status < 500 else title)
        head = (
            f"HTTP/1.1 {status} {title}\r\nConnection: close\r\nContent-Type: {CONTENT_TYPE}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        try:
            client.setblocking(False)
            client.send(head.encode("latin-1") + body)
        except OSError:
            self.log.debug("The client did not take the error answer")
