"""A circuit breaker: after a failure, say no at once for a while, then let one call try."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class CircuitBreaker:
    """Closed: calls pass. Open: they do not, for `reset_s`. Then one call is let through as a probe.

    The closed path takes no lock. Use it as: `if breaker.allow(): … breaker.success()` or `breaker.failure()`.

    Args:
        failures: consecutive failures that open it.
        reset_s: seconds it stays open before a probe.
        on_change: called with True when it opens and False when it closes, once per change.
        clock: monotonic seconds; tests pass their own.
    """

    def __init__(
        self,
        *,
        reset_s: float,
        failures: int = 1,
        on_change: Callable[[bool], None] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reset_s = reset_s
        self._threshold = failures
        self._on_change = on_change
        self._clock = clock
        self._lock = threading.Lock()
        self._count = 0
        self._retry_at = 0.0
        self._open = False

    @property
    def is_open(self) -> bool:
        """Whether calls are being refused, or one is being tried as a probe."""
        return self._open

    def allow(self) -> bool:
        """Whether a call may go out now. While open, True is given to one caller per `reset_s`."""
        if not self._open:
            return True
        with self._lock:
            now = self._clock()
            if now < self._retry_at:
                return False
            self._retry_at = now + self._reset_s  # the probe's own time: others wait for its outcome
            return True

    def success(self) -> None:
        """The call went well: close."""
        if self._open or self._count:
            with self._lock:
                changed, self._open, self._count = self._open, False, 0
            if changed and self._on_change:
                self._on_change(False)

    def failure(self) -> None:
        """The call failed: count it, and open when there were enough in a row."""
        with self._lock:
            self._count += 1
            changed = not self._open and self._count >= self._threshold
            if self._open or changed:
                self._open = True
                self._retry_at = self._clock() + self._reset_s
        if changed and self._on_change:
            self._on_change(True)
