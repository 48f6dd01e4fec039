"""What a write makes out of date (RFC 9111 section 4.4)."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

if TYPE_CHECKING:
    from gateway.edge.cache.store import Key
    from gateway.edge.headers import Header
    from gateway.edge.request import Request
    from gateway.edge.target import Target

_POINTERS = frozenset({b"location", b"content-location"})


def out_of_date(request: Request, target: Target, headers: list[Header]) -> frozenset[Key]:
    """The keys, for every version of the service, of the target and of what `Location` and `Content-Location` of the
    answer point to, if that has the same origin.
    """
    places = {(target.path, target.query)}
    for name, value in headers:
        if name in _POINTERS:
            place = _place(request, target, value)
            if place is not None:
                places.add(place)
    routes = [target.pinned] if target.pinned is not None else []
    if target.group is not None:
        routes += target.group.routes
    host, scheme = request.origin
    return frozenset((route.url, host, scheme, path, query) for route in routes for path, query in places)


def _place(request: Request, target: Target, pointer: bytes) -> tuple[bytes, bytes] | None:
    """(path, query) that `pointer` leads to; None if that is another origin, or nowhere."""
    host, scheme = request.origin
    here = f"{scheme}://{(host or b'').decode('latin-1')}{target.path.decode('latin-1')}"
    try:
        there = urlsplit(urljoin(here, pointer.decode("latin-1")))
    except ValueError:
        return None
    if there.scheme != scheme or there.netloc.lower() != urlsplit(here).netloc.lower():
        return None
    return (there.path or "/").encode("latin-1"), there.query.encode("latin-1")
