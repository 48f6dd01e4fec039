"""chassis.breaker: when calls pass, when they do not, and who probes."""

from __future__ import annotations

from chassis.breaker import CircuitBreaker


class Clock:
    """A clock that a test moves."""

    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_it_opens_after_so_many_failures_in_a_row() -> None:
    """A success in between starts the count again."""
    breaker = CircuitBreaker(reset_s=1, failures=2)
    breaker.failure()
    breaker.success()
    breaker.failure()
    assert breaker.allow()
    breaker.failure()
    assert not breaker.allow()


def test_one_caller_probes_when_the_rest_is_over() -> None:
    """After `reset_s`, one call is let through; the others wait for what it finds."""
    clock = Clock()
    breaker = CircuitBreaker(reset_s=1, clock=clock)
    breaker.failure()
    clock.now_s += 0.99
    assert not breaker.allow()
    clock.now_s += 0.02
    assert [breaker.allow(), breaker.allow()] == [True, False]
    breaker.success()
    assert [breaker.allow(), breaker.allow()] == [True, True]


def test_a_failed_probe_opens_it_again_and_a_lost_one_does_not_block_it() -> None:
    """A probe that fails, or whose caller never reports, costs one more rest, not the service."""
    clock = Clock()
    breaker = CircuitBreaker(reset_s=1, clock=clock)
    breaker.failure()
    clock.now_s += 1
    assert breaker.allow()
    breaker.failure()
    assert not breaker.allow()
    clock.now_s += 1
    assert breaker.allow()  # and nobody reports
    clock.now_s += 1
    assert breaker.allow()


def test_each_change_is_told_once() -> None:
    """`on_change` hears of opening and of closing, not of every failure."""
    changes: list[bool] = []
    breaker = CircuitBreaker(reset_s=1, on_change=changes.append)
    for report in (breaker.failure, breaker.failure, breaker.success, breaker.success, breaker.failure):
        report()
    assert changes == [True, False, True]
