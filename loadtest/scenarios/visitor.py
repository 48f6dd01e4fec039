"""What all visitors share: how a request is made, named and judged. Nothing else calls locust's client."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import gevent
from locust import FastHttpUser, between
from locust.env import Environment

from loadtest.endpoints import Endpoint
from loadtest.scenarios.content import BAD, Answer, Wrong

T = TypeVar("T")
LIMITED = "429: the gateway's rate limit; RATE_LIMITS=off make run has none"


class Visitor(FastHttpUser):
    """Somebody who asks, looks at the answer, thinks, and asks again.

    Attributes:
        keys: API keys, taken in turn, as each has a rate limit of its own. The locustfile sets them.
        seed: with it, the locustfile makes a run's choices repeatable.
    """

    abstract = True
    wait_time = between(1, 3)
    connection_timeout = 5.0
    # Longer than the gateway's deadline of 10 s: its 504 is an answer, and says more than that we gave up.
    network_timeout = 12.0

    keys: ClassVar[Iterator[str]]
    seeds: ClassVar[Iterator[str]]

    def __init__(self, environment: Environment) -> None:
        super().__init__(environment)
        self.key = next(self.keys)
        self.random = random.Random(next(self.seeds))

    def think(self, least_s: float = 0.5, most_s: float = 1.5) -> None:
        """Read what came, before the next step of a journey."""
        gevent.sleep(self.random.uniform(least_s, most_s))

    def ask(
        self,
        endpoint: Endpoint,
        path: str,
        look: Callable[[Answer], T],
        *,
        wanted: tuple[int, ...] = (200,),
        with_key: bool = False,
        headers: Mapping[str, str] | None = None,
        json: Any = None,
    ) -> T | None:
        """Make a request and count it under `endpoint`; redirects are not followed.

        Args:
            look: takes the answer and returns what the journey needs of it, or raises one of `content.BAD`.
            wanted: the statuses that are right. Any other is a failure, and so is what `look` refuses.

        Returns:
            What `look` returned; None if the request has failed.
        """
        sent = {**(headers or {}), **({"X-API-Key": self.key} if with_key else {})}
        with self.client.request(
            endpoint.method,
            path,
            name=endpoint.label,
            headers=sent,
            json=json,
            allow_redirects=False,
            catch_response=True,
        ) as response:
            try:
                if not response.status_code:
                    raise Wrong(f"no answer: {type(response.error).__name__}")
                if response.status_code not in wanted:
                    raise Wrong(LIMITED if response.status_code == 429 else f"status {response.status_code}")
                fields = {name.lower(): value for name, value in response.headers.items()}
                found = look(Answer(response.status_code, fields, response.content or b""))
            except BAD as error:
                # The text of other errors may have an id in it.
                known = isinstance(error, Wrong)
                response.failure(str(error) if known else f"not as it should be: {type(error).__name__}")
                return None
            response.success()
            return found
        return None
