"""The registry's copy in Redis, and the channel on which workers tell one another what they wrote.

The copy is one hash, so that it is evicted whole or not at all: `epoch`, `revision`, `build` (another one each time it
is made anew), and a field for each route (`r:7`) and key (`k:7`). It is always a whole registry at its revision: a
batch that does not follow on from it is left out, and `gateway.registry.keeper` brings what is missing later.
"""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from typing import Any, cast

import orjson
import redis

from chassis.cache import Cache
from chassis.wires import Command
from gateway.registry.batch import Batch
from gateway.registry.codec import chunks, dump, dump_batch, key_of, load_batch, route_of
from gateway.registry.repository import Snapshot, State

log = logging.getLogger(__name__)

NAME = "{gateway:registry:1}"
"""Ends in the format's number: gateways of two versions do not read each other's."""
CHANNEL = f"{NAME}:changes"
CHUNK = 200
"""Fields that are read or written in one command: far less than a time-out's worth."""
BUILD_S = 30
"""A copy must be made within this time, in which nobody else makes one."""
SILENCE_S = 5.0
"""A channel that says nothing for so long is asked whether it is still there."""
RETRY_S = 1.0
"""A channel that is lost, or does not answer for so long when asked, is opened again after this time."""
TICK_S = 0.2
"""How soon the listener sees that it should stop."""

# KEYS: copy. ARGV: channel, message, epoch, base, revision, then fields and values; "" removes a field.
_APPLY = """
if ARGV[1] ~= '' then redis.call('PUBLISH', ARGV[1], ARGV[2]) end
local held = redis.call('HMGET', KEYS[1], 'epoch', 'revision')
if held[1] ~= ARGV[3] or tonumber(held[2]) < tonumber(ARGV[4]) then return 0 end
if tonumber(held[2]) >= tonumber(ARGV[5]) then return 1 end
for i = 6, #ARGV, 2 do
  if ARGV[i + 1] == '' then
    redis.call('HDEL', KEYS[1], ARGV[i])
  else
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 1])
  end
end
redis.call('HSET', KEYS[1], 'revision', ARGV[5])
return 1
"""

# KEYS: copy, the new one. ARGV: epoch, revision, build, "1" if a copy that is further on must go too.
_SWAP = """
local held = redis.call('HMGET', KEYS[1], 'epoch', 'revision')
if ARGV[4] == '' and held[1] == ARGV[1] and tonumber(held[2]) >= tonumber(ARGV[2]) then
  redis.call('UNLINK', KEYS[2])
  return 0
end
redis.call('HSET', KEYS[2], 'epoch', ARGV[1], 'revision', ARGV[2], 'build', ARGV[3])
redis.call('PERSIST', KEYS[2])
redis.call('UNLINK', KEYS[1])
redis.call('RENAME', KEYS[2], KEYS[1])
return 1
"""


