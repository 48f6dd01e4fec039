"""Mixed traffic for the memory measurement: the requests of shoppers, clients, crawlers and mistakes, in one stream.

Deterministic: the same seed gives the same requests.
"""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace

import urllib3

from loadtest.errors import BenchError

_CLIENTS = 16
_WORDS = ("paper", "crane", "fox", "boat", "star", "red", "zzz")
_USERS = 100_000


@dataclass(frozen=True, kw_only=True)
class Request:
    """One request to send."""

    method: str = "GET"
    path: str
    headers: dict[str, str] = field(default_factory=dict)
    body: object = None


def catalogue_request(dice: random.Random, number: int) -> Request:
    """One request to the catalogue; `number` makes it differ from all others where that matters."""
    choices: list[tuple[int, Callable[[], Request]]] = [
        (30, lambda: Request(path="/api/products")),
        (10, lambda: Request(path="/api/products", headers={"If-None-Match": '"no-such-tag"'})),
        (20, lambda: Request(path=f"/api/products/{dice.randint(1, 20)}")),
        (10, lambda: Request(path=f"/api/products?q={dice.choice(_WORDS)}&sort=-price")),
        (10, lambda: Request(path=f"/api/products?page={dice.randint(1, 3)}&per_page={dice.randint(1, 100)}")),
        (5, lambda: Request(path=f"/api/products?min_price={dice.randint(0, 50)}&in_stock=true")),
        (5, lambda: Request(path="/")),
        (3, lambda: Request(path=f"/no/such/page/{number}")),
        (3, lambda: Request(path=f"/api/products?page={dice.choice(('0', '-1', 'x'))}")),
        (2, lambda: Request(path="/health/ready")),
        (2, lambda: Request(path="/openapi.json")),
    ]
    return _pick(dice, choices)


def user_request(dice: random.Random, number: int) -> Request:
    """One request to the user service."""
    choices: list[tuple[int, Callable[[], Request]]] = [
        (40, lambda: Request(path=f"/api/v1/users?page={dice.randint(1, 50)}")),
        (15, lambda: Request(path=f"/api/v1/users?after={dice.randint(0, _USERS)}&per_page=100")),
        (20, lambda: Request(path=f"/api/v1/users/{dice.randint(1, _USERS)}")),
        (4, lambda: _new_user(number)),
        (3, lambda: _change(dice, number)),
        (3, lambda: Request(method="POST", path="/api/v1/users", body={"username": "x", "email": "wrong"})),
        (5, lambda: Request(path=f"/api/v1/users/{dice.randint(10**9, 10**12)}")),
        (5, lambda: Request(path="/api/v1/users?page=-1")),
        (3, lambda: Request(path=f"/no/such/page/{number}")),
        (2, lambda: Request(path="/health/ready")),
    ]
    return _pick(dice, choices)


def gateway_request(dice: random.Random, number: int, *, key: dict[str, str]) -> Request:
    """One request to the gateway: what the services get, and its own. `key` is the header that opens what is closed."""
    own = dice.random()
    if own < 0.02:
        return Request(path="/api/service-status")
    if own < 0.05:
        version = dice.choice(("", "&version=v1", "&version=v9"))
        path = f"/api/v1/routes/resolve?tenant=storefront&service=catalogue&env=prod{version}"
        return Request(path=path, headers=key)
    if own < 0.06:
        return Request(path=f"/api/v1/routes?per_page={dice.randint(1, 100)}", headers=key)
    if own < 0.55:
        return catalogue_request(dice, number)
    request = user_request(dice, number)
    return replace(request, headers={**request.headers, **key})


def _new_user(number: int) -> Request:
    body = {"username": f"walker-{number}", "email": f"walker-{number}@example.com", "full_name": "A Walker"}
    return Request(method="POST", path="/api/v1/users", body=body, headers={"Idempotency-Key": f"memory-{number}"})


def _change(dice: random.Random, number: int) -> Request:
    return Request(
        method="PATCH", path=f"/api/v1/users/{dice.randint(1, _USERS)}", body={"full_name": f"Walker {number}"}
    )


def _pick(dice: random.Random, choices: list[tuple[int, Callable[[], Request]]]) -> Request:
    makers = [make for _, make in choices]
    return dice.choices(makers, weights=[weight for weight, _ in choices])[0]()


def send(
    url: str,
    make: Callable[[random.Random, int], Request],
    *,
    count: int,
    first_number: int,
    on_done: Callable[[], object],
) -> Counter[int]:
    """Send `count` requests from 16 clients; how often each status came.

    Raises BenchError on any 5xx or lost connection.
    """
    dice = random.Random(first_number)
    requests = (make(dice, number) for number in range(first_number, first_number + count))
    lock = threading.Lock()

    def client() -> Counter[int]:
        seen: Counter[int] = Counter()
        with urllib3.PoolManager(maxsize=1, retries=False, timeout=30.0) as pool:
            while True:
                with lock:
                    request = next(requests, None)
                if request is None:
                    return seen
                seen[_status(pool, url, request)] += 1
                on_done()

    with ThreadPoolExecutor(_CLIENTS) as executor:
        total: Counter[int] = Counter()
        for done in [executor.submit(client) for _ in range(_CLIENTS)]:
            total += done.result()
        return total


def _status(pool: urllib3.PoolManager, url: str, request: Request) -> int:
    try:
        answer = pool.request(
            request.method, url + request.path, headers=request.headers, json=request.body, redirect=False
        )
    except urllib3.exceptions.HTTPError as error:
        raise BenchError(f"{request.method} {request.path}: {error!r}") from error
    if answer.status >= 500:
        raise BenchError(f"{request.method} {request.path} answered {answer.status}: {answer.data[:200]!r}")
    return answer.status
