"""Clicks on their way from a redirect to PostgreSQL, without a write there for each.

They are counted in Redis, in one hash for all workers. Every half second some worker sets what is in it aside under
an id, adds it in PostgreSQL together with the id, and throws it away. Whatever dies in between, the next worker finds
what was set aside and tries again, and the id sees to it that it is added once. While Redis is away each worker
counts in its own memory, and gives that away in the same manner.
"""

from __future__ import annotations

import logging
import threading
import uuid
from typing import TYPE_CHECKING

from chassis.cache import Cache, CacheUnavailable
from chassis.errors import DeadlineExceeded, Unavailable
from links_lookup.tally import Batch, Tally

if TYPE_CHECKING:
    from links.repository import Links

log = logging.getLogger(__name__)

KEY = b"{links}:clicks"
_ASIDE = b"{links}:clicks:aside"
_MOST = 2000
"""Codes in a batch, about: it must be added within `operation_timeout_ms`."""

FLUSH_INTERVAL_S = 0.5

# The id lies in the hash beside the codes: "" is no code.
_SET_ASIDE = """
if redis.call('EXISTS', KEYS[2]) == 0 then
    if redis.call('HLEN', KEYS[1]) == 0 then return false end
    if redis.call('HLEN', KEYS[1]) <= tonumber(ARGV[2]) then
        redis.call('RENAME', KEYS[1], KEYS[2])
    else
        local some = redis.call('HSCAN', KEYS[1], 0, 'COUNT', ARGV[2])[2]
        for i = 1, #some, 2 do
            redis.call('HSET', KEYS[2], some[i], some[i + 1])
            redis.call('HDEL', KEYS[1], some[i])
        end
    end
    redis.call('HSET', KEYS[2], '', ARGV[1])
end
return redis.call('HGETALL', KEYS[2])
"""
_THROW_AWAY = "if redis.call('HGET', KEYS[1], '') == ARGV[1] then return redis.call('DEL', KEYS[1]) end"


class Clicks:
    """Counts clicks, and adds them to the links."""

    def __init__(self, cache: Cache, links: Links) -> None:
        self._cache = cache
        self._links = links
        self._tally = Tally()
        self._lock = threading.Lock()

    def add(self, code: str) -> None:
        """Count a click that the look-up in Redis has not counted. Never fails."""
        try:
            self._cache.exchange(lambda _: ("HINCRBY", KEY, code, 1))
        except CacheUnavailable:
            self._tally.add(code)

    def flush(self) -> None:
        """Add to the links all that has been counted until now, by this worker or, in Redis, by any.

        Raises:
            Unavailable, DeadlineExceeded: the database cannot answer; nothing is lost.
        """
        with self._lock:
            while (batch := self._tally.batch()) is not None:
                self._links.count(batch)
                self._tally.done(batch)
            try:
                new = uuid.uuid4().hex
                while (batch := self._set_aside(new)) is not None:
                    self._links.count(batch)
                    self._throw_away(batch)
                    if batch.id == new and len(batch.clicks) < _MOST:
                        break  # that was all that there was, and clicks come all the time
                    new = uuid.uuid4().hex
            except CacheUnavailable:
                return  # what was set aside stays there for the next turn

    def settle(self) -> None:
        """`flush` if that can be done: what is read after this has all clicks that Redis knew of."""
        try:
            self.flush()
        except (Unavailable, DeadlineExceeded) as error:
            log.warning("Clicks wait to be counted: %s", type(error).__name__)

    def sweep(self) -> None:
        """Forget the ids of old batches; for a background thread."""
        try:
            self._links.sweep_batches()
        except (Unavailable, DeadlineExceeded):
            return  # next time

    def close(self) -> None:
        """`flush` for the last time. What the database does not take now is lost if it is in memory, and said to be."""
        try:
            self.flush()
        except (Unavailable, DeadlineExceeded) as error:
            log.error("Clicks counted in memory are lost: %s", type(error).__name__)  # noqa: TRY400 - see its cause

    def _set_aside(self, new: str) -> Batch | None:
        """What somebody has set aside and not thrown away, or else what there is, under the id `new`."""
        found = self._cache.exchange(lambda _: ("EVAL", _SET_ASIDE, 2, KEY, _ASIDE, new, _MOST))
        if not found:
            return None
        clicks = dict(zip(map(bytes.decode, found[::2]), found[1::2], strict=True))
        batch_id = clicks.pop("").decode()
        return Batch(batch_id, {code: int(count) for code, count in clicks.items()})

    def _throw_away(self, batch: Batch) -> None:
        self._cache.exchange(lambda _: ("EVAL", _THROW_AWAY, 1, _ASIDE, batch.id))
