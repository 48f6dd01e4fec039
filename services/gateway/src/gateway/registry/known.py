"""What one worker knows of the registry: how far it has come is decided by any thread, and carried out by one."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NotYet
from contextlib import contextmanager
from functools import partial

from gateway.registry.batch import Batch
from gateway.registry.keys import ApiKey, Keyring
from gateway.registry.repository import Snapshot, State
from gateway.registry.table import Table

CAPTURE_S = 1.0


@contextmanager
def reading_whole() -> Iterator[None]:
    """Around the reading of a whole registry: keep the garbage collector away from it, now and later.

    With 100,000 routes it would look at a million objects again and again, and stop every thread for 0.1 s each time.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
        gc.freeze()
    finally:
        if enabled:
            gc.enable()


class Known:
    """The table and the keyring of a worker, and their position.

    Once `bind` has been given an event loop they are changed there only, in the order in which it was decided; before
    that, and after `unbind`, by whoever decides.

    Attributes:
        position: how far the registry has been followed; the table gets there a moment later.
    """

    def __init__(self, table: Table, keyring: Keyring) -> None:
        self._table = table
        self._keyring = keyring
        self._lock = threading.RLock()
        self._heard: deque[Batch] = deque(maxlen=1000)
        self._loop: asyncio.AbstractEventLoop | None = None
        self.position = State(table.epoch, table.revision)

    def __len__(self) -> int:
        return len(self._table)

    def bind(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Change things on `loop` from now on."""
        with self._lock:
            self._loop = loop

    def unbind(self) -> None:
        """The loop serves nobody any more."""
        self.bind(None)

    # --- whole registries, and changes of them ---

    def take(self, snapshot: Snapshot) -> None:
        """This is the whole registry. What was heard while it was read comes on top."""
        table = Table(snapshot.routes, epoch=snapshot.epoch, revision=snapshot.revision)
        with self._lock:
            self.position = State(snapshot.epoch, snapshot.revision)
            self._post(partial(self._replace, table, snapshot.keys))
            self._apply_heard()

    def apply(self, batch: Batch) -> None:
        """Take a batch over if it is news and follows on from what is known."""
        with self._lock:
            position = self.position
            if batch.epoch == position.epoch and batch.base <= position.revision < batch.revision:
                self.position = State(batch.epoch, batch.revision)
                self._post(partial(self._change, batch))

    def hear(self, batch: Batch) -> bool:
        """Take over what somebody says was committed, now or as soon as what lies between has come.

        Returns:
            Whether it is known now; if not, somebody should ask PostgreSQL.
        """
        with self._lock:
            if batch.epoch != self.position.epoch:
                return False
            self._heard.append(batch)
            self._apply_heard()
            return batch.revision <= self.position.revision

    def forget_heard(self) -> State:
        """Before reading, as all that was heard so far is in what is read from now on. Returns the position."""
        with self._lock:
            self._heard.clear()
            return self.position

    def _apply_heard(self) -> None:
        for batch in sorted(self._heard, key=lambda heard: heard.base):
            self.apply(batch)

    # --- on the loop ---

    def _post(self, change: Callable[[], None]) -> None:
        """With the lock held, so that the loop's order is the order of decisions."""
        if self._loop is not None:
            try:
                self._loop.call_soon_threadsafe(change)
            except RuntimeError:  # it has been closed
                self._loop = None
            else:
                return
        change()

    def _replace(self, table: Table, keys: Sequence[ApiKey]) -> None:
        self._table.become(table)
        self._keyring.replace(keys)

    def _change(self, batch: Batch) -> None:
        self._table.apply(batch.changes, revision=batch.revision)
        if batch.keys:
            self._keyring.apply(batch.keys)

    # --- copies ---

    def capture(self, stopping: threading.Event) -> Snapshot | None:
        """Everything, between two changes; None if the loop does not say within `CAPTURE_S` or until `stopping`."""
        loop = self._loop
        if loop is None or not loop.is_running():
            return self._capture()
        captured: Future[Snapshot] = Future()
        loop.call_soon_threadsafe(lambda: captured.set_result(self._capture()))
        until_s = time.monotonic() + CAPTURE_S
        while time.monotonic() < until_s and not stopping.is_set():
            try:
                return captured.result(0.05)
            except NotYet:
                continue
        return None

    def _capture(self) -> Snapshot:
        return Snapshot(self._table.epoch, self._table.revision, list(self._table), list(self._keyring))
