"""Something that goes on beside a test, until it is left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self


class Meanwhile:
    """Does its work in threads of its own, from entering to leaving. A context manager.

    Args:
        work: what each thread does; returns soon after the event that it gets is set. What it raises ends the others
            as well, and is raised on leaving; of several, one.
        threads: how many do it.

    Attributes:
        ending: set when it is left, or one of them has failed. Whoever waits for what they do looks at it.
    """

    def __init__(self, work: Callable[[threading.Event], None], *, threads: int = 1) -> None:
        self.ending = threading.Event()
        self._work = work
        self._failed: BaseException | None = None
        self._threads = [threading.Thread(target=self._run, name=type(self).__name__) for _ in range(threads)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.ending.set()
        for thread in self._threads:
            thread.join()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            self._work(self.ending)
        except BaseException as error:  # noqa: BLE001 - raised where it is left
            self._failed = error
            self.ending.set()
