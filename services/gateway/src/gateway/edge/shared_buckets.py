"""The buckets that all workers of all gateways share, in Redis.

One request to Redis is in flight at a time, with the questions of everybody who came while the one before was. When it
fails or takes too long nobody asks again for a while: requests are counted by the worker itself, and a task of its own
finds out when Redis is back. So losing Redis costs a request one time-out at the most, and later ones nothing.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Coroutine, Sequence
from contextvars import Context
from typing import Any

import redis
from redis.asyncio.connection import Connection, parse_url
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from chassis.breaker import CircuitBreaker
from chassis.settings import RedisSettings
from gateway.edge.bucket import Bucket, Policy, Waiter

log = logging.getLogger(__name__)

BATCH = 256
"""Buckets in one question: the server answers nobody else meanwhile."""
KEY = "gateway:limit:%s:%s"

SCRIPT = """
local time = redis.call('TIME')
local now = time[1] + time[2] / 1000000
local answer = {}
for i, key in ipairs(KEYS) do
  local count, per = tonumber(ARGV[4 * i - 3]), tonumber(ARGV[4 * i - 2])
  local need, spare = tonumber(ARGV[4 * i - 1]), tonumber(ARGV[4 * i])
  local tokens = count
  local held, at = string.match(redis.call('GET', key) or '', '^(%S+) (%S+)$')
  if held then
    tokens = math.min(count, tonumber(held) + math.max(0, now - tonumber(at)) * count / per)
  end
  local whole = math.floor(tokens + 0.000001)
  local given = math.min(whole, need + math.min(spare, math.floor(whole / 16)))
  tokens = math.max(tokens - given, 0)
  local full_ms = math.ceil((count - tokens) / count * per * 1000) + 1000
  redis.call('SET', key, string.format('%.17g %.6f', tokens, now), 'PX', string.format('%.0f', full_ms))
  answer[2 * i - 1] = given
  answer[2 * i] = string.format('%.6f', tokens)
