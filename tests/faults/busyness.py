"""How busy the machine is while something is done to it."""

from __future__ import annotations

import threading
import time

import psutil

from chassis.testing import Meanwhile

BLOCK_S = 0.5


class Busyness(Meanwhile):
    """Looks at it until it is left.

    Attributes:
        blocks: the part of all processors' time that was used, by the number of the block of BLOCK_S on the monotonic
            clock.
    """

    def __init__(self) -> None:
        super().__init__(self._look)
        self.blocks: dict[int, float] = {}

    def _look(self, ending: threading.Event) -> None:
        idle_s, all_s = _spent()
        while not ending.wait(BLOCK_S - time.monotonic() % BLOCK_S):
            now_idle_s, now_all_s = _spent()
            if now_all_s > all_s:
                block = int(time.monotonic() / BLOCK_S) - 1
                self.blocks[block] = 1 - (now_idle_s - idle_s) / (now_all_s - all_s)
            idle_s, all_s = now_idle_s, now_all_s


def _spent() -> tuple[float, float]:
    times = psutil.cpu_times()
    return times.idle + getattr(times, "iowait", 0.0), sum(times[:8])  # guests are counted in `user` as well
