"""How many requests may be sent again."""

from __future__ import annotations

MOST = 10.0
"""Retries that can be saved up in good times for a bad moment."""


class RetryBudget:
    """A share of the requests sent: each deposits that much of a retry, each retry takes a whole one.

    It begins empty and holds few, so an upstream that answers nothing but errors sees hardly more than its own share of
    extra requests from the first one on.
    """

    __slots__ = ("_held", "_share")

    def __init__(self, percent: int) -> None:
        self._share = percent / 100
        self._held = 0.0

    def deposit(self) -> None:
        """A request is sent for the first time."""
        self._held = min(self._held + self._share, MOST)

    def take(self) -> bool:
        """Whether a request may be sent again."""
        if self._held < 1 - 1e-9:
            return False
        self._held -= 1
        return True
