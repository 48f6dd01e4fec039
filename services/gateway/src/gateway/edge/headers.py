"""Header hygiene: what a request and a response may carry across the edge, and what the edge says of its own accord.

Everything here works on the lower-case byte pairs of ASGI. Nothing is read twice: one pass sorts a request's fields
into those that go on as they are and those that the edge has a say in.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection, Iterable, Mapping

Header = tuple[bytes, bytes]
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"http2-settings",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Fields that belong to one connection (RFC 9110 section 7.6.1), the `Proxy-*` family among them."""

_OURS = frozenset(
    {
        b"authorization",
        b"content-length",
        b"expect",
        b"forwarded",
        b"host",
        b"traceparent",
        b"tracestate",
        b"x-api-key",
        b"x-caller",
        b"x-caller-refused",
        b"x-caller-scopes",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-proto",
        b"x-request-id",
        b"x-request-timeout-ms",
        b"x-route-env",
        b"x-route-key",
        b"x-route-version",
    }
)
_DISBELIEVED = frozenset(
    {
        b"client-ip",
        b"true-client-ip",
        b"x-client-ip",
        b"x-forwarded",
        b"x-forwarded-by",
        b"x-forwarded-port",
        b"x-forwarded-prefix",
        b"x-forwarded-protocol",
        b"x-forwarded-scheme",
        b"x-forwarded-server",
        b"x-forwarded-ssl",
        b"x-original-url",
        b"x-real-ip",
        b"x-rewrite-url",
    }
)
_SET_ASIDE = HOP_BY_HOP | _OURS | _DISBELIEVED

REWRITTEN = _OURS - {b"host"}
"""Fields that a service gets as the edge says them, or not at all, whatever the client sent."""

RESPONSE_DROPPED = HOP_BY_HOP | {b"server", b"x-request-id"}
"""Fields of an upstream's answer that go no further. Its framing is put aside as well and said again by the edge."""

_HOST = re.compile(rb"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\])(?::[0-9]{0,5})?")
_PLAIN_CONNECTION = frozenset({b"keep-alive", b"close"})
_MAX_REMEMBERED = 4096


def valid_host(host: bytes) -> bool:
    """Whether `host` is a name or an address with or without a port.

    Less than RFC 9110 section 7.2 has: a comma or a `%` in a name is legal there, and read differently by everyone.
    """
    return _HOST.fullmatch(host) is not None


def by_name(headers: Collection[Header]) -> dict[bytes, bytes]:
    """The fields by name. Of one given several times the values are joined by commas, so that what may occur once only
    becomes invalid.
    """
    fields = dict(headers)
    if len(fields) != len(headers):
        fields = {}
        for name, value in headers:
            fields[name] = fields[name] + b"," + value if name in fields else value
    return fields


def sort_request(headers: Iterable[Header]) -> tuple[list[Header], dict[bytes, bytes]]:
    """(fields that go to the upstream as they are, fields the edge decides about).

    Of a field given several times the values are joined by commas, so that what may occur once only becomes invalid.
    Fields that `Connection` names go nowhere.
    """
    forwarded: list[Header] = []
    aside: dict[bytes, bytes] = {}
    for item in headers:
        name = item[0]
        if name in _SET_ASIDE:
            aside[name] = aside[name] + b"," + item[1] if name in aside else item[1]
        else:
            forwarded.append(item)
    connection = aside.get(b"connection")
    if connection is not None and connection not in _PLAIN_CONNECTION:
        named = named_by(connection)
        forwarded = [item for item in forwarded if item[0] not in named]
    return forwarded, aside


def named_by(connection: bytes) -> frozenset[bytes]:
    """The field names, in lower case, that a `Connection` value makes hop-by-hop."""
    return frozenset(token.strip(b" \t").lower() for token in connection.split(b","))


def response_headers(headers: list[Header], connection: bytes | None) -> list[Header]:
    """An upstream's fields (`RESPONSE_DROPPED` gone already) without those its `Connection` names."""
    if connection is None or connection.lower() in _PLAIN_CONNECTION:
        return headers
    named = named_by(connection)
    return [item for item in headers if item[0] not in named]


