"""One fetch for all who want the same at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Hashable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Flight(Generic[T]):
    """A fetch on its way. It runs in a task of its own: who started it may leave without harm to the others, and only
    when all of them have left it is given up, unless `detach` said that it is wanted anyway.

    Args:
        about: what it is for.
        unwanted: gets the outcome if its owner, who alone could have used all of it, is gone by then.

    Attributes:
        keep: False: what it brings may be out of date by now, and must not be kept.
        late: somebody has waited for it for as long as made sense.
    """

    def __init__(self, about: Hashable, *, unwanted: Callable[[T], None]) -> None:
        self.about = about
        self.keep = True
        self.late = False
        self._unwanted = unwanted
        self._outcome: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        self._over: Callable[[], None]
        self._task: asyncio.Task[T]
        self._waiting = 0
        self._detached = False
        self._disowned = False

    def start(self, work: Callable[[], Coroutine[Any, Any, T]], *, over: Callable[[], None]) -> None:
        """Let it go; `over` is called when it has come to an end or is given up, perhaps twice."""

        async def run() -> T:
            return await work()

        self._over = over
        self._task = asyncio.create_task(run())
        self._task.add_done_callback(self._landed)

    def _landed(self, task: asyncio.Task[T]) -> None:
        self._over()
        if task.cancelled():
            self._outcome.cancel()
        elif (error := task.exception()) is not None:
            self._outcome.set_exception(error)
            self._outcome.exception()  # who waits sees it; that nobody may be waiting is no mistake
        else:
            self._outcome.set_result(task.result())
            if self._disowned:
                self._unwanted(task.result())

    async def wait(self, timeout_s: float) -> T:
        """What it brings.

        Raises:
            TimeoutError: it takes longer.
        """
        self._waiting += 1
        try:
            done, _ = await asyncio.wait((self._outcome,), timeout=max(timeout_s, 0.0))
            if not done:
                raise TimeoutError
            return self._outcome.result()
        finally:
            self._waiting -= 1
            if not self._waiting and not self._detached and not self._outcome.done():
                self.cancel()

    def detach(self) -> None:
        """It shall come to its end whether anybody waits for it or not."""
        self._detached = True

    def disown(self) -> None:
        """Its owner has left."""
        self._disowned = True
        if self._outcome.done() and not self._outcome.cancelled() and self._outcome.exception() is None:
            self._unwanted(self._outcome.result())

    def cancel(self) -> None:
        """Give it up."""
        self._over()  # at once: nobody must join it any more
        self._task.cancel()


class Flights(Generic[T]):
    """The fetches on their way, by what they are for.

    Args:
        unwanted: see `Flight`.
    """

    def __init__(self, *, unwanted: Callable[[T], None]) -> None:
        self._unwanted = unwanted
        self._by_key: dict[Hashable, Flight[T]] = {}
        self._all: set[Flight[T]] = set()

    def __len__(self) -> int:
        return len(self._all)

    def get(self, about: Hashable) -> Flight[T] | None:
        """One that a request may join."""
        return self._by_key.get(about)

    def start(
        self, about: Hashable, work: Callable[[Flight[T]], Coroutine[Any, Any, T]], *, shared: bool = True
    ) -> Flight[T]:
        """A new one; if `shared`, those who come from now on may join it."""
        flight = Flight(about, unwanted=self._unwanted)
        if shared:
            self._by_key[about] = flight
        self._all.add(flight)

        def over() -> None:
            self._all.discard(flight)
            if self._by_key.get(about) is flight:
                del self._by_key[about]

        flight.start(lambda: work(flight), over=over)
        return flight

    def void(self, concerns: Callable[[Any], bool]) -> None:
        """What is fetched about these may be out of date: it is not kept, and nobody else joins."""
        for flight in self._all:
            if concerns(flight.about):
                flight.keep = False
                if self._by_key.get(flight.about) is flight:
                    del self._by_key[flight.about]

    def close(self) -> None:
        """Give all of them up."""
        for flight in list(self._all):
            flight.cancel()
