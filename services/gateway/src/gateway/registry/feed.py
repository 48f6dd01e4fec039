"""Keeps the routes and keys of one worker true: from PostgreSQL for certainty, from Redis for speed, and from a copy,
in Redis or on disk, for as long as PostgreSQL does not answer.

Why it is made like this: docs/decisions/0030.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import psycopg2
import psycopg2.errors

from chassis.cache import Cache, CacheUnavailable
from chassis.database import bounded
from chassis.errors import DeadlineExceeded, Unavailable
from chassis.health import Result
from chassis.metrics import Metrics
from gateway.registry import batch as batching
from gateway.registry.batch import Batch
from gateway.registry.freshness import Facts, Freshness
from gateway.registry.keeper import FAR, Keeper
from gateway.registry.keys import ApiKey, Keyring
from gateway.registry.known import Known, reading_whole
from gateway.registry.mirror import Mirror
from gateway.registry.repository import Registry, Snapshot, State
from gateway.registry.saved import Saved
from gateway.registry.table import Change, Table

log = logging.getLogger(__name__)

POLL_S = 0.5
"""Half of what a change may take to be seen everywhere."""
LOAD_S = 2.0
"""The longest that a start waits for PostgreSQL, if there is no copy. One statement has the database's own limit."""
_FAILURES = (Unavailable, DeadlineExceeded, psycopg2.Error)


