"""Valkey dies, hangs, forgets everything, is full, is slow: nobody gets an error, and nobody reads what is old."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
import redis

from chassis.servers import ValkeyServer
from chassis.testing import CutProxy, Meanwhile
from tests.faults.course import FALLBACK_S, LONG
from tests.faults.judge import prove
from tests.faults.signals import Signal, Watch
from tests.faults.stage import Stage
from tests.faults.traffic import KINDS
from tests.promises import Promise

pytestmark = pytest.mark.faults

WITHOUT = ("product", "search", "user", "resolve", "route")
"""What needs no Valkey; the others go on without it."""
FALLING_BACK = tuple(kind for kind in KINDS if kind not in WITHOUT)
LOST = Signal(
    metric='cache_connected{service="user"} == 0',
    log=("user", "Cache is unavailable"),
    alerts=('CacheUnavailable{service="user"}', 'CacheUnavailable{service="links"}', "RedisDown"),
)
SLOW = Signal(metric=LOST.metric, log=LOST.log, alerts=LOST.alerts[:2])
FORGOTTEN = Signal(metric='increase(cache_requests_total{service="links",result="miss"}[4s]) > 1', log=None)
FULL = Signal(
    metric="redis_memory_used_bytes / redis_memory_max_bytes > 0.9",
    log=("links", "Cache refused a command"),
    alerts=("RedisMemoryHigh",),
)


@contextmanager
def killed(server: ValkeyServer) -> Iterator[None]:
    """kill -9, and a start: it has forgotten everything."""
    server.kill()
    try:
        yield
    finally:
        server.start()


@contextmanager
def paused(server: ValkeyServer) -> Iterator[None]:
    """SIGSTOP: connections are accepted by the kernel, nobody answers. Then it goes on where it stopped."""
    server.pause()
    try:
        yield
    finally:
        server.resume()


@contextmanager
def slow(wire: CutProxy) -> Iterator[None]:
    """Every answer comes 200 ms late, which is more than anybody waits for it."""
    wire.delay(0.2)
    try:
        yield
    finally:
        wire.heal()


@contextmanager
def client_of(server: ValkeyServer) -> Iterator[Any]:
    """A client for what an administrator does."""
    with closing(redis.Redis.from_url(server.url)) as client:
        yield client


@contextmanager
def flushed(server: ValkeyServer) -> Iterator[None]:
    """FLUSHALL, twice a second: pages, destinations, generations, counts are gone, again and again."""

    def flush(ending: threading.Event) -> None:
        with client_of(server) as client:
            client.flushall()
            while not ending.wait(0.5):
                client.flushall()

    with Meanwhile(flush):
        yield


@contextmanager
def full(server: ValkeyServer, policy: str) -> Iterator[None]:
    """`maxmemory` is reached and cannot be kept: whatever takes memory is refused.

    Args:
        policy: what may go to make room. With `noeviction`, as hosted servers have it, old pages stay.
    """
    with client_of(server) as client:
        before = client.config_get("maxmemory*")
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", "1mb")
        try:
            yield
        finally:
            for name, value in before.items():
                if name in ("maxmemory", "maxmemory-policy"):
                    client.config_set(name, value)


def test_killed(stage: Stage, watch: Watch, promise: Promise) -> None:
    """kill -9: no error, and nothing that was remembered is read afterwards. Its last half second's clicks are gone."""
    prove(
        stage, promise, "Redis: kill -9", lambda: killed(stage.redis), watch=watch, signal=LOST,
        seconds=10 if LONG else 2, back_s=FALLBACK_S, unaffected=WITHOUT, falling_back=FALLING_BACK,
        counting=False,
    )  # fmt: skip


def test_paused(stage: Stage, watch: Watch, promise: Promise) -> None:
    """SIGSTOP: hung is as bad as dead, and no worse."""
    prove(
        stage, promise, "Redis: SIGSTOP", lambda: paused(stage.redis), watch=watch, signal=LOST,
        seconds=20 if LONG else 2, back_s=FALLBACK_S, unaffected=WITHOUT, falling_back=FALLING_BACK,
    )  # fmt: skip


def test_slow(stage: Stage, watch: Watch, promise: Promise) -> None:
    """200 ms of latency: it is left alone, nobody waits for it again and again."""
    prove(
        stage, promise, "Redis: 200 ms of latency", lambda: slow(stage.redis_wire), watch=watch, signal=SLOW,
        seconds=10 if LONG else 2, back_s=FALLBACK_S, unaffected=WITHOUT, falling_back=FALLING_BACK,
    )  # fmt: skip


def test_flushed(stage: Stage, watch: Watch, promise: Promise) -> None:
    """FLUSHALL: everything is asked for anew. Clicks that were about to be stored are gone."""
    prove(
        stage, promise, "Redis: FLUSHALL", lambda: flushed(stage.redis), watch=watch, signal=FORGOTTEN,
        seconds=10 if LONG else 1, back_s=2.0, unaffected=WITHOUT, falling_back=FALLING_BACK,
        counting=False,
    )  # fmt: skip


@pytest.mark.parametrize("policy", ["noeviction", "volatile-lru"] if LONG else ["noeviction"])
def test_full(stage: Stage, watch: Watch, promise: Promise, policy: str) -> None:
    """maxmemory: what cannot be stored is done without, and what cannot be invalidated is not read."""
    prove(
        stage, promise, f"Redis: maxmemory reached, {policy}",
        lambda: full(stage.redis, policy), watch=watch, signal=FULL,
        seconds=10 if LONG else 2, back_s=FALLBACK_S, unaffected=WITHOUT, falling_back=FALLING_BACK,
    )  # fmt: skip
