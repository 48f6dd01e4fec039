"""The life of a worker: background threads after fork, draining after SIGTERM, closing at the end."""

from __future__ import annotations

import logging
import mmap
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

log = logging.getLogger(__name__)

# One byte shared by the master and the workers it forks. Signals belong to the whole process, and so does this.
_drain_flag = mmap.mmap(-1, 1)


def draining() -> bool:
    """Whether the server got SIGTERM and should get no new traffic."""
    return _drain_flag[0] != 0


def set_draining(value: bool) -> None:
    """Mark this server, master and workers, as draining or not."""
    _drain_flag[0] = int(value)


def install_drain(server: Any, drain_s: float) -> None:
    """Put a pause of `drain_s` seconds between SIGTERM and the stop of a gunicorn master.

    In the pause `/health/ready` answers 503 and requests are served, so that load balancers leave first: even
    gunicorn 27 resets a connection that arrives after it stopped listening. A second SIGTERM ends the pause.
    """
    set_draining(False)

    def stop(signum: int, frame: FrameType | None) -> None:  # noqa: ARG001 - a signal handler's signature
        server.signal(signal.SIGTERM, frame)

    def drain(signum: int, frame: FrameType | None) -> None:
        if draining() or drain_s == 0:
            set_draining(True)
            signal.setitimer(signal.ITIMER_REAL, 0)
            stop(signum, frame)
            return
        set_draining(True)
        signal.signal(signal.SIGALRM, stop)
        signal.setitimer(signal.ITIMER_REAL, drain_s)

    signal.signal(signal.SIGTERM, drain)


STOP_SIGNALS = frozenset({signal.SIGTERM, signal.SIGQUIT})


def hold_stop_signals_over_fork() -> None:
    """For a gunicorn master, once: a stop signal for a new worker waits until the worker can obey it.

    Between fork and `init_signals` a worker has the master's handlers, which would swallow it; the master would wait
    for the worker until its patience ends, and kill it.
    """
    os.register_at_fork(
        before=lambda: signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS),
        after_in_parent=lambda: signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS),
    )


class Lifecycle:
    """Threads and clean-up of one application in one process."""

    def __init__(self) -> None:
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []
        self._callbacks: list[Callable[[], None]] = []

    def on_stop(self, callback: Callable[[], None]) -> None:
        """Call `callback` when the worker ends; the last registered goes first."""
        self._callbacks.append(callback)

    def background(self, name: str, function: Callable[[], object], *, interval_s: float) -> None:
        """Run `function` now and then every `interval_s` seconds in a daemon thread, until stop. It may raise."""

        def run() -> None:
            while True:
                try:
                    function()
                except Exception:  # a background thread outlives one bad turn, and says so
                    log.exception("Background task %s failed", name)
                if self._stopping.wait(interval_s):
                    return

        thread = threading.Thread(target=run, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def stop(self) -> None:
        """End the threads (waiting a second for each at most) and run the callbacks. Safe to call twice."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout=1)
        self._threads.clear()
        while self._callbacks:
            callback = self._callbacks.pop()
            try:
                callback()
            except Exception:  # the other callbacks must have their turn
                log.exception("Closing failed")
