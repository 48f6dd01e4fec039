"""What a failing upstream may cost: breaker, ejection, retries within a budget, no more requests than it can bear."""

from __future__ import annotations

import heapq
import random
from collections import deque
from collections.abc import Callable
from itertools import count

import pytest

from gateway.edge.admission import Admission, Mark, Saturated
from gateway.edge.breaker import EJECT_AFTER, MAX_REST_S, Breaker, Ejection
from gateway.edge.budget import RetryBudget

# --- breaker -------------------------------------------------------------------------------------------------------


def test_a_breaker_opens_after_failures_in_a_row() -> None:
    """A success in between starts the count again; nobody listening needs no count."""
    breaker = Breaker(failures=3, reset_s=1)
    assert [breaker.failure() for _ in range(2)] == [False, False]
    breaker.success()
    assert [breaker.failure() for _ in range(3)] == [False, False, True]
    assert breaker.state == "open"
    assert Breaker(failures=3, reset_s=1).failure(at_once=True)


def test_an_open_breaker_takes_no_notice_of_what_was_on_its_way() -> None:
    """Requests sent before it opened end now, well or badly: neither closes it, nor lengthens its rest."""
    breaker = Breaker(failures=1, reset_s=1)
    breaker.failure()
    assert not breaker.success()
    assert not breaker.failure()
    assert (breaker.state, breaker.rest_s) == ("open", 1)
    assert not breaker.take_trial()


def test_half_open_lets_one_request_through_at_a_time() -> None:
    """Its success closes; one that ended without a finding makes room for the next."""
    breaker = Breaker(failures=1, reset_s=1)
    breaker.failure()
    breaker.probed()
    assert [breaker.take_trial() for _ in range(3)] == [True, False, False]
    breaker.abandon_trial()
    assert breaker.take_trial()
    assert breaker.success()
    assert breaker.state == "closed"


def test_a_probe_that_proves_as_much_as_a_request_closes_at_once() -> None:
    """But the next failure opens again, for twice as long, until a request has been answered."""
    breaker = Breaker(failures=3, reset_s=1)
    breaker.failure(at_once=True)
    breaker.probed(sure=True)
    assert breaker.state == "closed"
    assert breaker.failure()
    assert breaker.rest_s == 2
    breaker.probed(sure=True)
    breaker.success()
    assert not breaker.failure()
    assert breaker.rest_s == 1


def test_a_failed_trial_doubles_the_rest_up_to_half_a_minute() -> None:
    """An instance that looks alive and is not costs a request ever more seldom; success forgets it."""
    breaker = Breaker(failures=1, reset_s=1)
    breaker.failure()
    rests = []
    for _ in range(7):
        breaker.probed()
        breaker.take_trial()
        breaker.failure()
        rests.append(breaker.rest_s)
    assert rests == [2, 4, 8, 16, 30, 30, 30]
    assert MAX_REST_S == 30
    breaker.probed()
    breaker.success()
    breaker.failure()
    assert breaker.rest_s == 1


def test_errors_in_a_row_eject_for_longer_each_time() -> None:
    """502, 503 and 504 count, other errors are the service's own business; one good answer forgets them."""
    ejection = Ejection(reset_s=1)
    assert not any(ejection.answered(status) for status in (500, 501, 505, 429, 404) * 3)
    assert [ejection.answered(503) for _ in range(EJECT_AFTER)] == [False] * (EJECT_AFTER - 1) + [True]
    assert ejection.rest_s == 1
    assert ejection.answered(502)
    assert ejection.rest_s == 2
    ejection.answered(200)
    assert [ejection.answered(504) for _ in range(EJECT_AFTER)][-1]
    assert ejection.rest_s == 1


# --- budget --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("requests", [1, 4, 5, 10, 99, 1000])
def test_a_budget_allows_its_share_from_the_first_request_on(requests: int) -> None:
    """An upstream that fails every request sees at most 1.2 times of them, however few they are."""
    budget = RetryBudget(20)
    retries = 0
    for _ in range(requests):
        budget.deposit()
        retries += budget.take()
    assert retries == requests // 5


def test_a_budget_saves_little() -> None:
    """Good times do not pay for a storm of retries in bad ones."""
    budget = RetryBudget(20)
    for _ in range(100_000):
        budget.deposit()
    assert sum(budget.take() for _ in range(1000)) == 10


# --- admission: an upstream simulated by its events ----------------------------------------------------------------


class Simulation:
    """An upstream that answers first come, first served, on so many threads, and requests that come by chance.

    It goes on working at requests whose client has given up, as services do.
    """

    def __init__(self, *, threads: int, service_s: Callable[[float], float], most: int = 256) -> None:
        self.admission = Admission(most)
        self.answered: list[tuple[float, float]] = []  # (when, took)
        self.late = 0
        self.shed: list[float] = []
        self._threads = threads
        self._service_s = service_s
        self._chance = random.Random(1)
        self._queue: deque[_Sent] = deque()
        self._busy = 0

    def run(self, *, per_second: float, seconds: float, deadline_s: float = 10.0) -> None:
        """Let requests come for so long."""
        order = count()
        events: list[tuple[float, int, str, _Sent]] = []
        next_s = self._chance.expovariate(per_second)
        while next_s < seconds or events:
            if events and (events[0][0] < next_s or next_s >= seconds):
                now_s, _, what, sent = heapq.heappop(events)
                self._busy -= what == "done"
                if not sent.over:
                    sent.over = True
                    late = what == "late"
                    self.late += late
                    if not late:
                        self.answered.append((now_s, now_s - sent.at_s))
                    self.admission.answered(sent.at_s, now_s, sent.mark, late=late)
                    self.admission.leave()
            else:
                now_s, next_s = next_s, next_s + self._chance.expovariate(per_second)
                try:
                    sent = _Sent(now_s, self.admission.enter(deadline_s, now_s))
                except Saturated:
                    self.shed.append(now_s)
                    continue
                self._queue.append(sent)
                heapq.heappush(events, (now_s + deadline_s, next(order), "late", sent))
            while self._busy < self._threads and self._queue:
                self._busy += 1
                heapq.heappush(events, (now_s + self._service_s(now_s), next(order), "done", self._queue.popleft()))

    def goodput(self, after_s: float, until_s: float) -> float:
        """Answers a second in that time."""
        return sum(after_s <= when < until_s for when, _ in self.answered) / (until_s - after_s)


