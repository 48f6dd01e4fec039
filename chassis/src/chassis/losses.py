"""How many workers have died without ending: counted by gunicorn's master, read by whichever worker is scraped.

Memory that the master and all workers share. A worker that ends in order marks its place before it does; the master
counts one that has not, whatever killed it. So it counts also what no file could, on a full disk.
"""

from __future__ import annotations

import mmap
import struct

_PLACES = 4096
"""A worker's place is its number among them; nobody has as many at a time."""
_COUNT = struct.Struct("=q")


class Losses:
    """Made in the master, before it forks."""

    def __init__(self) -> None:
        self._shared = mmap.mmap(-1, _COUNT.size + _PLACES)

    def ended(self, number: int) -> None:
        """In a worker: it ends because it was told to."""
        self._shared[self._place(number)] = 1

    def gone(self, number: int) -> None:
        """In the master: a worker is no more."""
        place = self._place(number)
        if self._shared[place]:
            self._shared[place] = 0
        else:
            self._shared[: _COUNT.size] = _COUNT.pack(self.count + 1)

    @property
    def count(self) -> int:
        """So many were lost."""
        (count,) = _COUNT.unpack(self._shared[: _COUNT.size])
        return int(count)

    @staticmethod
    def _place(number: int) -> int:
        return _COUNT.size + number % _PLACES


OF_THIS_SERVICE = Losses()
"""There is one master, and what it forks has this too."""
