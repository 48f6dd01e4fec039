"""Rate limits: which rule counts, that workers share them to the request, and what happens without Redis."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
import redis

from chassis.metrics import Metrics
from chassis.servers import ValkeyServer
from chassis.settings import load
from gateway.edge.bucket import Bucket, Policy
from gateway.edge.limits import Limiter, TooManyRequests
from gateway.registry.keys import ApiKey, digest
from gateway.settings import Settings

HERE = "192.0.2.1"
KEY = ApiKey(1, "app", digest("sf_app"), frozenset({"users:read"}), None, revoked=False)
OWN = ApiKey(2, "small", digest("sf_small"), frozenset({"users:read"}), "3/day", revoked=False)


class Worker:
    """What one worker has: its limits and metrics."""

    def __init__(self, *rules: str, url: str | None = None) -> None:
        settings = load(Settings, rate_limits=rules, **({"redis": {"url": url, "breaker_reset_ms": 50}} if url else {}))
        self.metrics = Metrics(service="gateway", version="1", commit="c")
        self.limiter = Limiter(settings, metrics=self.metrics)

    async def passes(self, client: str = HERE, endpoint: str = "products", key: ApiKey | None = None) -> bool:
        """Whether one more request is let through."""
        try:
            if self.limiter.take(client, endpoint, key) is None:
                await self.limiter.ask(client, endpoint, key)
        except TooManyRequests:
            return False
        return True

    async def count(self, requests: int, **whose: Any) -> int:
        """How many of so many requests at once are let through."""
        return sum(await asyncio.gather(*(self.passes(**whose) for _ in range(requests))))

    def metric(self, name: str, **labels: str) -> float:
        """The value of a sample, 0 if it is not there."""
        return self.metrics.registry.get_sample_value(name, labels) or 0


def run(work: Callable[..., Awaitable[None]], *workers: Worker) -> None:
    """Do `work(*workers)` on a loop, and close what the workers opened."""

    async def whole() -> None:
        try:
            await work(*workers)
        finally:
            for worker in workers:
                await worker.limiter.close()

    asyncio.run(whole())


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for a condition, ten seconds at the most."""
    async with asyncio.timeout(10):
        while not await condition():  # noqa: ASYNC110 - a process of its own
            await asyncio.sleep(0.01)


# --- rules ------------------------------------------------------------------------------------------------------------


def test_which_rule_counts() -> None:
    """The route's before the key's own before the general one; documents have no limit; a key leaves its address out
    of it.
    """

    async def work(worker: Worker) -> None:
        assert await worker.count(9) == 4
        assert await worker.count(9, endpoint="home") == 0  # the same bucket
        assert await worker.count(9, endpoint="users") == 2
        assert await worker.count(9, endpoint="docs") == 9
        assert await worker.count(9, client="192.0.2.2") == 4
        assert await worker.count(9, key=KEY) == 5
        assert await worker.count(9, key=OWN) == 3
        assert await worker.count(9, key=OWN, endpoint="users") == 1

    run(work, Worker("address=4/day", "key=5/day", "address@users=2/day", "key@users=1/day"))


def test_no_rules_no_limits() -> None:
    """`off`, and also a rule for one kind of asker only."""

    async def work(off: Worker, keys_only: Worker) -> None:
        assert await off.count(99) == 99
        assert off.limiter.take(HERE, "products", None) == ()
        assert await keys_only.count(9) == 9
        assert await keys_only.count(9, key=KEY) == 1

    run(work, Worker("off"), Worker("key=1/day"))


def test_a_network_of_64_bits_counts_as_one() -> None:
    """Who has one IPv6 address has them all; an IPv4 address written as IPv6 is that IPv4 address."""

    async def work(worker: Worker) -> None:
        assert [await worker.passes(client=f"2001:db8::{n:x}") for n in range(1, 5)] == [True, True, False, False]
        assert await worker.passes(client="2001:db8:0:1::1")
        assert await worker.count(2, client=HERE) == 2
        assert not await worker.passes(client=f"::ffff:{HERE}")
        assert await worker.passes(client="fe80::1%eth0")
        assert await worker.passes(client="")  # of a socket in the file system

    run(work, Worker("address=2/day"))