end
return answer
"""
"""For each key: its bucket is filled for the time that has passed, by the server's clock, and gives `need` tokens and
up to `spare` more while it is well filled. Nearly empty ones give no spares, so that no worker hoards the last."""


class SharedBuckets:
    """What one worker has to do with them. Its connection is made on the event loop, when it is first needed.

    Args:
        settings: without a URL nothing is shared.
    """

    def __init__(self, settings: RedisSettings) -> None:
        self._timeout_s = settings.timeout_ms / 1000
        self._options: dict[str, Any] = {}
        self._class: Any = None
        if settings.url is not None:
            self._options = dict(parse_url(settings.url.get_secret_value()))
            self._class = self._options.pop("connection_class", Connection)
        self._breaker = CircuitBreaker(reset_s=settings.breaker_reset_ms / 1000, on_change=_log_change)
        self._connection: Any = None
        self._pending: dict[int, Bucket] = {}
        self._task: asyncio.Task[None] | None = None
        self._probe: asyncio.Task[None] | None = None

    def available(self) -> bool:
        """Whether to ask. While Redis rests, and it is time to see, it is tried in the background."""
        if self._class is None:
            return False
        if not self._breaker.is_open:
            return True
        if self._breaker.allow():
            self._probe = _background(self._try())
        return False

    async def ask(self, bucket: Bucket) -> bool | None:
        """Take a token for one request; None if nobody can say whether there is one."""
        waiter: asyncio.Future[bool | None] = asyncio.get_running_loop().create_future()
        bucket.waiters.append(waiter)
        self._pending[id(bucket)] = bucket
        if self._task is None:
            self._task = _background(self._work())
        return await waiter

    async def _work(self) -> None:
        asked: list[tuple[Bucket, list[Waiter]]] = []
        try:
            while self._pending:
                asked = self._next_batch()
                answer = await self._exchange([(bucket, len(waiters)) for bucket, waiters in asked])
                if answer is None:
                    return
                now_s = time.monotonic()
                for at, (bucket, waiters) in enumerate(asked):
                    _share_out(bucket, waiters, int(answer[2 * at]), float(answer[2 * at + 1]), now_s)
        finally:
            self._task = None
            for bucket in self._pending.values():
                asked.append((bucket, bucket.waiters))
                bucket.waiters = []
            self._pending = {}
            for _, waiters in asked:
                _tell(waiters, [None] * len(waiters))  # those who have an answer already keep it

    def _next_batch(self) -> list[tuple[Bucket, list[Waiter]]]:
        asked = []
        for key in list(self._pending)[:BATCH]:
            bucket = self._pending.pop(key)
            asked.append((bucket, bucket.waiters))
            bucket.waiters = []
        return asked

    async def _exchange(self, asked: list[tuple[Bucket, int]]) -> list[Any] | None:
        """The server's answer, None if there is none in time."""
        keys: list[str] = []
        arguments: list[str | int] = []
        for bucket, need in asked:
            policy = bucket.policy
            keys.append(KEY % (policy.name, bucket.name))
            arguments += (policy.count, policy.per_s, need, policy.spare)
        try:
            async with asyncio.timeout(self._timeout_s):
                answer: list[Any] = await self._ask_server(("EVAL", SCRIPT, len(keys), *keys, *arguments))
        except (redis.RedisError, OSError):  # TimeoutError is an OSError
            await self._disconnect()
            self._breaker.failure()
            return None
        self._breaker.success()
        return answer

    async def _try(self) -> None:
        """Ask a question that nobody waits for."""
        probe = Policy("probe", who="", count=1, per_s=1)
        await self._exchange([(Bucket(probe, "", 0.0), 1)])

    async def _ask_server(self, command: tuple[str | int, ...]) -> Any:
        """One exchange. A connection that was closed while it was idle is replaced, once: at the worst a request is
        counted twice.
        """
        if self._connection is not None:
            try:
                return await _ask(self._connection, command)
            except redis.ConnectionError:
                await self._disconnect()
        self._connection = self._make()
        await self._connection.connect()
        return await _ask(self._connection, command)

    def _make(self) -> Any:
        return self._class(
            **self._options,
            protocol=2,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            socket_timeout=None,  # `_exchange` limits all of it
            socket_connect_timeout=None,
        )

    async def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)

    async def close(self) -> None:
        """Close the connection. Whoever waits is told that nobody knows."""
        for task in (self._task, self._probe):
            if task is not None:
                task.cancel()
                await asyncio.wait((task,))
        await self._disconnect()


def _background(work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
    """A task that is nobody's in particular: its log lines belong to no request."""
    return asyncio.get_running_loop().create_task(work, context=Context())


async def _ask(connection: Any, command: tuple[str | int, ...]) -> Any:
    await connection.send_command(*command, check_health=False)
    return await connection.read_response(timeout=math.inf)


def _share_out(bucket: Bucket, waiters: list[Waiter], given: int, tokens: float, now_s: float) -> None:
    """One token to each of `waiters` as far as they go, in the order in which they came; the rest is the lease."""
    present = [waiter for waiter in waiters if not waiter.done()]  # a request that was given up is
    bucket.granted(given, tokens, now_s)
    served = min(bucket.left, len(present))
    bucket.left -= served
    if served < len(present):
        bucket.granted(0, tokens, now_s)  # says from when on there is another
    _tell(present, [True] * served + [False] * (len(present) - served))


def _tell(waiters: list[Waiter], answers: Sequence[bool | None]) -> None:
    for waiter, answer in zip(waiters, answers, strict=True):
        if not waiter.done():
            waiter.set_result(answer)


def _log_change(is_open: bool) -> None:
    if is_open:
        log.warning("Redis does not answer: every worker counts its rate limits by itself")
    else:
        log.info("Redis answers again: rate limits are shared")
