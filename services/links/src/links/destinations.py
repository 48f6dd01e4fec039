"""Where a short link may lead, and in which one spelling that is stored.

A browser follows what we send, so a browser's own parser judges it: ada is the WHATWG URL parser of Node.js. What
that parser would mend or read in a surprising way is refused before; what is left is stored as the parser writes it,
in ASCII, so that nothing in it can end a header line and a host in another script is seen as what it is (`xn--…`).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from urllib.parse import unquote

import ada_url

MAX_CHARS = 2048
_BEGIN = re.compile(r"https?://[^/?#]", re.IGNORECASE)
_AUTHORITY = re.compile(r"https?://([^/?#]*)", re.IGNORECASE)
_UNSEEN = re.compile(r"[\s\\\x00-\x1f\x7f-\x9f\u00ad\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\uffff]")
"""White space, control characters, backslashes (which browsers take for slashes), and what is drawn as nothing or
turns the text around."""

_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?")
_ESCAPED = re.compile(r"%(?![0-9A-Fa-f]{2})|%(?:0[0-9a-f]|1[0-9a-f]|7f|5c)", re.IGNORECASE)
_LOOPBACK = "loopback"
_MOST_LAYERS = 8


def normalize(text: str) -> str:
    """A destination in its only spelling.

    Raises:
        ValueError: no link may lead there; the text says why, for the person who wrote it.
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"must have at most {MAX_CHARS} characters")
    if _UNSEEN.search(text):
        raise ValueError("must not contain spaces, control or invisible characters, or backslashes")
    if not _BEGIN.match(text):
        raise ValueError("must begin with http:// or https:// and a host")
    match = _AUTHORITY.match(text)
    authority = match[1] if match else ""
    if "@" in authority:
        raise ValueError("must not contain a user name or password")
    if "%" in authority:
        raise ValueError("must not contain escapes in the host")
    if _ESCAPED.search(text):
        raise ValueError("must not contain escaped control characters or backslashes, or a % that escapes nothing")
    try:
        url = ada_url.URL(text)
    except ValueError:
        raise ValueError("must be a valid URL") from None
    _check_host(url.hostname, authority)
    if url.username or url.password or not url.href.isascii() or _UNSEEN.search(url.href):
        raise ValueError("must be a valid URL")
    if len(url.href) > MAX_CHARS:
        raise ValueError(f"must have at most {MAX_CHARS} characters once it is written in ASCII")
    if url.port == "0":
        raise ValueError("must have a port from 1 to 65535")
    return str(url.href)


def _check_host(host: str, authority: str) -> None:
    if host.startswith("["):
        return
    name = host.removesuffix(".")
    labels = name.split(".")
    if not all(map(_LABEL.fullmatch, labels)) or not all(map(_is_readable, labels)) or len(name) > 253:
        raise ValueError("must have a host name that can exist")
    written = authority.partition(":")[0].lower()
    if _is_ipv4(host) and written != host:
        raise ValueError("must have an address written the usual way, as in 192.0.2.1")


def _is_readable(label: str) -> bool:
    """Whether a label in punycode stands for something that can be shown."""
    if not label.startswith("xn--"):
        return True
    try:
        text = label[4:].encode("ascii").decode("punycode")
    except UnicodeError:
        return False
    return not text.isascii() and text.isprintable()


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def host_of(url: str) -> str:
    """The host of a normal URL, the same for all spellings of one machine that we know of."""
    host = str(ada_url.URL(url).hostname).removesuffix(".")
    if host == "localhost" or host.endswith(".localhost"):
        return _LOOPBACK
    try:
        address = ipaddress.ip_address(host.strip("[]"))
    except ValueError:
        return host
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    address = mapped or address
    return _LOOPBACK if address.is_loopback or address.is_unspecified else str(address)


def hosts_of(bases: Iterable[str]) -> frozenset[str]:
    """The hosts of base URLs; of `Host` headers too, with `http://` in front. What is no URL has none."""
    found = set()
    for base in bases:
        try:
            found.add(host_of(base))
        except ValueError:
            continue
    return frozenset(found)


def is_own_redirect(url: str, own_hosts: frozenset[str], *, function_url: str | None) -> bool:
    """Whether a normal URL is a redirect of ours, so that following it would go round in a circle.

    On our hosts that is every path with a segment `s` and something behind it, however it is escaped: `/s/x` at the
    service and at the gateway, `/t/storefront/links/s/x` at the gateway.
    """
    host = host_of(url)
    path = _plain(str(ada_url.URL(url).pathname))
    if function_url is not None and host == host_of(function_url):
        return path.startswith(_plain(str(ada_url.URL(function_url).pathname)))
    return host in own_hosts and re.search(r"/s/+.", path, re.IGNORECASE) is not None


def _plain(path: str) -> str:
    """A path with all its escapes undone, those of escapes too."""
    for _ in range(_MOST_LAYERS):
        undone = unquote(path)
        if undone == path:
            break
        path = undone
    return path.replace("\\", "/")
