"""Redis as something that may be away: bounded calls, a breaker, and no error that a request could see."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from chassis.breaker import CircuitBreaker
from chassis.health import Result
from chassis.logging import Seldom
from chassis.settings import RedisSettings
from chassis.wires import Command, Wires

if TYPE_CHECKING:
    from chassis.metrics import Metrics

log = logging.getLogger(__name__)
T = TypeVar("T")


class CacheUnavailable(Exception):
    """The cache did not answer, or was not asked because it did not answer a moment ago. Go on without it."""


class Cache:
    """A Redis client for one worker. Each call is bounded by `timeout_ms`; after one failure the others fail at once
    for `breaker_reset_ms`, then one tries again.

    Args:
        settings: `url` None makes a cache that is never there.
        metrics: gets `cache_connected` and `cache_requests_total{result}`.
    """

    def __init__(self, settings: RedisSettings, *, metrics: Metrics) -> None:
        requests = metrics.counter("cache_requests_total", "Cache look-ups by result", ("result",))
        self._requests = {result: requests.labels(result) for result in ("hit", "miss", "bypass")}
        self._connected = metrics.gauge(
            "cache_connected", "Whether the cache answers (1) or not (0)", over_workers="livemin"
        )
        self._breaker = CircuitBreaker(reset_s=settings.breaker_reset_ms / 1000, on_change=self._log_change)
        self._seldom = Seldom()
        self._redis: redis.Redis | None = None
        self.wires: Wires | None = None
        if settings.url is not None:
            self.wires = Wires(settings)
            timeout_s = settings.timeout_ms / 1000
            pool = redis.BlockingConnectionPool.from_url(
                settings.url.get_secret_value(),
                max_connections=settings.pool_size,
                timeout=timeout_s,
                socket_timeout=timeout_s,
                socket_connect_timeout=timeout_s,
                retry=Retry(NoBackoff(), 0),
                health_check_interval=0,
            )
            self._redis = redis.Redis.from_pool(pool)
            self._connected.set(1)
        else:
            self._connected.set(0)

    @property
    def configured(self) -> bool:
        """Whether there is a cache at all."""
        return self._redis is not None

    def call(self, command: Callable[[redis.Redis], T]) -> T:
        """`command(client)`, for example `cache.call(lambda r: r.mget(keys))`.

        Raises:
            CacheUnavailable: it is not configured, did not answer in time, or is being rested.
        """
        client = self._redis
        if client is None or not self._breaker.allow():
            raise CacheUnavailable
        return self._guarded(lambda: command(client))

    def exchange(self, build: Callable[[str], Command]) -> Any:
        """The answer to one command, at a third of the cost of `call`; see `Wires.exchange`.

        While the cache rests it is never tried from here, so no caller pays for finding out that it is still away:
        have a background thread call `probe`.

        Raises:
            CacheUnavailable: as `call`.
        """
        wires = self.wires
        if wires is None or self._breaker.is_open:
            raise CacheUnavailable
        return self._guarded(lambda: wires.exchange(build))

    def probe(self) -> None:
        """See whether a resting cache is back. Costs nothing while it is not resting."""
        if self._breaker.is_open:
            self.check(1.0)

    def _guarded(self, ask: Callable[[], T]) -> T:
        try:
            result = ask()
        except (redis.ConnectionError, redis.TimeoutError) as error:
            self._breaker.failure()
            raise CacheUnavailable from error
        except redis.RedisError as error:  # it answered, with an error: full, loading, or not what we think it is
            if self._seldom.may_say():  # every request may be refused
                log.warning("Cache refused a command: %s", type(error).__name__)
            raise CacheUnavailable from error
        self._breaker.success()
        return result

    def count(self, result: str) -> None:
        """Count a look-up in `cache_requests_total`: `hit`, `miss` or `bypass`."""
        self._requests[result].inc()

    def check(self, limit_s: float) -> Result:  # noqa: ARG002 - the client's own time-out is shorter
        """PING."""
        try:
            self.call(lambda client: client.ping())
        except CacheUnavailable as error:
            name = type(error.__cause__).__name__ if error.__cause__ else type(error).__name__
            return Result("degraded", "Cache is not accessible, answers come from the database", error=name)
        return Result("healthy", "Cache is accessible")

    def close(self) -> None:
        """Close all connections."""
        if self._redis is not None:
            self._redis.close()
        if self.wires is not None:
            self.wires.close()

    def _log_change(self, is_open: bool) -> None:
        self._connected.set(0 if is_open else 1)
        if is_open:
            log.warning("Cache is unavailable, going on without it")
        else:
            log.info("Cache is available again")
