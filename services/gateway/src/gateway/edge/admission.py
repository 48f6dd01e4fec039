"""How many requests an upstream is given at a time: no more than it can answer soon.

A service that is overloaded queues what it gets, and every request then waits for all that are ahead of it, until none
is answered in time. By Little's law the wait is requests waiting / answers per second, so it is bounded by bounding the
requests. All that has to be known is what an answer takes without a queue: it is learnt from requests that were sent
when hardly any other was waiting.

Two states. Free: everything up to the cap passes; answers are only timed. Limited: their time has exceeded what they
take without a queue by more than the allowed wait; then a request is turned away, at once, if it would be one more than
is answered in that time. Between the two the finding is checked: for a moment no more are let in than are waiting, then
half as many. If the answers to the second lot take as long as to the first, the service is slow and not overloaded, and
nothing is turned away any more.
"""

from __future__ import annotations

from collections import deque

from gateway.edge.exchange import UpstreamError

CALM = 4
"""A request with fewer others ahead of it is taken to have met no queue."""
BASE_OF = 16
"""What an answer takes without a queue is a moving average over so many."""
ALLOWED_WAIT_S = 1.0
"""How long a request may wait beyond what its answer takes."""
ALLOWED_SHARE = 0.4
"""Of the time that requests have, if that is less."""
WINDOW_S = 0.1
WINDOW_ANSWERS = 16
"""Answers are judged in batches of so many, and no smaller part of a second."""
CHECK_EVERY_S = 30.0
CHECK_ANSWERS = 32
"""In an overload that lasts it is checked again and again whether it is one, each time by two lots of answers."""
SAME = 0.85
"""With half as many requests, answers that take more than this share of the time before were in no queue."""
FULL = 0.75
"""Requests of a lot count when at least so large a part of the limit is waiting."""
STALLED_S = 2.0
STALLED_WAITING = 16
"""With no answer for so long, no more than these wait for one."""


class Saturated(UpstreamError):
    """As many requests as it can answer in time are in flight to this upstream."""

    outcome = "saturated"


