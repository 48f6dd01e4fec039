"""Something that goes on beside a test, until it is left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Self


class Meanwhile:
    """Does its work in a thread of its own, from entering to leaving. A context manager.

    Args:
        work: what is done; returns soon after the event that it gets is set. What it raises is raised on leaving.
    """

    def __init__(self, work: Callable[[threading.Event], None]) -> None:
        self.ending = threading.Event()
        self._work = work
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name=type(self).__name__)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_exc: object) -> None:
        self.ending.set()
        self._thread.join()
        if self._failed is not None:
            raise self._failed

    def _run(self) -> None:
        try:
            self._work(self.ending)
        except BaseException as error:  # noqa: BLE001 - raised where it is left
            self._failed = error
