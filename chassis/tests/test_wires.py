"""chassis.wires: exchanges with a real Valkey, and knowing which run of it answers."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import redis
from pydantic import SecretStr

from chassis.cache import Cache, CacheUnavailable
from chassis.children import wait_until
from chassis.metrics import Metrics
from chassis.servers import ValkeyServer
from chassis.settings import RedisSettings
from chassis.wires import Wires


def settings(url: str) -> RedisSettings:
    """Settings for a server at `url`, with a short rest."""
    return RedisSettings(url=SecretStr(url), breaker_reset_ms=100)


def run_id(wires: Wires) -> str:
    """What a command is told of the server it goes to."""
    answer = wires.exchange(lambda server: ("ECHO", server))
    return bytes(answer).decode()


def test_a_command_is_answered_in_bytes(redis_url: str) -> None:
    """In the database that the URL names; an error is raised and the connection kept."""
    wires = Wires(settings(redis_url))
    assert wires.exchange(lambda _: ("SET", "k", b"\xff")) == b"OK"
    with pytest.raises(redis.ResponseError):
        wires.exchange(lambda _: ("LPOP", "k"))
    assert wires.exchange(lambda _: ("MGET", "k", "none")) == [b"\xff", None]
    with redis.Redis.from_url(redis_url) as client:
        assert client.get("k") == b"\xff"
    wires.close()


def test_the_server_is_known_by_its_run(private_redis: ValkeyServer) -> None:
    """The same for every connection, another after a restart, of which callers notice nothing else."""
    wires = Wires(settings(private_redis.url))
    with ThreadPoolExecutor(4) as threads:
        before = set(threads.map(lambda _: run_id(wires), range(20)))
    assert len(before) == 1
    private_redis.stop()
    private_redis.start()
    after = {run_id(wires) for _ in range(5)}
    assert len(after) == 1
    assert before != after
    wires.close()


def test_a_hung_server_costs_one_bounded_wait_and_its_late_answer_is_nobodys(private_redis: ValkeyServer) -> None:
    """The connection is given up with the answer that is still to come on it."""
    wires = Wires(settings(private_redis.url))
    wires.exchange(lambda _: ("SET", "k", "right"))
    private_redis.pause()
    began_s = time.monotonic()
    with pytest.raises(redis.TimeoutError):
        wires.exchange(lambda _: ("ECHO", "late"))
    assert time.monotonic() - began_s < 0.3
    private_redis.resume()
    assert wires.exchange(lambda _: ("GET", "k")) == b"right"
    wires.close()


def test_a_resting_cache_is_tried_by_probe_alone(private_redis: ValkeyServer) -> None:
    """`exchange` fails at once while it rests, however long; `probe` finds it back."""
    cache = Cache(settings(private_redis.url), metrics=Metrics(service="test", version="1", commit="c"))
    assert cache.exchange(lambda _: ("PING",)) == b"PONG"
    private_redis.pause()
    with pytest.raises(CacheUnavailable):
        cache.exchange(lambda _: ("PING",))
    private_redis.resume()
    time.sleep(0.15)  # past its rest: a call that probes would succeed now
    with pytest.raises(CacheUnavailable):
        cache.exchange(lambda _: ("PING",))

    def is_back() -> bool:
        cache.probe()
        try:
            return bool(cache.exchange(lambda _: ("PING",)))
        except CacheUnavailable:
            return False

    wait_until(is_back, timeout_s=3)
    cache.close()
