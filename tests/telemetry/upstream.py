"""A service behind the gateway that misbehaves as it is told, and remembers what it was sent."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_WELL = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
_UNWELL = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


class Upstream:
    """`/flaky/…` fails the first time, `/down/…` always; `/garbage/…` is no HTTP; all else is well.

    Attributes:
        seen: path → header fields, names in lower case, of the last request there.
    """

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.seen: dict[str, dict[str, str]] = {}
        self._asked: Counter[str] = Counter()

    def answer(self, path: str, headers: dict[str, str]) -> bytes:
        """What goes over the wire."""
        self.seen[path] = headers
        self._asked[path] += 1
        if path.startswith("/garbage/"):
            return b"what?\r\n\r\n"
        unwell = path.startswith("/down/") or (path.startswith("/flaky/") and self._asked[path] == 1)
        return _UNWELL if unwell else _WELL


@contextmanager
def running() -> Iterator[Upstream]:
    """An Upstream on a free port."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            headers = {name.lower(): value for name, value in self.headers.items()}
            self.wfile.write(upstream.answer(self.path, headers))

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - http.server's name
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        upstream = Upstream(server.server_address[1])
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        try:
            yield upstream
        finally:
            server.shutdown()
