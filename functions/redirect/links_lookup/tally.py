"""Clicks counted in memory, given away in batches that can be sent again without being counted twice."""

from __future__ import annotations

import threading
import uuid
from collections import Counter
from typing import NamedTuple

COUNT = """
WITH batch AS (INSERT INTO links_batches (id) VALUES (%(id)s) ON CONFLICT DO NOTHING RETURNING 1),
locked AS (SELECT code FROM links WHERE code = ANY (%(codes)s) ORDER BY code FOR UPDATE)
UPDATE links SET clicks = links.clicks + more.clicks
FROM unnest(%(codes)s::text[], %(clicks)s::bigint[]) AS more (code, clicks), locked
WHERE links.code = more.code AND links.code = locked.code AND EXISTS (SELECT FROM batch)
"""
"""Adds a batch, once: a second time its id is there already. Rows are locked in order, so batches cannot deadlock."""


class Batch(NamedTuple):
    """Clicks by code, and the id under which they are counted once."""

    id: str
    clicks: dict[str, int]

    def parameters(self) -> dict[str, object]:
        """For `COUNT`."""
        return {"id": self.id, "codes": list(self.clicks), "clicks": list(self.clicks.values())}


class Tally:
    """Clicks since the last batch. May be used by many threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._pending: Batch | None = None

    def add(self, code: str) -> None:
        """Count a click."""
        with self._lock:
            self._counts[code] += 1

    def batch(self) -> Batch | None:
        """The batch that was given last, until it is `done`; then what has been counted since; None if that is nothing.

        Whoever could not tell whether a batch was stored gets the same one again, with the same id.
        """
        with self._lock:
            if self._pending is None and self._counts:
                self._pending = Batch(uuid.uuid4().hex, dict(self._counts))
                self._counts.clear()
            return self._pending

    def done(self, batch: Batch) -> None:
        """The batch is stored."""
        with self._lock:
            if self._pending is batch:
                self._pending = None
