"""What a fetch brings, and what becomes of it: kept, found unchanged, handed on to one client, or a failure."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from chassis.errors import DeadlineExceeded, Problem, Unavailable
from gateway.edge.cache.entry import Entry, selector
from gateway.edge.cache.freshness import terms
from gateway.edge.exchange import OutOfTime, UpstreamError

if TYPE_CHECKING:
    from gateway.edge.cache.coalesce import Flight
    from gateway.edge.cache.store import Key, Store
    from gateway.edge.fetched import Fetched
    from gateway.edge.headers import Header
    from gateway.edge.proxy import Proxy
    from gateway.edge.request import Request
    from gateway.edge.target import Target
    from gateway.registry.route import Route
    from gateway.settings import CacheSettings

ERRORS = frozenset({500, 502, 503, 504})
"""Answers that a stale one may stand in for (RFC 5861 section 4)."""
RETRY_S = 1.0
"""After a failure the service is not asked again for an answer that can be stood in for, for so long."""
REFUSED_S = 5.0
"""How long it is remembered that an answer could not be kept: requests for it do not wait for one another meanwhile."""
MAX_REFUSED = 4096


@dataclass(slots=True)
class Landed:
    """What a fetch brought: one of `entry`, `problem` and `fetched`.

    Attributes:
        entry: an answer for everybody whose request it answers.
        problem: why there is no answer.
        fetched: an answer for the request that it was fetched for, and for nobody else. Whoever takes it closes it.
        status: that of the answer; of `problem` if there is none.
        stored: whether `entry` is kept.
        confirmed: it is an answer of before, which the service has confirmed.
    """

    entry: Entry | None = None
    problem: Problem | None = None
    fetched: Fetched | None = None
    status: int = 0
    stored: bool = False
    confirmed: bool = False

    @property
    def failed(self) -> bool:
        """Whether a stale answer is better than this."""
        return self.problem is not None or (self.entry is None and self.status in ERRORS)

    def close(self) -> None:
        """Nobody wants it."""
        if self.fetched is not None:
            self.fetched.close()
            self.fetched = None


@dataclass(frozen=True, slots=True)
class Question:
    """What is fetched: `request`, sent to `route`, may be answered for all who have `key`.

    Attributes:
        without: names of the request's fields that do not go to the service.
        entry: what is kept of the answer, to be confirmed or replaced.
    """

    request: Request
    target: Target
    route: Route
    key: Key
    without: frozenset[bytes]
    entry: Entry | None


class Lander:
    """Fetches, and keeps what may be kept."""

    def __init__(self, settings: CacheSettings, proxy: Proxy, store: Store) -> None:
        self._settings = settings
        self._proxy = proxy
        self._store = store
        self._refused: dict[int, float] = {}  # hashes of keys: a clash costs a little waiting less, nothing else

    def refuses(self, key: Key) -> bool:
        """Whether what `key` leads to could not be kept a moment ago."""
        return self._refused.get(hash(key), 0.0) > time.monotonic()

    async def fetch(self, flight: Flight[Landed], question: Question) -> Landed:
        """Ask the service. Raises nothing that speaks of the service."""
        entry = question.entry
        condition = () if entry is None else entry.condition
        asked = time.time()
        try:
            fetched = await self._proxy.fetch(
                question.request, question.target, question.route, fields=condition, without=question.without
            )
        except Problem as problem:
            return self._failed(question, problem)
        landed: Landed | None = None
        try:
            if fetched.status == 304 and condition and entry is not None:
                landed = self._confirm(flight, question, fetched, asked)
            else:
                landed = await self._receive(flight, question, fetched, asked)
        finally:
            if landed is None or landed.fetched is None:
                fetched.close()
        if landed is None:  # a 304 that does not help
            if entry is not None:
                self._store.discard(question.key, entry)
            return await self.fetch(flight, replace(question, entry=None))
        return landed

    def _failed(self, question: Question, problem: Problem) -> Landed:
        if question.entry is not None:
            question.entry.retry_s = time.monotonic() + RETRY_S
        return Landed(problem=problem, status=problem.status)

    async def _receive(self, flight: Flight[Landed], question: Question, fetched: Fetched, asked: float) -> Landed:
        came, came_s = time.time(), time.monotonic()
        entry = question.entry
        if fetched.status in ERRORS:
            if entry is not None:
                entry.retry_s = came_s + RETRY_S
            return Landed(fetched=fetched, status=fetched.status)
        found = self._entry(question, fetched.status, fetched.headers, asked, came, came_s)
        length = fetched.length
        if found is None or length is None or length > self._settings.object_bytes:
            if entry is not None:
                self._store.discard(question.key, entry)
            self._refuse(question.key, came_s)
            return Landed(fetched=fetched, status=fetched.status)
        pieces = []
        try:
            while piece := await fetched.read():
                pieces.append(piece)
        except OutOfTime:
            return self._failed(question, DeadlineExceeded(f"The {question.route.service} service took too long"))
        except UpstreamError:
            return self._failed(question, Unavailable(f"The {question.route.service} service broke off"))
        found.take_body(b"".join(pieces))
        stored = flight.keep and self._keep(question, fetched.route, found)
        return Landed(entry=found, status=fetched.status, stored=stored)

    def _confirm(self, flight: Flight[Landed], question: Question, fetched: Fetched, asked: float) -> Landed | None:
        """What a 304 makes of the entry (RFC 9111 section 4.3.4); None: nothing that can be used."""
        entry = question.entry
        if entry is None or not entry.is_meant_by(fetched.headers):
            return None
        came, came_s = time.time(), time.monotonic()
        renewed = self._entry(question, entry.status, entry.headers_after(fetched.headers), asked, came, came_s)
        if renewed is None:
            return None
        renewed.take_body(entry.body)
        stored = flight.keep and self._keep(question, fetched.route, renewed)
        return Landed(entry=renewed, status=304, stored=stored, confirmed=True)

    def _entry(
        self, question: Question, status: int, headers: list[Header], asked: float, came: float, came_s: float
    ) -> Entry | None:
        """The answer as it could be kept, still without its body; None if it must not be."""
        agreed = terms(status, headers, asked=asked, came=came, stale_if_error_s=self._settings.stale_if_error_s)
        if agreed is None:
            return None
        found, names = agreed
        return Entry(
            status=status,
            headers=headers,
            terms=found,
            selected_by=selector(names, question.request.headers),
            born_s=came_s - found.age_s,
            came=came,
        )

    def _keep(self, question: Question, route: Route, entry: Entry) -> bool:
        """Under the route that answered: another version may have stepped in."""
        if question.entry is not None:
            self._store.discard(question.key, question.entry)
        return self._store.put((route.url, *question.key[1:]), entry)

    def _refuse(self, key: Key, now_s: float) -> None:
        refused = self._refused
        refused.pop(hash(key), None)
        if len(refused) >= MAX_REFUSED:
            del refused[next(iter(refused))]  # the oldest
        refused[hash(key)] = now_s + REFUSED_S
