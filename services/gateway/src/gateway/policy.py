"""Where routes may lead: asked when a route is written, and again of every address just before it is connected to.

A name proves nothing about the address behind it, and a name that was harmless when the route was written can lead
elsewhere later. So both are judged, and the edge connects to the very address that was.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from gateway.settings import Settings

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

MAX_URL_CHARS = 2048
_URL = re.compile(r"(https?)://(\[[^\]]*\]|[^/?#@\\:\[\]]*)(?::([^/?#@\\]*))?(/[^?#\\]*)?", re.IGNORECASE)
_PATH = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*")
_LABEL = re.compile(r"[a-z0-9](?:[a-z0-9_-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_DEFAULT_PORTS = {"http": 80, "https": 443}

_METADATA = frozenset(
    map(
        ipaddress.ip_address,
        (
            "169.254.169.254",  # AWS, Azure, Google, …
            "100.100.100.200",  # Alibaba
            "168.63.129.16",  # Azure's platform
            "192.0.0.192",  # Oracle
            "fd00:ec2::254",  # AWS
            "fd20:ce::254",  # Google
        ),
    )
)
_NAT64 = (ipaddress.IPv6Network("64:ff9b::/96"), ipaddress.IPv6Network("64:ff9b:1::/48"))
_COMPATIBLE = ipaddress.IPv6Network("::/96")
_TEREDO = ipaddress.IPv6Network("2001::/32")
_ISATAP = (0x00005EFE, 0x02005EFE)


class Rule(NamedTuple):
    """One entry of the list: a network, a name, or a suffix that begins with a dot; with `port` only that one."""

    network: Network | None
    name: str
    port: int | None

    def admits_port(self, port: int | None) -> bool:
        """Whether the entry is about that port; None: whichever it is."""
        return self.port is None or port is None or port == self.port


class UpstreamPolicy:
    """GATEWAY_ALLOWED_UPSTREAMS, the hosts of the `*_URL` settings, and the addresses that are never allowed."""

    def __init__(self, settings: Settings) -> None:
        own = (settings.catalogue_url, settings.user_url, settings.links_url)
        hosts = [urlsplit(url).hostname or "" for url in own if url]
        self._rules = tuple(_rules((*settings.gateway_allowed_upstreams, *hosts)))

    def check_url(self, url: str) -> str:
        """`url` in its normal form: lower-case scheme and host, no default port, no slash at its end.

        Raises:
            ValueError: no route may lead there; the text is for the person who wrote it.
        """
        scheme, host, port, path = split_url(url)
        address = _literal(host)
        if address is not None:
            self.check_address(host, str(address), port=port)
        elif not any(self._rules_for(host, port)):
            raise ValueError(f"{host} is not among the allowed upstreams")
        shown = f"[{host}]" if ":" in host else host
        return f"{scheme}://{shown}{'' if port == _DEFAULT_PORTS[scheme] else f':{port}'}{path}"

    def check_address(self, host: str, address: str, *, port: int | None = None) -> None:
        """Whether the edge may connect to `address`, to which `host` (a name, or the address itself) leads.

        Raises:
            ValueError: it may not.
        """
        outer = ipaddress.ip_address(address)
        judged = inner_address(outer)
        if _never(outer) or _never(judged):
            raise ValueError(f"{address} is never allowed: it is link-local, a metadata service or no host's")
        if any(
            rule.network is not None and rule.admits_port(port) and (judged in rule.network or outer in rule.network)
            for rule in self._rules
        ):
            return
        if _literal(host) is not None:
            raise ValueError(f"{address} is not in the networks of the allowed upstreams")
        matching = list(self._rules_for(host, port))
        if not matching:
            raise ValueError(f"{host} is not among the allowed upstreams")
        if not judged.is_global and all(rule.name.startswith(".") for rule in matching):
            raise ValueError(f"{host} leads to {address}, which is not public")

    def _rules_for(self, name: str, port: int | None) -> Iterator[Rule]:
        for rule in self._rules:
            same = name == rule.name or (rule.name.startswith(".") and name.endswith(rule.name))
            if rule.network is None and same and rule.admits_port(port):
                yield rule


def split_url(url: str) -> tuple[str, str, int, str]:
    """(scheme, host, port, path without a slash at its end) of an upstream's URL; host in its only spelling.

    Stricter than any client: what two parsers could read differently, as a host above all, is refused.

    Raises:
        ValueError: it is not `http(s)://host[:port][/path]`.
    """
    if len(url) > MAX_URL_CHARS:
        raise ValueError(f"want at most {MAX_URL_CHARS} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise ValueError("want visible ASCII characters only")
    match = _URL.fullmatch(url)
    if match is None:
        raise ValueError("want http(s)://host[:port][/path], without credentials, query or fragment")
    scheme, host, port_text, path = match[1].lower(), _host(match[2].lower()), match[3], match[4] or ""
    port = _DEFAULT_PORTS[scheme]
    if port_text is not None:
        if not re.fullmatch(r"[1-9][0-9]{0,4}", port_text) or int(port_text) > 65535:
            raise ValueError("want a port from 1 to 65535")
        port = int(port_text)
    if not _PATH.fullmatch(path):
        raise ValueError("the path has characters that need escaping")
    path = path.rstrip("/")
    segments = re.sub("%2e", ".", re.sub("%2f", "/", path, flags=re.IGNORECASE), flags=re.IGNORECASE).split("/")
    if "%00" in path or "//" in path or not {".", ".."}.isdisjoint(segments):
        raise ValueError("the path must have no empty or dot segments")
    return scheme, host, port, path


def inner_address(address: Address) -> Address:
    """The IPv4 address that an IPv6 address carries inside, if it is of a kind that leads there; else itself."""
    if not isinstance(address, ipaddress.IPv6Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address.sixtofour is not None:
        return address.sixtofour
    if address.teredo is not None:
        return address.teredo[1]
    low = int(address) & 0xFFFFFFFF
    if any(address in network for network in _NAT64) or (address in _COMPATIBLE and low > 1):
        return ipaddress.IPv4Address(low)
    if (int(address) >> 32) & 0xFFFFFFFF in _ISATAP:
        return ipaddress.IPv4Address(low)
    return address


def is_address(host: str) -> bool:
    """Whether `host` is an address and no name."""
    return _literal(host) is not None


def _never(address: Address) -> bool:
    return (
        address in _METADATA
        or address.is_link_local
        or address.is_unspecified
        or address.is_multicast
        or (address.is_reserved and address.version == 4)
        or (isinstance(address, ipaddress.IPv4Address) and int(address) >> 24 == 0)
        or (isinstance(address, ipaddress.IPv6Address) and (address.scope_id is not None or address in _TEREDO))
    )


def _literal(host: str) -> Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None


def _host(text: str) -> str:
    """A host in its only spelling.

    Raises:
        ValueError: it is neither a name nor an address written the one usual way.
    """
    if text.startswith("["):
        try:
            address = ipaddress.IPv6Address(text[1:-1])
        except ValueError:
            raise ValueError("want an IPv6 address between the brackets") from None
        if address.scope_id is not None:
            raise ValueError("an IPv6 address must not have a zone")
        return str(address)
    labels = text.split(".")
    if len(text) > 253 or not all(_LABEL.fullmatch(label) for label in labels):
        raise ValueError("want a host name or an address")
    if _NUMBER.fullmatch(labels[-1]):  # some parser somewhere takes it for an IPv4 address
        try:
            return str(ipaddress.IPv4Address(text))
        except ValueError:
            raise ValueError("want an IPv4 address as four decimal numbers") from None
    return text


def _rules(entries: Iterable[str]) -> Iterator[Rule]:
    for entry in entries:
        text, port = entry.lower(), None
        try:
            network = ipaddress.ip_network(text)
        except ValueError:
            name, colon, digits = text.rpartition(":")
            if colon:
                text, port = name, int(digits)
            address = _literal(text)
            if address is None:
                yield Rule(None, text.removeprefix("*"), port)
                continue
            network = ipaddress.ip_network(address)
        yield Rule(network, "", port)
