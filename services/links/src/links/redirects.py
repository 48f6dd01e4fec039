"""Where a code leads: from Redis while it knows, else from PostgreSQL.

Redis holds, by code, `+` and the URL of a live link, `!` for one that is gone, `-` for none. A change puts `?` there,
which says "ask PostgreSQL", for longer than any reader can take between reading there and writing here; and readers
only write where nothing is. So no reader can put back what it read before the change.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from chassis.cache import Cache, CacheUnavailable
from links.clicks import KEY as CLICKS
from links_lookup.lookup import CODE, Destination

if TYPE_CHECKING:
    from links.clicks import Clicks
    from links.repository import Links

_LIVE, _GONE, _UNKNOWN = b"+", b"!", b"-"
_MOST_UNTOLD = 10_000

# One round trip for the look-up and the click.
_LOOK_UP = """
local found = redis.call('GET', KEYS[1])
if found and string.byte(found) == 43 then redis.call('HINCRBY', KEYS[2], ARGV[1], 1) end
return found
"""


class Redirects:
    """Finds destinations.

    Args:
        ttl_s: how long Redis keeps one, seconds.
        ask_ms: how long `?` stands; more than the longest database operation and call of Redis together.
    """

    def __init__(self, cache: Cache, links: Links, clicks: Clicks, *, ttl_s: int, ask_ms: int) -> None:
        self._cache = cache
        self._links = links
        self._clicks = clicks
        self._ttl_ms = ttl_s * 1000
        self._ask_ms = ask_ms
        self._untold: set[str] = set()
        self._untold_lock = threading.Lock()

    def peek(self, code: str, *, counts: bool) -> str | None:
        """The URL of a live link if Redis has it, and the click counted if it `counts`; None: ask `follow`."""
        if not CODE.fullmatch(code):
            return None
        try:
            found = self._look_up(code, counts=counts)
        except CacheUnavailable:
            return None
        if found is None or found[:1] != _LIVE:
            return None
        self._cache.count("hit")
        return found[1:].decode("ascii")

    def follow(self, code: str, *, counts: bool) -> Destination:
        """Where a code leads; the click on a live link is counted if it `counts`.

        Raises:
            Unavailable, DeadlineExceeded: Redis does not know and PostgreSQL cannot answer.
        """
        if not CODE.fullmatch(code):
            return Destination("unknown")
        try:
            found = self._look_up(code, counts=counts)
        except CacheUnavailable:
            self._cache.count("bypass")
            return self._ask(code, counts=counts)
        kind = found[:1] if found is not None else b""
        if found is not None and kind in (_LIVE, _GONE, _UNKNOWN):
            self._cache.count("hit")
            if kind == _LIVE:
                return Destination("live", found[1:].decode("ascii"))
            return Destination("gone" if kind == _GONE else "unknown")
        self._cache.count("miss")
        destination = self._ask(code, counts=counts)
        if found is None:
            self._remember(code, destination)
        return destination

    def forget(self, code: str) -> None:
        """The link has just changed: whoever looks it up after this asks PostgreSQL."""
        try:
            self._cache.exchange(lambda _: ("SET", _key(code), b"?", "PX", self._ask_ms))
        except CacheUnavailable:
            if self._cache.configured:
                with self._untold_lock:
                    if len(self._untold) < _MOST_UNTOLD:
                        self._untold.add(code)

    def tell(self) -> None:
        """Say again what Redis could not be told while it was away. For a background thread."""
        self._cache.probe()
        with self._untold_lock:
            untold, self._untold = self._untold, set()
        for code in untold:
            self.forget(code)

    def _look_up(self, code: str, *, counts: bool) -> bytes | None:
        if counts:
            found: bytes | None = self._cache.exchange(lambda _: ("EVAL", _LOOK_UP, 2, _key(code), CLICKS, code))
        else:
            found = self._cache.exchange(lambda _: ("GET", _key(code)))
        return found

    def _ask(self, code: str, *, counts: bool) -> Destination:
        destination = self._links.destination(code)
        if counts and destination.state == "live":
            self._clicks.add(code)
        return destination

    def _remember(self, code: str, destination: Destination) -> None:
        kind = {"live": _LIVE, "gone": _GONE, "unknown": _UNKNOWN}[destination.state]
        left_ms = self._ttl_ms if destination.left_ms is None else min(self._ttl_ms, destination.left_ms)
        if left_ms <= 0:
            return
        value = kind + destination.url.encode("ascii")
        try:
            self._cache.exchange(lambda _: ("SET", _key(code), value, "NX", "PX", left_ms))
        except CacheUnavailable:
            return


def _key(code: str) -> bytes:
    return b"{links}:to:" + code.encode("ascii")
