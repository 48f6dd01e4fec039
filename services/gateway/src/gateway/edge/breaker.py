"""When an instance is left alone: a circuit breaker for those that fail, ejection for those that answer with errors.

Both live on the event loop of one worker and hold no lock.
"""

from __future__ import annotations

from typing import Literal

MAX_REST_S = 30.0
EJECT_AFTER = 5
"""So many answers of 502, 503 or 504 in a row, and other instances are preferred."""

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Closed: requests pass. Open: none does, until a probe has found the instance alive. Half-open: one request at
    a time is let through on trial; its success closes, its failure opens for twice as long, up to `MAX_REST_S`. A probe
    that proves as much as a request closes at once, but then the first failure opens again.

    Args:
        failures: in a row, that open it.
        reset_s: how long it rests at first.
    """

    __slots__ = ("_base_s", "_failures", "_on_trial", "_relapses", "_row", "rest_s", "state")

    def __init__(self, *, failures: int, reset_s: float) -> None:
        self._failures = failures
        self._base_s = reset_s
        self._row = 0
        self._on_trial = False
        self._relapses = False  # whether it was closed by a probe, and no request has been answered since
        self.rest_s = reset_s
        self.state: State = "closed"

    def take_trial(self) -> bool:
        """Whether a request may go out on trial; of a half-open breaker True is given to one until it is over."""
        if self.state != "half-open" or self._on_trial:
            return False
        self._on_trial = True
        return True

    def abandon_trial(self) -> None:
        """The trial ended without a finding, by the client's doing: the next one may try."""
        self._on_trial = False

    def probed(self, *, sure: bool = False) -> None:
        """A probe has found the instance alive: open becomes half-open.

        Args:
            sure: what was wrong has been seen to be right again: open becomes closed.
        """
        if self.state == "open":
            self.state = "closed" if sure else "half-open"
            self._on_trial = False
            self._relapses = sure

    def success(self) -> bool:
        """A request was answered. Returns whether that closed it; of an open one it does not: what was answered then
        had been on its way before.
        """
        self._row = 0
        if self.state == "closed" and self._relapses:
            self._relapses = False
            self.rest_s = self._base_s
        if self.state != "half-open":
            return False
        self.state = "closed"
        self.rest_s = self._base_s
        self._on_trial = False
        return True

    def failure(self, *, at_once: bool = False) -> bool:
        """A request was not answered. Returns whether that opened it.

        Args:
            at_once: it is plain that nobody listens; no need to count.
        """
        if self.state == "open":
            return False
        self._row += 1
        if self.state == "half-open" or self._relapses:
            self.rest_s = min(self.rest_s * 2, MAX_REST_S)
        elif not at_once and self._row < self._failures:
            return False
        self.state = "open"
        self._relapses = False
        return True


class Ejection:
    """Counts answers that say the instance cannot do its work. Never makes anything unavailable: see `Upstream.pick`.

    Args:
        reset_s: how long it is avoided at first; twice as long each time in a row, up to `MAX_REST_S`.
    """

    __slots__ = ("_base_s", "_row", "rest_s")

    def __init__(self, *, reset_s: float) -> None:
        self._base_s = reset_s
        self._row = 0
        self.rest_s = 0.0

    def answered(self, status: int) -> bool:
        """Count an answer. Returns whether the instance is to be avoided for `rest_s` from now."""
        if status < 502 or status > 504:
            self._row = 0
            self.rest_s = 0.0
            return False
        self._row += 1
        if self._row < EJECT_AFTER:
            return False
        self._row = EJECT_AFTER - 1  # one more of the kind and it is avoided again
        self.rest_s = min(self.rest_s * 2, MAX_REST_S) or self._base_s
        return True
