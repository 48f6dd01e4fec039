"""Which cached pages may be read: those of the generation that Redis names. ADR 0021 has the whole argument.

A write sets a new, random generation in Redis after its commit and before it is answered. A writer that cannot reach
Redis raises the epoch in PostgreSQL instead; generations carry the epoch in which they began, and one of an older
epoch than a worker knows of counts for nothing there.
"""

from __future__ import annotations

import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any, NamedTuple

import redis

from chassis.cache import Cache
from chassis.errors import DeadlineExceeded, Unavailable
from chassis.logging import Seldom
from chassis.wires import Wires
from user.repository import Users

log = logging.getLogger(__name__)

KEY = b"{users}:generation"
"""The braces put all our keys on one node of a cluster."""

RECONNECT_REST_S = 1.0


class Token(NamedTuple):
    """A generation: its epoch, and its name in Redis, `<epoch>.<random>`."""

    epoch: int
    name: bytes


NO_TOKEN = Token(-1, b"-")


def new_token(epoch: int) -> Token:
    """A generation that never was before."""
    return Token(epoch, b"%d.%s" % (epoch, secrets.token_hex(8).encode()))


def token_of(name: bytes | None) -> Token:
    """The generation of that name; one of epoch -1 if it is not a name that we give."""
    number, dot, _ = (name or b"").partition(b".")
    return Token(int(number), name or b"") if dot and number.isdigit() and len(number) < 20 else NO_TOKEN


class Line:
    """One connection to Redis that carries all announcements of a worker, in order, and outlasts a hang.

    To a server that hangs, an announcement is sent and not waited for: it lies in the server's buffer before anything
    that a reader sends later, and is obeyed first once the server goes on. Hence a connection of its own that a
    time-out does not close.
    """

    def __init__(self, wires: Wires | None, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._wires = wires
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: Any = None
        self._owed = 0
        self._rest_until_s = 0.0
        self._seldom = Seldom()

    def keep(self) -> None:
        """Connect if it is not connected, so that the line stands when it is needed, and read what is owed."""
        with self._lock:
            try:
                if self._connect():
                    self._collect(wait_s=0.0)
            except redis.RedisError:
                self._hang_up()

    def send(self, *command: bytes) -> bool:
        """Send a command. True: the server did it. False: it refused, was not reached, or has not answered yet."""
        with self._lock:
            for _ in range(2):  # a connection that was closed while idle is noticed only now
                fresh = self._connection is None
                try:
                    if not self._connect():
                        return False
                    self._collect(wait_s=0.0)
                    self._connection.send_command(*command, check_health=False)
                    self._owed += 1
                    return self._collect(wait_s=self._wires.timeout_s if self._wires and self._owed == 1 else 0.0)
                except redis.RedisError as error:
                    self._hang_up()
                    if fresh or isinstance(error, redis.TimeoutError):
                        return False
            return False

    def close(self) -> None:
        """Hang up for good."""
        with self._lock:
            self._hang_up()
            self._wires = None

    def _connect(self) -> bool:
        """Whether there is a connection now. A server that does not even refuse is left alone for a while."""
        if self._connection is None:
            if self._wires is None or self._clock() < self._rest_until_s:
                return False
            try:
                self._connection = self._wires.connect()
            except redis.TimeoutError:
                self._rest_until_s = self._clock() + RECONNECT_REST_S
                return False
        return True

    def _collect(self, *, wait_s: float) -> bool:
        """Read the answers that are owed. True if all have come and the last was not an error."""
        ok = True
        while self._owed:
            if not self._connection.can_read(timeout=wait_s):
                return False
            self._owed -= 1
            try:
                self._connection.read_response()
                ok = True
            except redis.ResponseError as error:
                if self._seldom.may_say():
                    log.warning("Cache refused an announcement: %s", type(error).__name__)
                ok = False
        return ok

    def _hang_up(self) -> None:
        if self._connection is not None:
            self._connection.disconnect()
        self._connection, self._owed = None, 0


class Generation:
    """The current generation as this worker knows it."""

    def __init__(self, cache: Cache, users: Users) -> None:
        self._cache = cache
        self._users = users
        self._line = Line(cache.wires)
        self._lock = threading.Lock()
        self._epoch = 0
        self._epoch_owed = False
        self._begun = False
        self._said = False
        self.current = NO_TOKEN
        """What was last seen in Redis; valid if Redis still has it and `accepts` it."""

    def accepts(self, token: Token) -> bool:
        """Whether a generation that Redis names may be read in this worker."""
        return token.epoch >= self._epoch

    def adopt(self, name: bytes | None) -> Token:
        """The generation to go by when Redis says `name`: that one, or a new one if it cannot be trusted.

        Raises:
            CacheUnavailable: a new one is needed and could not be set.
        """
        token = token_of(name)
        if not self.accepts(token):
            token = new_token(self._epoch)
            self._cache.exchange(lambda _: ("SET", KEY, token.name))
        self._raise_epoch(token.epoch)
        self.current = token
        return token

    def announce(self) -> None:
        """Make all cached pages unreadable, everywhere. To be called after a commit, before it is answered."""
        if not self._cache.configured:
            return
        if self._line.send(b"SET", KEY, new_token(self._epoch).name):
            return
        # A server that is full refuses what takes memory, and this does not: without a generation nothing is read.
        if not self._line.send(b"DEL", KEY):
            self._begin_epoch()

    def _begin_epoch(self) -> None:
        try:
            self._raise_epoch(self._users.next_cache_epoch())
        except (Unavailable, DeadlineExceeded):
            self._epoch_owed = True  # the database went away after the commit, and Redis with it
            self._raise_epoch(self._epoch + 1)  # until `watch` has told the others, at least this worker knows

    def _raise_epoch(self, epoch: int) -> None:
        if epoch > self._epoch:
            with self._lock:
                self._epoch = max(self._epoch, epoch)

    def watch(self) -> None:
        """One turn of the background thread: learn of epochs that other workers began, and mend what is broken."""
        if not self._cache.configured:
            return
        self._cache.probe()
        self._line.keep()
        try:
            if self._epoch_owed:
                self._raise_epoch(self._users.next_cache_epoch())
                self._epoch_owed = False
            self._raise_epoch(self._users.cache_epoch())
        except (Unavailable, DeadlineExceeded):  # nobody can write either
            return
        if not self._begun:  # a worker killed between commit and announcement left this to the one after it
            self.announce()
            self._begun = True

    def close(self) -> None:
        """Close the connection for announcements."""
        self._line.close()
