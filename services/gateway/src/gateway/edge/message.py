"""A request as its upstream gets it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from gateway.edge.body import chunk
from gateway.edge.headers import Header, Peers

if TYPE_CHECKING:
    from gateway.edge.request import Request
    from gateway.edge.target import Target
    from gateway.edge.upstream import Upstream


def message(
    request: Request,
    target: Target,
    upstream: Upstream,
    peers: Peers,
    *,
    piece: bytes,
    whole: bool,
    fields: Sequence[Header] = (),
    without: Collection[bytes] = (),
) -> bytes:
    """The head, and what there is of the body.

    Args:
        piece: the beginning of the body; all of it if `whole`.
        fields: added; the request's own fields of those names, and those in `without`, are left out.
    """
    path = target.path
    if upstream.base:
        path = upstream.base + path
    if target.query:
        path = b"%b?%b" % (path, target.query)
    parts = [request.method.encode(), b" ", path, upstream.request_line_end]
    lines = request.fields
    if fields or without:
        gone = {*without, *(name for name, _ in fields)}
        lines = [*(line for line in lines if line[0] not in gone), *fields]
    for name, value in lines:
        parts += (name, b": ", value, b"\r\n")
    headers, context, body = request.headers, request.context, request.body
    if b"authorization" in headers and not request.strip_authorization:
        parts += (b"Authorization: ", headers[b"authorization"], b"\r\n")
    parts.append(request.caller)
    parts.append(peers.forwarding_lines(request.peer, request.host, request.scheme, headers))
    if body is None:
        if b"content-length" in headers:
            parts.append(b"Content-Length: 0\r\n")
    elif body.length is not None:
        parts.append(b"Content-Length: %d\r\n" % body.length)
    elif whole:
        parts.append(b"Content-Length: %d\r\n" % len(piece))
    else:
        parts.append(b"Transfer-Encoding: chunked\r\n")
        piece = chunk(piece) if piece else b""
    if b"tracestate" in headers and context.trace_id.encode() in headers.get(b"traceparent", b""):
        parts.append(b"tracestate: %b\r\n" % headers[b"tracestate"])
    parts.append(
        b"X-Request-ID: %b\r\ntraceparent: %b\r\nX-Request-Timeout-Ms: %d\r\n\r\n"
        % (
            context.request_id.encode(),
            context.child_traceparent().encode(),
            max(context.remaining_s() * 1000, 1),
        )
    )
    parts.append(piece)
    return b"".join(parts)
