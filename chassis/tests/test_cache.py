"""chassis.cache: a real Redis that goes away, and callers who hardly notice."""

from __future__ import annotations

import threading
import time

import pytest
import redis
from pydantic import SecretStr

from chassis.cache import Cache, CacheUnavailable
from chassis.metrics import Metrics
from chassis.servers import ValkeyServer
from chassis.settings import RedisSettings


def make_cache(url: str | None, **options: int) -> Cache:
    """A cache at `url`."""
    settings = RedisSettings(url=SecretStr(url) if url else None, **options)
    return Cache(settings, metrics=Metrics(service="test", version="1", commit="c"))


def test_commands_reach_the_server(redis_url: str) -> None:
    """`call` gives what the command gives, in bytes."""
    cache = make_cache(redis_url)
    cache.call(lambda r: r.set("k", b"v"))
    assert cache.call(lambda r: r.mget(["k", "none"])) == [b"v", None]
    assert cache.check(1.0).status == "healthy"
    cache.close()


def test_no_url_is_a_cache_that_is_never_there() -> None:
    """Without REDIS_URL every call fails at once, with the error that callers handle anyway."""
    cache = make_cache(None)
    assert not cache.configured
    with pytest.raises(CacheUnavailable):
        cache.call(lambda r: r.ping())


@pytest.mark.parametrize("fault", ["kill", "pause"])
def test_a_lost_server_costs_one_bounded_wait_then_nothing_then_it_is_back(
    private_redis: ValkeyServer, fault: str
) -> None:
    """Stopped or hung: the first call fails within 0.3 s, the next at once, and it comes back by itself."""
    cache = make_cache(private_redis.url, breaker_reset_ms=200)
    cache.call(lambda r: r.set("k", b"v"))
    getattr(private_redis, fault)()
    for longest_s in (0.3, 0.02):
        began_s = time.monotonic()
        with pytest.raises(CacheUnavailable):
            cache.call(lambda r: r.get("k"))
        assert time.monotonic() - began_s <= longest_s
    assert cache.check(1.0).status == "degraded"
    if fault == "kill":
        private_redis.start()
    else:
        private_redis.resume()
    back_by_s = time.monotonic() + 5
    while True:
        try:
            cache.call(lambda r: r.ping())
            break
        except CacheUnavailable:
            assert time.monotonic() < back_by_s
            threading.Event().wait(0.02)
    cache.close()


def test_an_error_answer_is_a_miss_too(redis_url: str) -> None:
    """A command that the server refuses fails open like a lost server, without opening the breaker."""
    cache = make_cache(redis_url)
    with redis.Redis.from_url(redis_url) as client:
        client.set("k", "text")
    with pytest.raises(CacheUnavailable):
        cache.call(lambda r: r.incr("k"))
    assert cache.call(lambda r: r.get("k")) == b"text"
    cache.close()


def test_refusals_are_said_once_in_a_while(redis_url: str, caplog: pytest.LogCaptureFixture) -> None:
    """A full server refuses every request's command: the log says so, and is not filled with it."""
    cache = make_cache(redis_url)
    cache.call(lambda r: r.set("k", "text"))
    for _ in range(20):
        with pytest.raises(CacheUnavailable):
            cache.call(lambda r: r.incr("k"))
    assert [record.message for record in caplog.records] == ["Cache refused a command: ResponseError"]
    cache.close()
