"""Traffic for a stage: reads and writes of every kind, open-loop, each request with an id, each answer kept.

with Traffic(stage) as traffic:
    …                                # it flows
traffic.requests                     # all of it, with what came of each
"""

from __future__ import annotations

import json
import math
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chassis.testing import Meanwhile
from loadtest.openloop import Arrival, Offer, offer
from tests.faults.stage import ADMIN_KEY, DEADLINE_S, Stage

GIVE_UP_S = DEADLINE_S + 2.0
"""From when a request is due. What has no answer by then hangs: the gateway's deadline is long over."""
LONGEST_S = 3600.0


@dataclass(slots=True, eq=False)
class Request(Arrival):
    """One request, and what came of it.

    Attributes:
        number: counts those of a Traffic from 0.
        kind: the name of its Kind.
        subject: what it is about: the name, code or id that it makes, reads or changes.
        status: 0: there was no answer; None: it is under way.
        ended_s: when that was known, monotonic.
        answer: all of it, its head first.
    """

    number: int = 0
    kind: str = ""
    subject: str = ""
    status: int | None = None
    ended_s: float = math.inf
    answer: bytes = field(default=b"", repr=False)

    @property
    def took_s(self) -> float:
        """From when it was due."""
        return self.ended_s - self.due_s

    @property
    def fine(self) -> bool:
        """Whether it was answered as by a storefront that lacks nothing."""
        return self.status == KINDS[self.kind].fine

    def header(self, name: str) -> str:
        """A field of the answer; "" if it is not there."""
        for line in self.answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.lower() == name.lower().encode():
                return value.strip().decode()
        return ""

    def json(self) -> Any:
        """The body of the answer. Raises ValueError if it is no JSON."""
        head, _, body = self.answer.partition(b"\r\n\r\n")
        if b"\r\ntransfer-encoding: chunked" in head.lower():
            body = _unchunked(body)
        return json.loads(body)


@dataclass(frozen=True, kw_only=True)
class Kind:
    """A kind of request.

    Attributes:
        share: of all requests, %.
        fine: its status where nothing is wrong.
        writes: whether an answer promises that something was stored.
        make: (traffic, number, dice) → subject and the request itself.
    """

    share: int
    fine: int = 200
    writes: bool = False
    make: Callable[[Traffic, int, random.Random], tuple[str, bytes]]


def request(method: str, path: str, body: Any = None, **headers: str) -> bytes:
    """A request as it goes over the wire; `body` as JSON unless it is None, `X_Name` is the field X-Name."""
    data = b"" if body is None else json.dumps(body).encode()
    fields = {"Host": "faults", "X_API_Key": ADMIN_KEY, **headers}
    if body is not None:
        fields |= {"Content_Type": "application/json", "Content_Length": str(len(data))}
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    return f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode() + data


def _products(traffic: Traffic, number: int, dice: random.Random) -> tuple[str, bytes]:
    product = dice.randint(1, 10)
    return str(product), request("GET", f"/api/products/{product}")


def _search(traffic: Traffic, number: int, dice: random.Random) -> tuple[str, bytes]:
    price = 1000 + number  # nobody has asked for that before: no cache on the way has the answer
    return str(price), request("GET", f"/api/products?per_page=5&max_price={price}.{traffic.salt}")


def _users(traffic: Traffic, number: int, dice: random.Random) -> tuple[str, bytes]:
    return "", request("GET", "/api/v1/users?per_page=10")


def _user(traffic: Traffic, number: int, dice: random.Random) -> tuple[str, bytes]:
    member = str(dice.choice(traffic.stage.members))
    return member, request("GET", f"/api/v1/users/{member}")


def _follow(traffic: Traffic, number: int, dice: random.Random) -> tuple[str, bytes]:
    code = dice.choice(traffic.stage.codes)
    return code, request("GET", f"/s/{code}")


def _resolve(traffic: Traffic, number: int, dice: random.Random) -> tuple[str, bytes]:
    service = dice.choice(("catalogue", "user", "links"))
    return service, request("GET", f"/api/v1/routes/resolve?tenant=storefront&service={service}&env=prod")


