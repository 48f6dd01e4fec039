"""Rate limits: how often an address or a key may ask.

A request with a valid key counts for the key alone, any other for its address (IPv6: its network of 64 bits). The rule
for the route counts first, `key@users` or `address@users`; then the key's own limit; then `key` or `address`.
"""

from __future__ import annotations

import ipaddress
import time
from typing import TYPE_CHECKING

from chassis.errors import Problem
from gateway.edge.bucket import Bucket, Policy
from gateway.edge.headers import Header
from gateway.edge.shared_buckets import SharedBuckets
from gateway.settings import RATE_LIMIT

if TYPE_CHECKING:
    from chassis.metrics import Metrics
    from gateway.registry.keys import ApiKey
    from gateway.settings import Settings

Headers = tuple[Header, ...]
FAILURES = "failures"
"""In the place of a route: `address@failures` limits the wrong keys that an address may try."""
DEFAULT_FAILURES = "address@failures=60/min"
UNLIMITED = ("docs", "openapi")
"""Routes that only a rule of their own limits."""
UNITS_S = {"sec": 1, "min": 60, "hour": 3600, "day": 86_400}
_MAX_NETWORKS = 4096


class TooManyRequests(Problem):
    """429: the limit is used up; `Retry-After` says until when."""

    status = 429


class Limiter:
    """The limits of one worker, shared with all others where Redis is there.

    `take` lets a request through if this worker can say so by itself; else `ask` has to, a round trip to Redis.

    Args:
        metrics: gets `gateway_rate_limited_total{who,endpoint}`; `who` is `address`, `key` or `failures`.
    """

    def __init__(self, settings: Settings, *, metrics: Metrics) -> None:
        self._shared = SharedBuckets(settings.redis)
        self._limited = metrics.counter(
            "gateway_rate_limited_total", "Requests answered 429, by whose limit and route", ("who", "endpoint")
        )
        self._limited.labels("failures", "users")
        rules = dict(map(_parse, (DEFAULT_FAILURES, *settings.rate_limits) if settings.rate_limits else ()))
        self._failures = rules.pop(("address", FAILURES), None)
        self._address = rules.get(("address", None))
        self._key = rules.get(("key", None))
        self._address_at: dict[str, Policy | None] = dict.fromkeys(UNLIMITED)
        self._key_at: dict[str, Policy | None] = dict.fromkeys(UNLIMITED)
        for (who, endpoint), policy in rules.items():
            if endpoint is not None:
                (self._key_at if who == "key" else self._address_at)[endpoint] = policy
        self._own: dict[str, Policy] = {}
        self._networks: dict[str, str] = {}

    def expect(self, endpoint: str) -> None:
        """Count what is refused at an endpoint from 0."""
        for who in ("address", "key"):
            self._limited.labels(who, endpoint)

    def take(self, client: str, endpoint: str, key: ApiKey | None) -> Headers | None:
        """Let a request through, if that can be said at once.

        Args:
            client: the address it came from.

        Returns: header fields for its answer, none if nothing limits it. None: `ask` instead.

        Raises:
            TooManyRequests: it is one too many.
        """
        policy, name = self._whose(client, endpoint, key)
        return () if policy is None else self._take(policy, name, endpoint)

    def try_take(self, client: str, endpoint: str) -> Headers | None:
        """As `take`, for a request without a key; None also if it is one too many, which is for `take` to say."""
        policy, name = self._whose(client, endpoint, None)
        return () if policy is None else self._try(policy, name)[1]

    async def ask(self, client: str, endpoint: str, key: ApiKey | None) -> Headers:
        """The same by asking Redis, for `REDIS_TIMEOUT_MS` at the most.

        Raises:
            TooManyRequests: it is one too many.
        """
        policy, name = self._whose(client, endpoint, key)
        return () if policy is None else await self._ask(policy, name, endpoint)

    async def failed(self, client: str, endpoint: str) -> None:
        """Count a wrong key against the address from which it came.

        Raises:
            TooManyRequests: it is one too many.
        """
        policy = self._failures
        if policy is not None:
            _, name = self._whose(client, endpoint, None)
            if self._take(policy, name, endpoint) is None:
                await self._ask(policy, name, endpoint)

    async def close(self) -> None:
        """Close the connection to Redis."""
        await self._shared.close()

    def _take(self, policy: Policy, name: str, endpoint: str) -> Headers | None:
        refused, headers = self._try(policy, name)
        if refused is not None:
            raise self._refusal(refused, endpoint, time.monotonic())
        return headers

    def _try(self, policy: Policy, name: str) -> tuple[Bucket | None, Headers | None]:
        """(the bucket if it refuses, what to say if it lets through); neither: Redis has to be asked."""
        now_s = time.monotonic()
        bucket = policy.buckets.get(name) or policy.add(name, now_s)
        if bucket.left and now_s < bucket.lease_until_s:
            bucket.left -= 1
            return None, bucket.headers()
        if now_s >= bucket.denied_until_s:
            if self._shared.available():
                return None, None
            policy.touch(bucket)
            if bucket.take_locally(now_s):
                return None, bucket.headers()
        return bucket, None

    async def _ask(self, policy: Policy, name: str, endpoint: str) -> Headers:
        bucket = policy.buckets.get(name) or policy.add(name, time.monotonic())
        policy.touch(bucket)
        granted = await self._shared.ask(bucket)
        if granted is None:
            granted = bucket.take_locally(time.monotonic())
        if granted:
            return bucket.headers()
        raise self._refusal(bucket, endpoint, time.monotonic())

    def _refusal(self, bucket: Bucket, endpoint: str, now_s: float) -> TooManyRequests:
        policy = bucket.policy
        self._limited.labels(policy.who, endpoint).inc()
        what = "wrong keys" if policy.who == FAILURES else "requests"
        detail = f"No more than {policy.count} {what} in {policy.per_s} s are allowed"
        return TooManyRequests(detail, headers=bucket.denial(now_s))

    def _whose(self, client: str, endpoint: str, key: ApiKey | None) -> tuple[Policy | None, str]:
        """The rule that counts, and the name of the bucket under it."""
        if key is None:
            name = client if ":" not in client else self._network(client)
            return self._address_at.get(endpoint, self._address), name
        return self._policy_of(key, endpoint), key.digest.hex()

    def _policy_of(self, key: ApiKey, endpoint: str) -> Policy | None:
        if endpoint in self._key_at:
            return self._key_at[endpoint]
        if key.limit is None or self._key is None:
            return self._key
        own = self._own.get(key.limit)
        if own is None:
            _, own = _parse(f"key={key.limit}")
            self._own[key.limit] = own
        return own

    def _network(self, client: str) -> str:
        """What an IPv6 address counts as: whoever has one has all the addresses of its network."""
        name = self._networks.get(client)
        if name is None:
            address = ipaddress.IPv6Address(client)
            name = str(address.ipv4_mapped or ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
            if len(self._networks) >= _MAX_NETWORKS:
                self._networks.clear()
            self._networks[client] = name
        return name


def _parse(rule: str) -> tuple[tuple[str, str | None], Policy]:
    """((`address` or `key`, route or None), its policy) of a rule that the settings have checked.

    Raises:
        ValueError: it is none.
    """
    match = RATE_LIMIT.fullmatch(rule)
    if match is None:
        raise ValueError(f"{rule} is no rate limit")
    who, endpoint, count, unit = match.groups()
    name = who if endpoint is None else f"{who}@{endpoint}"
    shown = FAILURES if endpoint == FAILURES else who
    return (who, endpoint), Policy(name, who=shown, count=int(count), per_s=UNITS_S[unit])
