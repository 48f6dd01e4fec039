"""Token buckets: what each address and key may still do, as far as this worker knows.

A limit of `600/min` is a bucket of 600 tokens that fills at 10 a second. A request takes one. Where all workers share
the bucket (in Redis), a worker takes a few tokens of a large one at once, its lease, and spends them by itself.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict

from gateway.edge.headers import Header

LEASE_SHARE = 100
"""A lease is a hundredth of the limit at the most; so a limit below 200 is shared to the request."""
MAX_BUCKETS = 10_000
"""Remembered by a worker for one rule: some 5 MB."""
Waiter = asyncio.Future["bool | None"]
"""A request that waits: there is a token for it, there is none, nobody knows."""


class Bucket:
    """One address's or key's bucket under one policy. Times are those of `time.monotonic`.

    Attributes:
        left: tokens of the lease that are not spent.
        lease_until_s: when they stop to be worth anything.
        denied_until_s: there is no token before.
        tokens: how many were in the shared bucket when it was last looked at, or are in our own.
        at_s: when that was.
        waiters: requests that wait for the shared bucket's answer.
    """

    __slots__ = (
        "_reset_header", "at_s", "denied_until_s", "lease_until_s", "left", "name", "policy", "tokens", "waiters",
    )  # fmt: skip

    def __init__(self, policy: Policy, name: str, now_s: float) -> None:
        self.policy = policy
        self.name = name
        self.left = 0
        self.lease_until_s = 0.0
        self.denied_until_s = 0.0
        self.tokens = float(policy.count)
        self.at_s = now_s
        self.waiters: list[Waiter] = []
        self._reset_header: Header = _reset(0.0)

    def granted(self, count: int, tokens: float, now_s: float) -> None:
        """The shared bucket gave `count` tokens and has `tokens` left."""
        policy = self.policy
        if now_s >= self.lease_until_s:
            self.left = 0
        self.left += count
        self.lease_until_s = now_s + policy.per_s
        self._now_holds(tokens, now_s)
        if self.left == 0:
            self.denied_until_s = now_s + (1 - tokens) * policy.per_token_s

    def take_locally(self, now_s: float) -> bool:
        """Take a token of a bucket of our own: for when nobody can be asked."""
        policy = self.policy
        tokens = min(float(policy.count), self.tokens + (now_s - self.at_s) / policy.per_token_s)
        if tokens < 1:
            self._now_holds(tokens, now_s)
            self.denied_until_s = now_s + (1 - tokens) * policy.per_token_s
            return False
        self._now_holds(tokens - 1, now_s)
        return True

    def _now_holds(self, tokens: float, now_s: float) -> None:
        self.tokens = tokens
        self.at_s = now_s
        self._reset_header = _reset((self.policy.count - tokens) * self.policy.per_token_s)

    def headers(self) -> tuple[Header, ...]:
        """What the answer to a request that was let through says of the limit."""
        policy = self.policy
        return (
            policy.limit_header,
            policy.policy_header,
            (b"ratelimit-remaining", b"%d" % (self.left + self.tokens)),
            self._reset_header,
        )

    def denial(self, now_s: float) -> dict[str, str]:
        """The same for one that was not."""
        policy = self.policy
        wait_s = max(self.denied_until_s - now_s, 0.0)
        return {
            "Retry-After": str(max(math.ceil(wait_s), 1)),
            "RateLimit-Limit": str(policy.count),
            "RateLimit-Policy": f"{policy.count};w={policy.per_s}",
            "RateLimit-Remaining": "0",
            "RateLimit-Reset": self._reset_header[1].decode(),
        }


class Policy:
    """One rule and the buckets under it.

    Args:
        name: of the rule, among all workers.
        who: whose limit it is, for metrics.
        count: requests allowed per `per_s` seconds.
        most: buckets to remember; those used longest ago are forgotten, here and not in Redis.
    """

    def __init__(self, name: str, *, who: str, count: int, per_s: int, most: int = MAX_BUCKETS) -> None:
        self.name = name
        self.who = who
        self.count = count
        self.per_s = per_s
        self.per_token_s = per_s / count
        self.spare = max(count // LEASE_SHARE - 1, 0)
        self.limit_header: Header = (b"ratelimit-limit", b"%d" % count)
        self.policy_header: Header = (b"ratelimit-policy", b"%d;w=%d" % (count, per_s))
        self.buckets: OrderedDict[str, Bucket] = OrderedDict()
        self._most = most

    def add(self, name: str, now_s: float) -> Bucket:
        """A new bucket, full; the one used longest ago goes if there are too many."""
        if len(self.buckets) >= self._most:
            self.buckets.popitem(last=False)
        bucket = self.buckets[name] = Bucket(self, name, now_s)
        return bucket

    def touch(self, bucket: Bucket) -> None:
        """It is in use. Not said for every request: its place among thousands need not be exact."""
        if bucket.name in self.buckets:
            self.buckets.move_to_end(bucket.name)


def _reset(seconds: float) -> Header:
    return (b"ratelimit-reset", b"%d" % max(math.ceil(seconds), 0))