class Admission:
    """Of one upstream, in one worker.

    Args:
        most: requests in flight at a time, whatever their times are.

    Attributes:
        in_flight: requests that were let in and are not over; `waiting`: those of them whose answer has not come.
        limit: how many may be waiting now.
        base_s: what an answer takes without a queue, as far as is known.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self.in_flight = 0
        self.waiting = 0
        self.limit: float = most
        self.base_s = 0.0
        self._calm_answers = 0
        self._given_s = 0.0  # what requests have, on the average
        self._rate = 0.0  # answers a second, while limited
        self._progress_s = 0.0
        self._ghosts: deque[tuple[float, float]] = deque()  # (sent, forgotten), seconds
        self._check: Check | None = None
        self._checked_s = 0.0
        self._since_s = 0.0
        self._samples = 0
        self._answers = 0
        self._sum_s = 0.0
        self._peak = 0

    @property
    def allowed_s(self) -> float:
        """How long an answer may take, its wait included."""
        return self.base_s + min(ALLOWED_WAIT_S, ALLOWED_SHARE * self._given_s)

    # --- requests --------------------------------------------------------------------------------------------------

    def enter(self, remaining_s: float, now_s: float) -> Mark:
        """Let a request in. One of `answered`, `unanswered` and `given_up`, then `leave` follow.

        Args:
            remaining_s: the time that the request has.
            now_s: monotonic.

        Raises:
            Saturated: it would not be answered soon enough.
        """
        if self._ghosts:
            self._lay_ghosts(0.0, now_s)
        waiting = self.waiting
        if self.in_flight >= self._most:
            raise Saturated(f"{self.in_flight} requests are in flight")
        if waiting >= self.limit and not self._gives_way(now_s):
            raise Saturated(f"{waiting} requests are waiting")
        if waiting >= STALLED_WAITING and now_s - self._progress_s > STALLED_S + 2 * self.base_s:
            raise Saturated("nothing has been answered for a while")
        if CALM < waiting > self._rate * remaining_s and self.limit < self._most:
            raise Saturated("there is no time to wait")
        if not waiting:
            self._progress_s = now_s
            if not self._samples:
                self._since_s = now_s
        self._given_s = self._given_s + (remaining_s - self._given_s) / BASE_OF if self._given_s else remaining_s
        self.in_flight += 1
        self.waiting = waiting = waiting + 1
        if waiting > self._peak:
            self._peak = waiting
        if self._check is not None:
            return self._check if waiting > FULL * self.limit else None
        return _CALM if waiting <= CALM else None

    def leave(self) -> None:
        """A request that was let in is over."""
        self.in_flight -= 1

    def unanswered(self) -> None:
        """A request no longer waits: there will be no answer, and the upstream is done with it."""
        self.waiting -= 1

    def given_up(self, began_s: float, now_s: float) -> None:
        """A request no longer waits, but the upstream may not know: it goes on counting, as a ghost, until the upstream
        has answered one that came later, or as much time again has passed.
        """
        self._ghosts.append((began_s, now_s + (now_s - began_s)))

    def answered(self, began_s: float, now_s: float, mark: Mark, *, late: bool = False) -> None:
        """A request no longer waits: its answer has come, or it has waited for as long as it could.

        Args:
            began_s: when it was let in.
            now_s: monotonic.
            mark: what `enter` returned.
            late: its time was up before an answer came.
        """
        took_s = now_s - began_s
        self._samples += 1
        self._sum_s += took_s
        if late:
            self.given_up(began_s, now_s)
        else:
            self.waiting -= 1
            self._answers += 1
            self._progress_s = now_s
            if self._ghosts:
                self._lay_ghosts(began_s, now_s)
        check = self._check
        if check is not None:
            if mark is check and check.counts(took_s, late):
                self._next_check(check, now_s)
        elif mark is _CALM and not late:
            self._calm_answers = min(self._calm_answers + 1, BASE_OF)
            self.base_s += (took_s - self.base_s) / self._calm_answers
        if self._samples >= WINDOW_ANSWERS and now_s - self._since_s >= WINDOW_S:
            self._judge(now_s)

    def forgive(self) -> None:
        """What went before says nothing any more: the upstream was away."""
        self.waiting -= len(self._ghosts)
        self._ghosts.clear()

    def _lay_ghosts(self, began_s: float, now_s: float) -> None:
        """Forget those that were sent before `began_s`, and those whose time is over."""
        ghosts = self._ghosts
        while ghosts and (ghosts[0][0] <= began_s or ghosts[0][1] <= now_s):
            ghosts.popleft()
            self.waiting -= 1

    # --- the limit -------------------------------------------------------------------------------------------------

    def _begin_window(self, now_s: float) -> None:
        self._since_s = now_s
        self._samples = 0
        self._answers = 0
        self._sum_s = 0.0
        self._peak = self.waiting

    def _judge(self, now_s: float) -> None:
        """See whether the answers of this window took too long, and how many were answered a second."""
        mean_s, peak = self._sum_s / self._samples, self._peak
        rate = self._answers / (now_s - self._since_s)
        self._begin_window(now_s)
        free = self.limit >= self._most
        self._rate = rate if free and self._check is None else self._rate + (rate - self._rate) / 4
        if self._check is not None:
            return
        if free:
            if mean_s > self.allowed_s and peak > 2 * CALM:
                self._begin_check(now_s, mean_s)
        elif mean_s <= self.allowed_s and peak < self.limit / 2:
            self.limit = self._most
        elif now_s - self._checked_s > CHECK_EVERY_S:
            self._begin_check(now_s, mean_s)
        else:
            self._limit_by_rate()

    def _begin_check(self, now_s: float, mean_s: float) -> None:
        self._check = Check(now_s + 4 * mean_s + STALLED_S)
        in_time = self._rate * ALLOWED_SHARE * self._given_s
        self.limit = max(min(self.waiting, in_time), 2 * CALM)

    def _next_check(self, check: Check, now_s: float) -> None:
        """A lot is complete: let half as many wait for the second, or draw the conclusion."""
        if check.first_s is None and not check.late:
            self._check = Check(check.until_s + 2 * check.mean_s, first_s=check.mean_s)
            self.limit = max(self.limit / 2, CALM)
            return
        self._check = None
        self._checked_s = now_s
        if check.first_s is None or check.late or check.mean_s < SAME * check.first_s:
            self._limit_by_rate()
        else:
            self.base_s = check.mean_s
            self.limit = self._most

    def _limit_by_rate(self) -> None:
        self.limit = min(max(self._rate * self.allowed_s, CALM), self._most)

    def _gives_way(self, now_s: float) -> bool:
        """A check that finds too few requests to go by does not stand in the way of more."""
        if self._check is None or now_s < self._check.until_s:
            return False
        self._check = None
        self.limit = self._most
        return True


class Check:
    """One lot of answers: how long they take to as many requests as are let in now."""

    __slots__ = ("_count", "_sum_s", "first_s", "late", "until_s")

    def __init__(self, until_s: float, *, first_s: float | None = None) -> None:
        self.until_s = until_s
        self.first_s = first_s
        self.late = 0
        self._count = 0
        self._sum_s = 0.0

    @property
    def mean_s(self) -> float:
        """What an answer took."""
        return self._sum_s / self._count

    def counts(self, took_s: float, late: bool) -> bool:
        """Take in an answer to a request of this lot. Returns whether there are enough."""
        self._count += 1
        self._sum_s += took_s
        self.late += late
        return self._count >= CHECK_ANSWERS


_CALM = Check(0.0)
Mark = Check | None
"""What a request's time is to tell: the answer to a check, or (`_CALM`) how long one takes without a queue."""
