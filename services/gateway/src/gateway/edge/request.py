"""A client's request as the edge reads it: its target, its fields sorted, and what makes it unacceptable."""

from __future__ import annotations

import re
from typing import Any

from chassis.context import RequestContext
from chassis.errors import BadRequest, Problem
from gateway.edge.body import Body
from gateway.edge.headers import Header, Peers, by_name, sort_request, valid_host

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
_GOOD_HOSTS: set[bytes] = set()
_MOST_HOSTS = 1024
_ABSOLUTE_FORM = re.compile(r"http://([^/?]*)(/.*)?", re.DOTALL | re.IGNORECASE)


class Request:
    """One request. `path` is decoded and begins with a slash; `raw_path` is what the client wrote of it.

    Attributes:
        headers: every field by name, as `headers.by_name` has it.
        lines: the fields as they came.
        origin: (host, scheme) that the client meant, whatever trusted proxies there are in front.
        cached: whether the cache answered, and no service was asked for it.
        own: whether it is for an endpoint of the gateway itself.
        caller: the lines that tell the service whom the request is from (`edge.callers`).
        personal: whether it took a key, so that its answer is nobody else's.
        said: what its answer says of the rate limit.
    """

    __slots__ = (
        "body",
        "cached",
        "caller",
        "client",
        "context",
        "endpoint",
        "headers",
        "host",
        "http_version",
        "lines",
        "method",
        "origin",
        "own",
        "path",
        "peer",
        "personal",
        "query",
        "raw_path",
        "said",
        "scheme",
        "strip_authorization",
    )

    context: RequestContext

    def __init__(self, scope: Any, peers: Peers) -> None:
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.raw_path: bytes = scope["raw_path"]
        self.query: bytes = scope["query_string"]
        self.scheme: str = scope["scheme"]
        self.http_version: str = scope["http_version"]
        client = scope["client"]
        self.peer: str = client[0] if client else ""
        self.lines: list[Header] = scope["headers"]
        self.headers = by_name(self.lines)
        self.host = self.headers.get(b"host")
        self.client = peers.client(self.peer, self.headers)
        self.origin = peers.origin(self.peer, self.host, self.scheme, self.headers)
        self.body: Body | None = None  # set once it is known to have one
        self.strip_authorization = False  # whether Authorization holds a key of ours, which is no service's business
        self.cached = False
        self.caller = b""
        self.own = False
        self.personal = False
        self.said: tuple[Header, ...] = ()
        self.endpoint = "unmatched"  # its label in metrics and logs, set once it is known where it goes

    @property
    def fields(self) -> list[Header]:
        """The fields that go to a service as they are. Worked out when asked for: a cached answer has no need."""
        return sort_request(self.lines)[0]

    def text(self, name: bytes) -> str | None:
        """A field of ours as text, None if it is not there."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")

    def check(self) -> None:
        """Refuse what two servers in a row could understand differently, but for the path. The framing itself gunicorn
        has checked.

        Raises:
            Problem: 400, or 405 for methods that end at an intermediary.
        """
        host = self.host
        if host is None:
            if self.http_version != "1.0":
                raise BadRequest("A request needs a Host header")
        elif host not in _GOOD_HOSTS:
            if not valid_host(host):
                raise BadRequest("The Host header is not well formed")
            if len(_GOOD_HOSTS) >= _MOST_HOSTS:
                _GOOD_HOSTS.clear()
            _GOOD_HOSTS.add(host)
        coding = self.headers.get(b"transfer-encoding")
        if coding is not None and coding.lower() != b"chunked":
            raise BadRequest("The only transfer coding taken is chunked")
        expected = self.headers.get(b"expect")
        if expected is not None and expected.lower() != b"100-continue":
            raise BadRequest("The only expectation taken is 100-continue")
        if self.method in ("CONNECT", "TRACE"):
            raise Problem("This method is not taken here", status=405, headers={"Allow": ", ".join(METHODS)})
        if b"#" in self.query:
            raise BadRequest("A request target has no fragment")

    def check_path(self) -> None:
        """The same of the path. What it says of a `raw_path` it will always say.

        Raises:
            BadRequest: see `check`.
        """
        if self.path[:1] != "/":
            self._take_absolute_form()
        if b"#" in self.raw_path:
            raise BadRequest("A request target has no fragment")
        if "/." in self.path and not {".", ".."}.isdisjoint(self.path.split("/")):
            raise BadRequest("A path must not have dot segments")

    def _take_absolute_form(self) -> None:
        match = _ABSOLUTE_FORM.fullmatch(self.path)
        if match is None:
            raise BadRequest("The request target is not a path")
        authority = match[1].encode("latin-1", "replace")
        if self.host is None or authority.lower() != self.host.lower():
            raise BadRequest("The request target and the Host header name different hosts")
        self.path = match[2] or "/"
        self.raw_path = self.raw_path[len("http://") + len(authority) :] or b"/"

    def body_length(self) -> int | None:
        """Bytes of the body: 0 without one, None if it is chunked."""
        if b"transfer-encoding" in self.headers:
            return None
        return int(self.headers.get(b"content-length", 0))
