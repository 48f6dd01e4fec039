"""`Cache-Status` (RFC 9211): what the cache did with a request."""

from __future__ import annotations

from gateway.edge.headers import Header

NAME = b"storefront"


def hit(ttl_s: int, *, error: bool = False) -> bytes:
    """Answered from the store. `error`: it is stale, and there was no use in asking."""
    detail = b"; detail=stale-if-error" if error else b""
    return b"%b; hit; ttl=%d%b" % (NAME, ttl_s, detail)


def forwarded(
    reason: bytes,
    *,
    status: int | None = None,
    ttl_s: int | None = None,
    stored: bool = False,
    collapsed: bool = False,
    error: bool = False,
) -> bytes:
    """A service was asked, because of `reason` (`uri-miss`, `vary-miss`, `stale`, `request`, `method`, `bypass`).

    Args:
        status: what it answered, if the client gets something else.
        ttl_s: how long the answer is still fresh.
        collapsed: it was asked once for several requests.
        error: it failed, and the client gets a stale answer.
    """
    value = b"%b; fwd=%b" % (NAME, reason)
    if status is not None:
        value += b"; fwd-status=%d" % status
    if ttl_s is not None:
        value += b"; ttl=%d" % ttl_s
    if stored:
        value += b"; stored"
    if collapsed:
        value += b"; collapsed"
    if error:
        value += b"; detail=stale-if-error"
    return value


def field(value: bytes) -> Header:
    """The header. It follows those of the caches before, which stay as they are."""
    return b"cache-status", value