class Feed:
    """Follows the registry for one worker.

    Args:
        table, keyring: changed on the event loop that `start` is given; before, by `load`.
        registry: None if there is none: then the table stays as it is, and nothing here does anything.
        state_dir: where the last known state is kept over restarts; None: nowhere.
        poll_s: how often PostgreSQL is asked for news.
    """

    def __init__(
        self,
        table: Table,
        keyring: Keyring,
        *,
        registry: Registry | None,
        cache: Cache,
        metrics: Metrics,
        state_dir: Path | None,
        poll_s: float = POLL_S,
    ) -> None:
        self._registry = registry
        self._known = Known(table, keyring)
        self._freshness = Freshness(metrics, follows=registry is not None)
        self._mirror = Mirror(cache, on_error=partial(self._freshness.count_error, "redis"))
        self._saved = Saved(state_dir) if state_dir is not None else None
        self._poll_s = poll_s
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._keeper: Keeper | None = None
        if registry is not None:
            self._keeper = Keeper(
                self._known,
                registry=registry,
                mirror=self._mirror,
                cache=cache,
                saved=self._saved,
                freshness=self._freshness,
                stopping=self._stopping,
            )

    # --- what is known ---

    @property
    def position(self) -> State:
        """How far this worker has followed the registry."""
        return self._known.position

    def facts(self) -> Facts:
        """For pages: where the routes come from and how fresh they are."""
        return self._freshness.facts(self.position)

    def check(self, limit_s: float) -> Result:
        """The same as a health check, degraded at the worst. Waits for nothing."""
        return self._freshness.check(limit_s)

    # --- life ---

    def load(self) -> None:
        """Before serving: the last known routes from disk; if there are none, from Redis or PostgreSQL, whichever has
        some at once. Never fails: without any, the table stays as it is until there are.
        """
        if self._registry is not None:
            sources = (("disk", self._from_disk), ("redis", self._from_redis), ("database", self._from_database))
            for source, find in sources:
                with reading_whole():
                    snapshot = find()
                if snapshot is not None:
                    self._take(snapshot, source)
                    log.info("%d routes from %s, revision %d", len(snapshot.routes), source, snapshot.revision)
                    break
            else:
                log.warning("No routes are known yet but those of the settings")
        self._measure()

    def start(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        """Follow the registry from now on, in threads of its own: call it after fork.

        Args:
            loop: where the table and the keyring are changed; None: in those threads.
        """
        if self._keeper is None:
            return
        self._known.bind(loop)
        for name, run in (
            ("routes-feed", self._follow),
            ("routes-listener", partial(self._mirror.listen, self._hear, self._stopping)),
            ("routes-keeper", self._keeper.run),
        ):
            thread = threading.Thread(target=run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()

    def stop(self) -> None:
        """End the threads, waiting a second for each at most, and save what is new. Safe to call twice."""
        self._stopping.set()
        self._wake.set()
        for thread in self._threads:
            thread.join(timeout=1)
        self._threads.clear()
        self._known.unbind()
        if self._keeper is not None:
            self._keeper.save()

    # --- other workers ---

    def announce(self, changes: Iterable[Change] = (), keys: Iterable[ApiKey] = ()) -> None:
        """This worker wrote that, and it is committed: know it at once, and tell the others. For any thread.

        Takes one round trip to Redis, bounded by its time-out; without Redis the others see it by their next poll.
        """
        epoch = self._known.position.epoch
        for batch in batching.batches(epoch, changes, keys):
            self._hear(batch)
            if not epoch or self._keeper is None:
                return  # nothing is known yet, not even which registry it is
            try:
                if not self._mirror.announce(batch):
                    self._keeper.look_soon()
            except CacheUnavailable:
                self._freshness.count_error("redis")

    def _hear(self, batch: Batch | None) -> None:
        """What follows on from what is known is taken over as it is; for anything else PostgreSQL is asked at once."""
        if batch is None or not batch.epoch or not self._known.hear(batch):
            self._wake.set()

    # --- PostgreSQL ---

    def _follow(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            try:
                self.poll()
            except Exception:  # whatever it was, the next turn may do better
                log.exception("Routes could not be followed")
            self._measure()
            self._wake.wait(self._poll_s)

    def poll(self) -> None:
        """Ask PostgreSQL how far the registry is, and catch up; if it does not say, see what Redis has."""
        registry = self._registry
        if registry is None:
            return
        began_s = time.monotonic()
        before = self._known.forget_heard()
        try:
            state = registry.state()
            ahead = state.revision - before.revision
            if not self._freshness.confirmed or state.epoch != before.epoch or not 0 <= ahead <= FAR:
                # The first time too: whatever a copy held, from here on it is what PostgreSQL holds.
                with reading_whole():
                    snapshot = registry.snapshot()
                self._take(snapshot, "database")
            else:
                for batch in batching.read(registry, before.revision, state):
                    self._known.apply(batch)
        except psycopg2.errors.UndefinedTable as error:
            message = "The registry's tables are not there yet"
            self._freshness.doubt(error, message, before, level=logging.INFO)
        except _FAILURES as error:
            message = "The registry cannot be read: routes stay as last known"
            self._freshness.count_error("database")
            self._freshness.doubt(error, message, before, level=logging.WARNING)
            self._follow_copy()
        else:
            self._freshness.confirm(self.position, at_s=began_s)

    # --- whole registries ---

    def _take(self, snapshot: Snapshot, source: str) -> None:
        self._known.take(snapshot)
        self._freshness.source = source

    def _from_disk(self) -> Snapshot | None:
        snapshot = None if self._saved is None else self._saved.load()
        if snapshot is not None and self._keeper is not None:
            self._keeper.loaded(State(snapshot.epoch, snapshot.revision))
        return snapshot

    def _from_redis(self) -> Snapshot | None:
        if not self._mirror.configured:
            return None
        try:
            return self._mirror.load()
        except CacheUnavailable:
            self._freshness.count_error("redis")
            return None

    def _from_database(self) -> Snapshot | None:
        if self._registry is None:
            return None
        try:
            with bounded(LOAD_S):
                return self._registry.snapshot()
        except psycopg2.errors.UndefinedTable:
            return None
        except _FAILURES:
            self._freshness.count_error("database")
            return None

    def _follow_copy(self) -> None:
        """Without PostgreSQL: take over what others have put into Redis, if it is the same registry further on."""
        if not self._mirror.configured:
            return
        try:
            held = self._mirror.position()
        except CacheUnavailable:
            self._freshness.count_error("redis")
            return
        own = self.position
        if held is not None and (not own.epoch or (held.epoch == own.epoch and held.revision > own.revision)):
            with reading_whole():
                snapshot = self._from_redis()
            if snapshot is not None:
                self._take(snapshot, "redis")

    def _measure(self) -> None:
        self._freshness.measure(len(self._known), self.position)
