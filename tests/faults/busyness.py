"""How busy the machine is while something is done to it."""

from __future__ import annotations

import threading
import time
from typing import Self

import psutil

BLOCK_S = 0.5


class Busyness:
    """Looks at it until it is left. A context manager.

    Attributes:
        blocks: the part of all processors' time that was used, by the number of the block of BLOCK_S on the monotonic
            clock.
    """

    def __init__(self) -> None:
        self.blocks: dict[int, float] = {}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._look, name="busyness")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self._ending.set()
        self._thread.join()

    def _look(self) -> None:
        idle_s, all_s = _spent()
        while not self._ending.wait(BLOCK_S - time.monotonic() % BLOCK_S):
            now_idle_s, now_all_s = _spent()
            if now_all_s > all_s:
                block = int(time.monotonic() / BLOCK_S) - 1
                self.blocks[block] = 1 - (now_idle_s - idle_s) / (now_all_s - all_s)
            idle_s, all_s = now_idle_s, now_all_s


def _spent() -> tuple[float, float]:
    times = psutil.cpu_times()
    return times.idle + getattr(times, "iowait", 0.0), sum(times[:8])  # guests are counted in `user` as well