class Mirror:
    """The copy and the channel.

    Raises (all methods but `listen`): CacheUnavailable, after a time-out or two of the cache at most.

    Args:
        on_error: called for every connection of the channel that fails.
    """

    def __init__(self, cache: Cache, *, on_error: Callable[[], None]) -> None:
        self._cache = cache
        self._on_error = on_error

    @property
    def configured(self) -> bool:
        """Whether there is a Redis at all."""
        return self._cache.configured

    def announce(self, batch: Batch) -> bool:
        """Tell every worker, and the copy, in one round trip. Returns whether the copy now has it."""
        command = _apply_command(batch, CHANNEL, dump_batch(batch))
        return bool(self._cache.exchange(lambda _server: command))

    def apply(self, batch: Batch) -> bool:
        """Bring the copy on. Returns whether it now has the batch; False if it does not reach up to its base."""
        command = _apply_command(batch, "", b"")
        return bool(self._cache.exchange(lambda _server: command))

    def position(self) -> State | None:
        """How far the copy is; None if there is none."""
        return self._state()[0]

    def load(self) -> Snapshot | None:
        """The copy; None if there is none, or if it changed while it was read and should be read again.

        It is read in parts, so that Redis never stands still for it; the same state before and after says that the
        parts belong together.
        """
        before = self._state()
        position = before[0]
        if position is None:
            return None
        fields: dict[bytes, bytes] = {}
        cursor = 0
        while True:
            cursor, part = self._cache.call(lambda client, at=cursor: _scan(client, at))  # type: ignore[misc]
            fields.update(part)
            if cursor == 0:
                break
        if self._state() != before:
            return None
        try:
            routes = [route_of(orjson.loads(value)) for name, value in fields.items() if name[:2] == b"r:"]
            keys = [key_of(orjson.loads(value)) for name, value in fields.items() if name[:2] == b"k:"]
        except ValueError:
            log.warning("The copy of the routes in Redis cannot be used")
            return None
        return Snapshot(position.epoch, position.revision, routes, keys)

    def write(self, copy: Snapshot, *, force: bool = False) -> bool:
        """Make the copy anew, unless there is one as new, which `force` does not ask.

        Returns:
            False if somebody else is making one.
        """
        build = uuid.uuid4().hex
        if not self._cache.call(lambda client: client.set(f"{NAME}:building", build, nx=True, ex=BUILD_S)):
            return False
        new = f"{NAME}:{build}"
        for part in chunks(_fields(copy), CHUNK):
            mapping = dict(part)
            self._cache.call(lambda client, fields=mapping: client.hset(new, mapping=fields))  # type: ignore[misc]
            self._cache.call(lambda client: client.expire(new, BUILD_S))
        swap: Command = ("EVAL", _SWAP, 2, NAME, new, copy.epoch, copy.revision, build, "1" if force else "")
        self._cache.exchange(lambda _server: swap)
        self._cache.call(lambda client: client.delete(f"{NAME}:building"))
        return True

    def _state(self) -> tuple[State | None, bytes]:
        epoch, revision, build = self._cache.call(_read_state)
        if epoch is None or revision is None:
            return None, b""
        return State(epoch.decode(), int(revision)), build or b""

    def listen(self, hear: Callable[[Batch | None], None], stopping: threading.Event) -> None:
        """Give `hear` every batch that is announced, and None where some may have been missed, until `stopping`.

        Returns at once without a Redis; otherwise for good only when told to stop. It has a connection of its own.
        """
        wires = self._cache.wires
        lost = False
        while wires is not None and not stopping.is_set():
            try:
                connection = wires.connect()
                try:
                    connection.send_command("SUBSCRIBE", CHANNEL, check_health=False)
                    connection.read_response()
                    if lost:
                        log.info("Changes of routes are announced again")
                    lost = False
                    hear(None)
                    _attend(connection, hear, stopping)
                finally:
                    connection.disconnect()
            except redis.RedisError as error:
                if not lost:
                    log.warning("Changes of routes are not announced: %s", type(error).__name__)
                lost = True
                self._on_error()
                stopping.wait(RETRY_S)


def _attend(connection: Any, hear: Callable[[Batch | None], None], stopping: threading.Event) -> None:
    """Read announcements for as long as there are any, or answers to PING. Raises redis.RedisError."""
    heard_s = time.monotonic()
    asked = False
    while not stopping.is_set():
        if connection.can_read(timeout=TICK_S):
            kind, *_, message = connection.read_response()
            heard_s, asked = time.monotonic(), False
            if kind == b"message":
                hear(_batch(message))
        elif asked and time.monotonic() > heard_s + SILENCE_S + RETRY_S:
            raise redis.TimeoutError("The channel is silent")
        elif not asked and time.monotonic() > heard_s + SILENCE_S:
            connection.send_command("PING", check_health=False)
            asked = True


def _batch(message: bytes) -> Batch | None:
    try:
        return load_batch(message)
    except ValueError:
        return None


def _apply_command(batch: Batch, channel: str, message: bytes) -> Command:
    fields: list[str | bytes] = []
    for change in batch.changes:
        fields += (f"r:{change.route_id}", b"" if change.route is None else dump(change.route))
    for key in batch.keys:
        fields += (f"k:{key.id}", dump(key))
    return ("EVAL", _APPLY, 1, NAME, channel, message, batch.epoch, batch.base, batch.revision, *fields)


def _fields(snapshot: Snapshot) -> Iterator[tuple[str, bytes]]:
    """The copy's fields for routes and keys."""
    for route in snapshot.routes:
        yield f"r:{route.id}", dump(route)
    for key in snapshot.keys:
        yield f"k:{key.id}", dump(key)


def _read_state(client: redis.Redis) -> list[Any]:
    return cast("list[Any]", client.hmget(NAME, ["epoch", "revision", "build"]))


def _scan(client: redis.Redis, cursor: int) -> tuple[int, dict[bytes, bytes]]:
    return cast("tuple[int, dict[bytes, bytes]]", client.hscan(NAME, cursor, count=CHUNK))