def test_what_is_remembered_is_bounded() -> None:
    """However many addresses ask; those that asked longest ago are forgotten first."""
    policy = Policy("address", who="address", count=1, per_s=60, most=10)
    for number in range(1000):
        policy.touch(policy.add(str(number), 0.0))
    assert list(policy.buckets) == [str(number) for number in range(990, 1000)]


# --- the bucket -------------------------------------------------------------------------------------------------------


def test_a_bucket_fills_with_time() -> None:
    """60/min: sixty at once, then one a second, and never more than sixty."""
    bucket = Bucket(Policy("address", who="address", count=60, per_s=60), HERE, 1000.0)
    assert sum(bucket.take_locally(1000.0) for _ in range(99)) == 60
    assert bucket.denied_until_s == pytest.approx(1001.0)
    assert [bucket.take_locally(1001.01), bucket.take_locally(1001.02)] == [True, False]
    assert sum(bucket.take_locally(9000.0) for _ in range(99)) == 60


def test_what_an_answer_says() -> None:
    """The limit, its window, what is left, and in how many seconds all of it is back."""
    bucket = Bucket(Policy("address", who="address", count=60, per_s=60), HERE, 0.0)
    assert bucket.take_locally(0.0)
    assert dict(bucket.headers()) == {
        b"ratelimit-limit": b"60", b"ratelimit-policy": b"60;w=60", b"ratelimit-remaining": b"59",
        b"ratelimit-reset": b"1",
    }  # fmt: skip
    for _ in range(60):
        bucket.take_locally(0.5)
    assert bucket.denial(0.5) == {
        "Retry-After": "1", "RateLimit-Limit": "60", "RateLimit-Policy": "60;w=60", "RateLimit-Remaining": "0",
        "RateLimit-Reset": "60",
    }  # fmt: skip


def test_the_refusal() -> None:
    """429 says how long to wait, not to whom else it applies; it is counted by route and whose limit it was."""

    async def work(worker: Worker) -> None:
        assert await worker.count(3, endpoint="home") == 1
        with pytest.raises(TooManyRequests) as caught:
            worker.limiter.take(HERE, "home", None)
        assert caught.value.status == 429
        assert 3595 <= int(caught.value.headers["Retry-After"]) <= 3600
        assert HERE not in caught.value.detail
        assert worker.metric("gateway_rate_limited_total", who="address", endpoint="home") == 3

    run(work, Worker("address=1/hour"))


# --- shared -----------------------------------------------------------------------------------------------------------


def test_workers_share_a_limit_to_the_request(redis_url: str) -> None:
    """Three gateways asked at once let exactly the limit through; so they do for the key, a route, an own limit."""

    async def work(*workers: Worker) -> None:
        async def all_of(**whose: Any) -> int:
            return sum(await asyncio.gather(*(worker.count(30, **whose) for worker in workers)))

        assert await all_of() == 50
        assert await all_of(client="192.0.2.9") == 50
        assert await all_of(key=KEY) == 70
        assert await all_of(key=KEY, endpoint="users") == 7
        assert await all_of(key=OWN) == 3

    rules = ("address=50/day", "key=70/day", "key@users=7/day")
    run(work, *(Worker(*rules, url=redis_url) for _ in range(3)))


def test_a_large_limit_costs_few_questions(redis_url: str) -> None:
    """Leases: 12,000 requests to three gateways let exactly 10,000 through, for a fraction of as many commands."""

    async def work(*workers: Worker) -> None:
        let_through = 0
        for number in range(12_000):
            let_through += await workers[number % 3].passes()
        assert let_through == 10_000

    with redis.Redis.from_url(redis_url) as client:
        client.config_resetstat()
        run(work, *(Worker("address=10000/day", url=redis_url) for _ in range(3)))
        stats: Any = client.info("commandstats")
    assert stats["cmdstat_eval"]["calls"] < 500


