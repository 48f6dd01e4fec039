"""Pages of users as bytes: from Redis while they are valid, else made from PostgreSQL and put there."""

from __future__ import annotations

import random
import struct
import threading
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

from chassis.cache import Cache, CacheUnavailable
from chassis.errors import DeadlineExceeded, Unavailable
from user.generation import KEY, Generation, Token

Result = Literal["hit", "miss", "bypass"]

FOLLOWER_WAIT_S = 0.15
"""How long a request waits for another of this worker that makes the same page, before it makes the page itself. Both
together are to be within 1 s when PostgreSQL hangs (contract, section 4), and 0.8 s of it is one operation's.
"""

REBUILD_LOCK_MS = 2000
TTL_JITTER = 0.1
SOFT_SHARE = (0.75, 0.85)
"""A page is made anew, by one worker, at this share of its life; the others go on with the old one meanwhile."""

_HEAD = struct.Struct(">dH")


class Page(NamedTuple):
    """A page of users, ready to send: the body, the value of `Link`, and how the cache did."""

    body: bytes
    link: str
    result: Result


class Wanted(NamedTuple):
    """Which page: `page` from 1, or `after` an id. The tuple's text is its name in the cache."""

    per_page: int
    page: int | None
    after: int

    @property
    def name(self) -> str:
        """`50:p1` or `50:a123`."""
        return f"{self.per_page}:p{self.page}" if self.page is not None else f"{self.per_page}:a{self.after}"


Make = Callable[[Wanted], tuple[bytes, str]]


class _Flight:
    """A page in the making."""

    def __init__(self) -> None:
        self.done = threading.Event()
        self.made: tuple[bytes, str] | None = None


class Pages:
    """The cached pages.

    Args:
        make: makes body and `Link` of a page from PostgreSQL.
        ttl_s: life of a cached page, seconds.
    """

    def __init__(self, cache: Cache, generation: Generation, *, make: Make, ttl_s: int) -> None:
        self._cache = cache
        self._generation = generation
        self._make = make
        self._ttl_s = ttl_s
        self._flights: dict[tuple[bytes, Wanted], _Flight] = {}
        self._flights_lock = threading.Lock()

    def get(self, wanted: Wanted) -> Page:
        """The page, whose content is no older than every write answered before this call."""
        try:
            token, stored = self._look_up(wanted)
        except CacheUnavailable:
            return Page(*self._make(wanted), "bypass")
        if stored is None:
            return Page(*self._make_once(token, wanted), "miss")
        soft_s, link_size = _HEAD.unpack_from(stored)
        if time.time() >= soft_s and (made := self._remake(token, wanted)):
            return Page(*made, "miss")
        return _page(stored, link_size)

    def peek(self, wanted: Wanted) -> Page | None:
        """What `get` would give, if that is a fresh page of the generation last seen; None: ask `get`."""
        guess = self._generation.current
        try:
            seen, stored = self._cache.exchange(
                lambda server: ("MGET", KEY, _key(server, guess, wanted.name))
            )  # fmt: skip
        except CacheUnavailable:
            return None
        if stored is None or seen != guess.name or not self._generation.accepts(guess):
            return None
        soft_s, link_size = _HEAD.unpack_from(stored)
        return _page(stored, link_size) if time.time() < soft_s else None

    def _look_up(self, wanted: Wanted) -> tuple[Token, bytes | None]:
        """The current generation and what it has of the page: one round trip, unless the generation has changed."""
        guess = self._generation.current
        name = wanted.name
        seen, stored = self._cache.exchange(lambda server: ("MGET", KEY, _key(server, guess, name)))
        if seen == guess.name and self._generation.accepts(guess):
            return guess, stored
        token = self._generation.adopt(seen)
        if token.name != seen:
            return token, None
        return token, self._cache.exchange(lambda server: ("GET", _key(server, token, name)))

    def _make_once(self, token: Token, wanted: Wanted) -> tuple[bytes, str]:
        """Make the page and store it, or take it from a request of this worker that is about to.

        The generation is part of what is waited for: whoever makes the page read it before it asked PostgreSQL, and a
        write answered before then had already set another one.
        """
        key = (token.name, wanted)
        with self._flights_lock:
            flight = self._flights.get(key)
            leads = flight is None
            if flight is None:
                flight = self._flights[key] = _Flight()
        if not leads:
            flight.done.wait(FOLLOWER_WAIT_S)
            return flight.made or self._make(wanted)
        try:
            flight.made = self._make(wanted)
            self._store(token, wanted, *flight.made)
            return flight.made
        finally:
            with self._flights_lock:
                del self._flights[key]
            flight.done.set()

    def _remake(self, token: Token, wanted: Wanted) -> tuple[bytes, str] | None:
        """Make a page whose soft end has come, if nobody else is at it and it can be; None: go on with the old one."""
        lock = b"{users}:making:%s:%s" % (token.name, wanted.name.encode())
        try:
            if not self._cache.exchange(lambda _: ("SET", lock, "1", "NX", "PX", REBUILD_LOCK_MS)):
                return None
            return self._make_once(token, wanted)
        except (CacheUnavailable, Unavailable, DeadlineExceeded):
            return None

    def _store(self, token: Token, wanted: Wanted, body: bytes, link: str) -> None:
        ttl_s = self._ttl_s * random.uniform(1 - TTL_JITTER, 1 + TTL_JITTER)  # noqa: S311 - spread, not a secret
        soft_s = time.time() + ttl_s * random.uniform(*SOFT_SHARE)  # noqa: S311
        value = _HEAD.pack(soft_s, len(link)) + link.encode("ascii") + body
        try:
            self._cache.exchange(
                lambda server: ("SET", _key(server, token, wanted.name), value, "PX", int(ttl_s * 1000))
            )
        except CacheUnavailable:
            return  # the next reader makes it again


def _page(stored: bytes, link_size: int) -> Page:
    body_at = _HEAD.size + link_size
    return Page(stored[body_at:], stored[_HEAD.size : body_at].decode("ascii"), "hit")


def _key(server: str, token: Token, name: str) -> bytes:
    """Where a page lies. With the run of the server in it, nothing that a restarted server remembers is found."""
    return b"{users}:page:%s:%s:%s" % (server.encode(), token.name, name.encode())