class Peers:
    """What the edge believes and tells about the peer of a connection.

    Args:
        trusted: networks whose `X-Forwarded-*` and `Forwarded` are believed and continued.
        internal: networks that may see what is meant for operators.
    """

    def __init__(self, *, trusted: Iterable[Network], internal: Iterable[Network]) -> None:
        self._trusted = tuple(trusted)
        self._internal = tuple(internal)
        self._remembered_internal: dict[str, bool] = {}
        self._remembered_lines: dict[tuple[str, bytes | None, str], bytes] = {}

    def is_internal(self, peer: str) -> bool:
        """Whether the peer's own address lies in one of the internal networks."""
        found = self._remembered_internal.get(peer)
        if found is None:
            if len(self._remembered_internal) >= _MAX_REMEMBERED:
                self._remembered_internal.clear()
            found = self._remembered_internal[peer] = _within(peer, self._internal)
        return found

    def client(self, peer: str, aside: Mapping[bytes, bytes]) -> str:
        """The address a request came from: the peer's, or what the trusted proxies in front say it was."""
        if not self._trusted or b"x-forwarded-for" not in aside or not _within(peer, self._trusted):
            return peer
        hops = [hop.strip() for hop in aside[b"x-forwarded-for"].decode("latin-1").split(",")]
        for hop in reversed(hops):
            if _address(hop) is None:
                return peer
            peer = hop
            if not _within(hop, self._trusted):
                break
        return peer

    def origin(
        self, peer: str, host: bytes | None, scheme: str, headers: Mapping[bytes, bytes]
    ) -> tuple[bytes | None, str]:
        """(host, scheme) that the client meant: what the lines below tell the upstream in `X-Forwarded-Host|Proto`."""
        if self._trusted and _within(peer, self._trusted):
            return _outer(host, scheme, headers)
        return host, scheme

    def forwarding_lines(self, peer: str, host: bytes | None, scheme: str, aside: Mapping[bytes, bytes]) -> bytes:
        """The `X-Forwarded-For|Host|Proto` and `Forwarded` lines for the upstream, each with its CRLF."""
        if self._trusted and _within(peer, self._trusted):
            return _continued_lines(peer, host, scheme, aside)
        key = (peer, host, scheme)
        lines = self._remembered_lines.get(key)
        if lines is None:
            if len(self._remembered_lines) >= _MAX_REMEMBERED:
                self._remembered_lines.clear()
            lines = self._remembered_lines[key] = _lines(peer, host, scheme)
        return lines


def _lines(peer: str, host: bytes | None, scheme: str, hops: bytes = b"", elements: bytes = b"") -> bytes:
    node = _address(peer)
    shown = str(node).encode() if node else b"unknown"
    quoted = b'"[' + shown + b']"' if node and node.version == 6 else shown
    element = b"for=" + quoted + (b';host="' + host + b'"' if host else b"") + b";proto=" + scheme.encode()
    lines = [
        b"X-Forwarded-For: " + hops + shown,
        b"X-Forwarded-Proto: " + scheme.encode(),
        b"Forwarded: " + elements + element,
    ]
    if host:
        lines.append(b"X-Forwarded-Host: " + host)
    return b"".join(line + b"\r\n" for line in lines)


def _continued_lines(peer: str, host: bytes | None, scheme: str, aside: Mapping[bytes, bytes]) -> bytes:
    """The same behind a trusted proxy: its lists get one more hop, its scheme and host are taken over."""
    hops = aside.get(b"x-forwarded-for")
    elements = aside.get(b"forwarded")
    host, scheme = _outer(host, scheme, aside)
    return _lines(
        peer,
        host,
        scheme,
        hops + b", " if hops else b"",
        elements + b", " if elements else b"",
    )


def _outer(host: bytes | None, scheme: str, headers: Mapping[bytes, bytes]) -> tuple[bytes | None, str]:
    proto = headers.get(b"x-forwarded-proto")
    outer = headers.get(b"x-forwarded-host")
    return (
        outer if outer is not None and valid_host(outer) else host,
        "https" if proto == b"https" else "http" if proto == b"http" else scheme,
    )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return mapped or address


def _within(text: str, networks: Iterable[Network]) -> bool:
    address = _address(text)
    return address is not None and any(address in network for network in networks)