def test_tokens_of_the_lease_need_no_waiting(redis_url: str) -> None:
    """After one question a hundredth of the limit is let through at once."""

    async def work(worker: Worker) -> None:
        assert worker.limiter.take(HERE, "products", None) is None
        first = await worker.limiter.ask(HERE, "products", None)
        others = [worker.limiter.take(HERE, "products", None) for _ in range(100)]
        assert others.count(None) == 1
        assert dict(first)[b"ratelimit-remaining"] == b"9999"
        assert dict(others[-2] or ())[b"ratelimit-remaining"] == b"9900"

    run(work, Worker("address=10000/day", url=redis_url))


def test_a_try_refuses_nobody(redis_url: str) -> None:
    """There is a lease or there is not; nobody is asked or refused, and nothing is counted as refused."""

    async def work(worker: Worker) -> None:
        limiter = worker.limiter
        assert limiter.try_take(HERE, "docs") == ()
        assert limiter.try_take(HERE, "products") is None
        await limiter.ask(HERE, "products", None)
        taken = [limiter.try_take(HERE, "products") for _ in range(100)]
        assert taken.count(None) == 1
        assert taken[-1] is None
        assert dict(taken[-2] or ())[b"ratelimit-remaining"] == b"9900"

    run(work, Worker("address=10000/day", url=redis_url))


def test_a_refused_one_asks_nobody_again(redis_url: str) -> None:
    """Until there can be a token a refusal costs Redis nothing."""

    async def work(worker: Worker) -> None:
        assert await worker.count(3) == 2
        for _ in range(100):
            with pytest.raises(TooManyRequests):
                worker.limiter.take(HERE, "products", None)

    run(work, Worker("address=2/day", url=redis_url))


def test_it_fills_for_all(redis_url: str) -> None:
    """What time gives back is shared as well."""

    async def work(one: Worker, other: Worker) -> None:
        while await one.passes():
            pass
        await until(other.passes)
        await until(one.passes)

    run(work, *(Worker("address=5/sec", url=redis_url) for _ in range(2)))


def test_a_client_that_left_loses_no_token(redis_url: str) -> None:
    """A request that is cancelled while it waits takes none from the others."""

    async def work(worker: Worker) -> None:
        gone = [asyncio.ensure_future(worker.passes()) for _ in range(5)]
        staying = asyncio.ensure_future(worker.count(5))
        await asyncio.sleep(0)
        for request in gone:
            request.cancel()
        assert await staying == 5
        assert await worker.count(9) == 5

    run(work, Worker("address=10/day", url=redis_url))


def test_nothing_stays_in_redis(redis_url: str) -> None:
    """Every bucket has an end: that of the time in which it fills. No key's text is there."""

    async def work(worker: Worker) -> None:
        await worker.passes()
        await worker.passes(key=KEY)

    with redis.Redis.from_url(redis_url) as client:
        run(work, Worker("address=10/min", "key=10/min", url=redis_url))
        found = list(client.scan_iter())
        assert len(found) == 2
        assert all(0 < client.pttl(name) <= 61_000 for name in found)
        assert not [name for name in found if b"sf_app" in name]


# --- without redis ----------------------------------------------------------------------------------------------------


async def _goes_on_and_comes_back(worker: Worker, other: Worker, break_it: Callable[[], object], mend_it: Any) -> None:
    """Requests are answered while Redis is away, no later than its time-out; limits hold in each worker; then they are
    shared again.
    """
    assert await worker.passes(client="a")
    break_it()
    began_s = time.monotonic()
    assert await worker.count(40, client="b") == 20
    assert time.monotonic() - began_s < 1  # all waited once, together, and not one after the other
    assert worker.limiter.take("c", "products", None) is not None, "a request waits for what is known to be away"
    mend_it()

    async def asks_again() -> bool:
        try:
            return worker.limiter.take("d", "products", None) is None
        except TooManyRequests:
            return False

    await until(asks_again)
    assert sum(await asyncio.gather(worker.count(20, client="e"), other.count(20, client="e"))) == 20