def _sign_up(traffic: Traffic, number: int, dice: random.Random) -> tuple[str, bytes]:
    name = traffic.name(number)
    return name, sign_up(name)


def sign_up(name: str) -> bytes:
    """A sign-up, with a key so that it may be sent again."""
    new = {"username": name, "email": f"{name}@example.com"}
    return request("POST", "/api/v1/users", new, Idempotency_Key=f"key-{name}")


def _change(traffic: Traffic, number: int, dice: random.Random) -> tuple[str, bytes]:
    member = str(dice.choice(traffic.stage.members))
    return member, request("PATCH", f"/api/v1/users/{member}", {"full_name": traffic.name(number)})


def _shorten(traffic: Traffic, number: int, dice: random.Random) -> tuple[str, bytes]:
    code = traffic.name(number)
    return code, request("POST", "/api/v1/links", {"url": f"https://example.com/{code}", "code": code})


def _route(traffic: Traffic, number: int, dice: random.Random) -> tuple[str, bytes]:
    name = traffic.name(number)
    new = {"tenant": "faults", "service": name, "env": "prod", "version": "v1", "url": "http://127.0.0.1:9"}
    return name, request("POST", "/api/v1/routes", {**new, "active": False})


KINDS = {
    "product": Kind(share=15, make=_products),
    "search": Kind(share=15, make=_search),
    "users": Kind(share=12, make=_users),
    "user": Kind(share=15, make=_user),
    "follow": Kind(share=15, fine=302, make=_follow),
    "resolve": Kind(share=5, make=_resolve),
    "sign-up": Kind(share=10, fine=201, writes=True, make=_sign_up),
    "change": Kind(share=6, writes=True, make=_change),
    "shorten": Kind(share=5, fine=201, writes=True, make=_shorten),
    "route": Kind(share=2, fine=201, writes=True, make=_route),
}
"""`product` is most often answered by the edge's cache, `search` never; `users` by Valkey unless somebody has written
since, `user` always by PostgreSQL; `follow` by Valkey; `resolve` by the gateway itself."""
WRITES = tuple(name for name, kind in KINDS.items() if kind.writes)
READS = tuple(name for name, kind in KINDS.items() if not kind.writes)


class Traffic(Meanwhile):
    """Requests of all kinds, at random times, until it is left: it returns when each has its answer, or has none.

    Attributes:
        run: what all names that it makes begin with.
        requests: all until now, in the order in which they were due.
        void: after the end: why times of this run say little; "" if nothing is wrong with them.
    """

    def __init__(self, stage: Stage, *, per_second: float, seed: int = 1) -> None:
        super().__init__(self._flow)
        self.stage = stage
        self.run = uuid.uuid4().hex[:8]
        self.salt = f"{random.Random(self.run).randrange(100):02}"
        self.requests: list[Request] = []
        self.void = ""
        self._names, shares = zip(*((name, kind.share) for name, kind in KINDS.items()), strict=True)
        self._shares = shares
        self._offer = Offer(
            port=stage.gateway.port,
            per_second=per_second,
            seconds=LONGEST_S,
            connections=512,
            timeout_s=GIVE_UP_S,
            seed=seed,
            arrive=self._arrive,
            over=self._over,
            go_on=lambda: not self.ending.is_set(),
        )

    def name(self, number: int) -> str:
        """What the request of that number makes, if it makes something."""
        return f"{self.run}-{number}"

    def _flow(self, _ending: threading.Event) -> None:
        self.void = offer(self._offer).void

    def _arrive(self, due_s: float, dice: random.Random) -> Request:
        number = len(self.requests)
        kind = dice.choices(self._names, self._shares)[0]
        subject, data = KINDS[kind].make(self, number, dice)
        made = Request(due_s, data, number=number, kind=kind, subject=subject)
        self.requests.append(made)
        return made

    def _over(self, arrival: Arrival, status: int, answer: bytes) -> None:
        if isinstance(arrival, Request):
            arrival.status, arrival.ended_s, arrival.answer = status, time.monotonic(), answer


def _unchunked(body: bytes) -> bytes:
    whole = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole, body = whole + body[:length], body[length + 2 :]
        if not length:
            break
    return whole
