"""Keeps the registry's copies, on disk and in Redis, as new as what this worker knows. In a thread beside the feed's
own, so that no change waits for a copy to be written.
"""

from __future__ import annotations

import logging
import random
import threading
import time

import psycopg2

from chassis.cache import Cache, CacheUnavailable
from chassis.errors import DeadlineExceeded, Unavailable
from gateway.registry import batch
from gateway.registry.freshness import Freshness
from gateway.registry.known import Known
from gateway.registry.mirror import Mirror
from gateway.registry.repository import Registry, State
from gateway.registry.saved import Saved

log = logging.getLogger(__name__)

TICK_S = 1.0
"""How often the file is written at the most."""
LOOK_S = 5.0
"""How often, give or take, a worker looks whether the copy in Redis is as new as it should be."""
FAR = 5000
"""Whoever is more revisions behind than this is given everything anew."""


class Keeper:
    """Writes the copies of `known`.

    Args:
        saved: the file, None for none.
        stopping: ends `run`.
    """

    def __init__(
        self,
        known: Known,
        *,
        registry: Registry,
        mirror: Mirror,
        cache: Cache,
        saved: Saved | None,
        freshness: Freshness,
        stopping: threading.Event,
    ) -> None:
        self._known = known
        self._registry = registry
        self._mirror = mirror
        self._cache = cache
        self._file = saved
        self._freshness = freshness
        self._stopping = stopping
        self._saved: State | None = None
        self._disk_failed = False
        self._look_at_s = 0.0

    def run(self) -> None:
        """Until told to stop."""
        while not self._stopping.wait(TICK_S):
            try:
                self.save()
                self._cache.probe()
                now_s = time.monotonic()
                if now_s >= self._look_at_s:
                    self._look_at_s = now_s + LOOK_S * random.uniform(0.8, 1.2)  # noqa: S311 - jitter, not a secret
                    self.look()
            except Exception:  # a copy is not worth the thread that keeps it
                log.exception("Copies of the routes could not be kept")

    # --- on disk ---

    def loaded(self, position: State) -> None:
        """The file is known to have that."""
        self._saved = position

    def save(self) -> None:
        """Write the file if something is new, and nobody else is writing it."""
        position = self._known.position
        if self._file is None or not position.epoch or position == self._saved:
            return
        snapshot = self._known.capture(self._stopping)
        if snapshot is None:
            return
        position = State(snapshot.epoch, snapshot.revision)
        # A registry that went back has been restored from a backup: the newer file is wrong.
        back = self._saved is not None and self._saved.epoch == position.epoch and self._saved > position
        try:
            if self._file.save(snapshot, force=back):
                self._saved = position
            if self._disk_failed:
                self._disk_failed = False
                log.info("Routes are saved on disk again")
        except OSError as error:
            self._freshness.count_error("disk")
            if not self._disk_failed:
                self._disk_failed = True
                log.warning("Routes cannot be saved in %s: %s", self._file.path, error)

    # --- in Redis ---

    def look_soon(self) -> None:
        """The copy in Redis has been found wanting."""
        self._look_at_s = 0.0

    def look(self) -> None:
        """See whether the copy in Redis is right, and make it so."""
        if not self._mirror.configured or not self._freshness.confirmed:
            return
        try:
            self._compare(self._mirror.position(), self._known.position)
        except CacheUnavailable:
            self._freshness.count_error("redis")
        except (Unavailable, DeadlineExceeded, psycopg2.Error):
            return  # the feed says so, and counts it

    def _compare(self, held: State | None, own: State) -> None:
        if held is None:
            self._make(force=False)
        elif held.epoch != own.epoch or held.revision > own.revision:
            # Another database's, or further than this worker; it is wrong if PostgreSQL is where this worker is.
            if self._registry.state() == own:
                self._make(force=True)
        elif own.revision - held.revision > FAR:
            self._make(force=False)
        else:
            for missing in batch.read(self._registry, held.revision, own):
                if not self._mirror.apply(missing):
                    return

    def _make(self, *, force: bool) -> None:
        snapshot = self._known.capture(self._stopping)
        if snapshot is not None and self._mirror.write(snapshot, force=force):
            log.info("The copy of the routes in Redis has been made anew at revision %d", snapshot.revision)