def test_redis_hangs(private_redis: ValkeyServer) -> None:
    """SIGSTOP: one time-out for those who were asking, nothing for those who come later."""

    async def work(worker: Worker, other: Worker) -> None:
        await _goes_on_and_comes_back(worker, other, private_redis.pause, private_redis.resume)

    run(work, *(Worker("address=20/day", url=private_redis.url) for _ in range(2)))


def test_redis_dies(private_redis: ValkeyServer) -> None:
    """kill -9, and a start on the same port."""

    async def work(worker: Worker, other: Worker) -> None:
        await _goes_on_and_comes_back(worker, other, private_redis.kill, private_redis.start)

    run(work, *(Worker("address=20/day", url=private_redis.url) for _ in range(2)))


def test_redis_refuses(private_redis: ValkeyServer) -> None:
    """A server that is full takes no write: limits are the worker's own until it does."""

    async def work(worker: Worker, other: Worker) -> None:
        with redis.Redis.from_url(private_redis.url) as client:

            def full() -> None:
                client.config_set("maxmemory-policy", "noeviction")
                client.config_set("maxmemory", "1")

            await _goes_on_and_comes_back(worker, other, full, lambda: client.config_set("maxmemory", "0"))

    run(work, *(Worker("address=20/day", url=private_redis.url) for _ in range(2)))


def test_a_closed_connection_is_replaced(private_redis: ValkeyServer) -> None:
    """What the server closed while it was idle costs nobody the shared limit."""

    async def work(worker: Worker) -> None:
        assert await worker.count(3) == 3
        with redis.Redis.from_url(private_redis.url) as client:
            client.client_kill_filter(_type="normal", skipme=True)
        assert await worker.count(9) == 2
        with redis.Redis.from_url(private_redis.url) as client:
            client.flushall()
        await worker.limiter.close()  # and one of our own making

    run(work, Worker("address=5/day", url=private_redis.url))


def test_who_waits_when_it_stops_is_let_go(private_redis: ValkeyServer) -> None:
    """A stop leaves no request behind."""

    async def work(worker: Worker) -> None:
        private_redis.pause()
        waiting = asyncio.ensure_future(worker.count(3))
        await asyncio.sleep(0)
        await worker.limiter.close()
        assert await waiting == 2

    run(work, Worker("address=2/day", url=private_redis.url))
    private_redis.resume()


# --- wrong keys -------------------------------------------------------------------------------------------------------


async def _guesses(worker: Worker, count: int, client: str = HERE) -> int:
    """How many of so many wrong keys an address may try."""
    tried = 0
    for _ in range(count):
        try:
            await worker.limiter.failed(client, "users")
            tried += 1
        except TooManyRequests as refused:
            assert "wrong keys" in refused.detail  # noqa: PT017
    return tried


@pytest.mark.parametrize("with_redis", [True, False])
def test_guessing_keys_is_limited(redis_url: str, with_redis: bool) -> None:
    """Sixty wrong keys a minute from an address; what else it asks for does not suffer."""

    async def work(worker: Worker) -> None:
        assert await _guesses(worker, 60) == 60
        assert await _guesses(worker, 10) <= 1  # a second may have passed
        assert await _guesses(worker, 5, client="192.0.2.77") == 5
        assert await worker.count(99) == 99
        assert worker.metric("gateway_rate_limited_total", who="failures", endpoint="users") >= 9

    run(work, Worker("address=6000/min", "key=60000/min", url=redis_url if with_redis else None))


def test_the_limit_of_wrong_keys_can_be_set() -> None:
    """`address@failures` is no route: it is the limit of wrong keys. `off` is off for them as well."""

    async def work(worker: Worker, off: Worker) -> None:
        assert await _guesses(worker, 9) == 2
        assert await _guesses(off, 99) == 99

    run(work, Worker("address@failures=2/day", "address=100/day"), Worker("off"))