class _Sent:
    def __init__(self, at_s: float, mark: Mark) -> None:
        self.at_s = at_s
        self.mark = mark
        self.over = False


def by_chance(mean_s: float) -> Callable[[float], float]:
    """Times of an exponential distribution: as uneven as those of a service are likely to be."""
    chance = random.Random(2)
    return lambda _now_s: chance.expovariate(1 / mean_s)


@pytest.mark.parametrize(
    ("threads", "mean_s", "deadline_s"),
    [(16, 0.01, 10.0), (16, 0.01, 0.3), (16, 0.05, 10.0), (16, 0.05, 1.0), (16, 0.05, 0.3), (16, 0.2, 10.0),
     (4, 0.02, 10.0), (4, 0.02, 1.0), (4, 0.02, 0.3), (64, 1.0, 10.0)],
)  # fmt: skip
def test_ten_times_too_much_leaves_four_fifths_of_the_answers(threads: int, mean_s: float, deadline_s: float) -> None:
    """Of what the upstream can do, answered in time; what is too much is turned away before it has cost anything."""
    upstream = Simulation(threads=threads, service_s=by_chance(mean_s))
    upstream.run(per_second=10 * threads / mean_s, seconds=20, deadline_s=deadline_s)
    assert upstream.goodput(4, 20) >= 0.8 * threads / mean_s
    if deadline_s > 1:
        took = sorted(took_s for _, took_s in upstream.answered)
        assert took[len(took) // 2] < 2 * mean_s + 2.5


@pytest.mark.parametrize("deadline_s", [10.0, 1.0])
@pytest.mark.parametrize(("threads", "mean_s"), [(16, 0.01), (16, 0.05), (4, 0.02)])
def test_nothing_is_turned_away_that_could_be_answered(threads: int, mean_s: float, deadline_s: float) -> None:
    """At nine tenths of what the upstream can do."""
    upstream = Simulation(threads=threads, service_s=by_chance(mean_s))
    upstream.run(per_second=0.9 * threads / mean_s, seconds=20, deadline_s=deadline_s)
    assert not upstream.shed


def test_a_slow_upstream_is_not_taken_for_an_overloaded_one() -> None:
    """2 s for every answer, with any number at a time, from the first request on."""
    upstream = Simulation(threads=1000, service_s=lambda _: 2.0)
    upstream.run(per_second=100, seconds=20)
    assert not upstream.shed


def test_an_upstream_that_becomes_slow_is_found_not_to_be_overloaded() -> None:
    """From 5 ms to 2 s: some requests are turned away while that is being found out, none afterwards."""
    upstream = Simulation(threads=1000, service_s=lambda now_s: 0.005 if now_s < 5 else 2.0)
    upstream.run(per_second=30, seconds=30)
    assert max(upstream.shed, default=0) < 20
    assert len(upstream.shed) < 200


def test_slow_answers_among_fast_ones_do_no_harm() -> None:
    """One in ten takes 3 s, whatever the load."""
    chance = random.Random(3)
    upstream = Simulation(threads=1000, service_s=lambda _: 3.0 if chance.random() < 0.1 else 0.002)
    upstream.run(per_second=200, seconds=30)
    assert not upstream.shed


def test_an_upstream_that_says_nothing_gets_no_more() -> None:
    """After 2 s of silence sixteen requests may wait for it, and one answer opens it again."""
    admission = Admission(256)
    marks = [admission.enter(10, 0.0) for _ in range(100)]
    with pytest.raises(Saturated, match="nothing has been answered"):
        admission.enter(10, 2.5)
    admission.answered(0.0, 2.6, marks[0])
    admission.enter(10, 2.7)


def test_the_cap_counts_all_that_is_in_flight() -> None:
    """Answers that are still on their way to slow clients hold a connection, too."""
    admission = Admission(2)
    for _ in range(2):
        admission.answered(0.0, 0.1, admission.enter(10, 0.0))
    with pytest.raises(Saturated):
        admission.enter(10, 0.2)
    admission.leave()
    admission.enter(10, 0.3)


def test_requests_whose_clients_left_still_weigh_on_the_upstream() -> None:
    """Until it has answered a later one, or as much time again has passed, or it turns out to have been away."""
    admission = Admission(256)
    for _ in range(3):
        admission.enter(10, 0.0)
    for _ in range(3):
        admission.given_up(0.0, 1.0)
        admission.leave()
    assert (admission.in_flight, admission.waiting) == (0, 3)
    admission.answered(0.5, 1.5, admission.enter(10, 0.5))
    assert admission.waiting == 0
    admission.enter(10, 2.0)
    admission.given_up(2.0, 3.0)
    admission.enter(10, 4.1)
    assert admission.waiting == 1
    admission.given_up(4.1, 5.0)
    admission.forgive()
    assert admission.waiting == 0
