"""Workers that die are counted, those that are told to end are not."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from chassis.losses import Losses
from chassis.testing import wait_until
from chassis.testing.calls import metric
from chassis.testing.gunicorn import GunicornProcess

LOST = "app_workers_lost_total"


def test_a_place_is_used_again() -> None:
    """Of a worker that ended in order nothing is left that would hide another one's death."""
    losses = Losses()
    losses.ended(1)
    losses.gone(1)
    assert losses.count == 0
    losses.gone(1)
    losses.gone(2)
    assert losses.count == 2


def test_a_killed_worker_is_counted_and_a_reload_is_not(sample: Callable[..., GunicornProcess]) -> None:
    """Whoever answers `/metrics` knows of all of them."""
    service = sample(WEB_CONCURRENCY="2")
    assert metric(service, LOST) == 0
    for count in (1, 2):
        victim = service.workers[0]
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda count=count: metric(service, LOST) == count)  # type: ignore[misc]
        wait_until(lambda victim=victim: len(service.workers) == 2 and victim not in service.workers)  # type: ignore[misc]
    before = set(service.workers)
    service.signal(signal.SIGHUP)
    wait_until(lambda: len(service.workers) == 2 and not before & set(service.workers))
    assert metric(service, LOST) == 2
