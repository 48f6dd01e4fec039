"""What the open loop asks of a service: reads and writes in a fixed mixture, no two writes alike, nothing wrong.

`loadtest/traffic.py` has the other mixture, with mistakes, for a closed loop.
"""

from __future__ import annotations

import itertools
import json
import random
from bisect import bisect
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from http.client import HTTPConnection
from typing import overload

from loadtest.openloop import get

CODES = tuple(f"mix-{number}" for number in range(20))
"""Links that are there before anybody follows them: `first_links`."""
USERS, PRODUCTS = 200, 16
"""So many are there at least, from 1 on."""
_ADDRESSES = 200
_WITH_KEY = "/api/v1/"
_WORDS = ("paper", "crane", "fox", "boat", "star", "red")
_PICTURES = ("/static/images/hero.svg", "/static/images/origami/001-crane.svg", "/static/storefront.css")

Maker = Callable[[int], bytes]
"""A request; the number is another one each time."""


class Mix(Sequence[bytes]):
    """Requests for an Offer, each made when it is drawn.

    Args:
        parts: how often of all, and what makes them.
        prefix: of the names of what is written, so that another mix on the same tables writes others.
        headers: of the requests that need a key.
        addresses: whether each comes for another shopper, as a trusted proxy in front would say.
    """

    def __init__(
        self,
        parts: Sequence[tuple[int, Callable[[Mix, int], bytes]]],
        *,
        prefix: str,
        headers: Mapping[str, str] | None = None,
        addresses: bool = False,
        new_connections: float = 0.0,
    ) -> None:
        self.prefix = prefix
        self.dice = random.Random(prefix)
        self._makers = [maker for _, maker in parts]
        self._ends = list(itertools.accumulate(weight for weight, _ in parts))
        self._numbers = itertools.count(1)
        self._headers = dict(headers or {})
        self._addresses = addresses
        self._new_connections = new_connections

    def __len__(self) -> int:
        return self._ends[-1]

    @overload
    def __getitem__(self, index: int) -> bytes: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[bytes]: ...
    def __getitem__(self, index: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        if not 0 <= index < len(self):
            raise IndexError(index)
        return self._makers[bisect(self._ends, index)](self, next(self._numbers))

    def get(self, path: str) -> bytes:
        """A GET."""
        return get(path, **self._fields(path))

    def send(self, method: str, path: str, body: object) -> bytes:
        """A request with a body."""
        data = json.dumps(body).encode()
        fields = {"Content-Type": "application/json", "Content-Length": str(len(data)), **self._fields(path)}
        return get(path, **fields).replace(b"GET ", method.encode() + b" ", 1) + data

    def _fields(self, path: str) -> dict[str, str]:
        fields = dict(self._headers) if path.startswith(_WITH_KEY) else {}
        if self._addresses:
            fields["X-Forwarded-For"] = f"198.51.100.{self.dice.randrange(_ADDRESSES)}"
        if self.dice.random() < self._new_connections:
            fields["Connection"] = "close"
        return fields


def _search(mix: Mix, number: int) -> bytes:
    """No two alike, so that nothing has them at hand."""
    return mix.get(f"/api/products?q={mix.dice.choice(_WORDS)}&max_price={100 + number / 100:.2f}&sort=-price")


def _user(mix: Mix, number: int) -> bytes:
    name = f"{mix.prefix}-{number}"
    return mix.send("POST", "/api/v1/users", {"username": name, "email": f"{name}@example.com", "full_name": "A Guest"})


def _link(mix: Mix, number: int) -> bytes:
    return mix.send("POST", "/api/v1/links", {"url": f"https://example.com/{mix.prefix}/{number}"})


_CATALOGUE: Sequence[tuple[int, Callable[[Mix, int], bytes]]] = (
    (30, lambda mix, _: mix.get("/api/products")),
    (20, lambda mix, _: mix.get(f"/api/products/{mix.dice.randint(1, PRODUCTS)}")),
    (20, lambda mix, _: mix.get(f"/api/products?page={mix.dice.randint(1, 3)}&per_page={mix.dice.randint(5, 100)}")),
    (15, _search),
    (10, lambda mix, _: mix.get(mix.dice.choice(_PICTURES))),
    (5, lambda mix, _: mix.get("/")),
)
_USER: Sequence[tuple[int, Callable[[Mix, int], bytes]]] = (
    (40, lambda mix, _: mix.get(f"/api/v1/users?page={mix.dice.randint(1, 4)}")),
    (15, lambda mix, _: mix.get(f"/api/v1/users?after={mix.dice.randint(0, USERS)}&per_page=100")),
    (30, lambda mix, _: mix.get(f"/api/v1/users/{mix.dice.randint(1, USERS)}")),
    (8, _user),
    (7, lambda mix, number: mix.send(
        "PATCH", f"/api/v1/users/{mix.dice.randint(1, USERS)}", {"full_name": f"Guest {number}"})),
)  # fmt: skip
_LINKS: Sequence[tuple[int, Callable[[Mix, int], bytes]]] = (
    (65, lambda mix, _: mix.get(f"/s/{mix.dice.choice(CODES)}")),
    (10, lambda mix, _: mix.get(f"/api/v1/links/{mix.dice.choice(CODES)}")),
    (10, _link),
    (10, lambda mix, _: mix.get(f"/qr/{mix.dice.choice(CODES)}.svg")),
    (5, lambda mix, _: mix.get(f"/qr/{mix.dice.choice(CODES)}.png")),
)
_EVERYTHING = (
    *((3 * weight, maker) for weight, maker in _CATALOGUE),
    *((2 * weight, maker) for weight, maker in _USER),
    # Whoever makes links, or looks at them, may do so ten times a second.
    *((weight, maker) for weight, maker in _LINKS if maker is not _LINKS[1][1] and maker is not _link),
    (2, _link),
)
_PARTS = {"catalogue": _CATALOGUE, "user": _USER, "links": _LINKS, "gateway": _EVERYTHING}


def mix_of(service: str, *, prefix: str, key: str = "", new_connections: float = 0.0) -> Mix:
    """The mixture for a service; the gateway's is that of all three, for many shoppers with the same key."""
    through = service == "gateway"
    return Mix(
        _PARTS[service],
        prefix=prefix,
        headers={"X-API-Key": key} if through else None,
        addresses=through,
        new_connections=new_connections,
    )


def send(request: bytes, *, host: str, port: int, timeout_s: float) -> tuple[int, str]:
    """Status and body of the answer to one whole request. Raises OSError or http.client.HTTPException."""
    head, _, body = request.partition(b"\r\n\r\n")
    first, *fields = head.decode().split("\r\n")
    method, path, _ = first.split()
    with closing(HTTPConnection(host, port, timeout=timeout_s)) as connection:
        connection.request(method, path, body, dict(field.split(": ", 1) for field in fields))
        answer = connection.getresponse()
        return answer.status, answer.read().decode()


def pages() -> Mix:
    """Pages of a hundred products, no two alike."""
    return Mix(
        [(1, lambda mix, number: mix.get(f"/api/products?per_page=100&max_price={100 + number / 100:.2f}"))],
        prefix="pages",
        addresses=True,
    )


def first_links(*, key: str = "") -> list[bytes]:
    """The requests that make the links of CODES."""
    mix = Mix([(1, _link)], prefix="first", headers={"X-API-Key": key} if key else None)
    return [mix.send("POST", "/api/v1/links", {"url": f"https://example.com/{code}", "code": code}) for code in CODES]
