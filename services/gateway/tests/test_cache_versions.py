"""The cache and the versions of a service: they share nothing but what a write makes out of date."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from chassis import context
from chassis.metrics import Metrics
from gateway.edge.cache import Cache
from gateway.edge.headers import Header, Peers
from gateway.edge.request import Request
from gateway.edge.target import Target
from gateway.registry.route import Route
from gateway.registry.table import Group
from gateway.settings import CacheSettings

NOW = datetime(2026, 1, 1, tzinfo=UTC)
VERSIONS = Group(
    Route(number, "storefront", "catalogue", "prod", f"v{number}", f"http://v{number}", True, 50, NOW, NOW)
    for number in (1, 2)
)


class Answer:
    """What a version answers: its URL. As `Fetched`, for a cache that asks for nothing else."""

    status = 200
    headers: tuple[Header, ...] = ((b"cache-control", b"public, max-age=60"),)

    def __init__(self, route: Route) -> None:
        self.route = route
        self._body = route.url.encode()
        self.length = len(self._body)

    async def read(self) -> bytes:
        """All of it, then its end."""
        body, self._body = self._body, b""
        return body

    async def relay(self, _request: Request, send: Any, headers: Any = ()) -> int:
        """Send it."""
        await send({"type": "http.response.start", "status": 200, "headers": [*self.headers, *headers]})
        await send({"type": "http.response.body", "body": self._body})
        return 200

    def close(self) -> None:
        """Nothing is open."""


class Versions:
    """As `Proxy`: every version answers at once, unless `answers_for` says that another one does."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answers_for: dict[str, Route] = {}

    async def fetch(self, _request: Request, _target: Target, route: Route, **_options: Any) -> Answer:
        """Its answer."""
        self.asked.append(route.version)
        return Answer(self.answers_for.get(route.version, route))


def ask(cache: Cache, version: str, method: str = "GET", path: bytes = b"/a") -> bytes:
    """The body that a client gets who asks for that version."""
    scope = {
        "method": method, "path": path.decode(), "raw_path": path, "query_string": b"", "scheme": "http",
        "http_version": "1.1", "client": ("127.0.0.1", 1), "headers": [(b"host", b"shop")],
    }  # fmt: skip
    request = Request(scope, Peers(trusted=(), internal=()))
    request.context = context.begin(None, None, None, 1000)
    target = Target(endpoint="x", group=VERSIONS, path=path, pinned=VERSIONS.version(version))
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(message)

    asyncio.run(cache.answer(request, target, send))
    body: bytes = sent[-1]["body"]
    return body


@pytest.fixture
def versions() -> Versions:
    """Both of them."""
    return Versions()


@pytest.fixture
def cache(versions: Versions) -> Cache:
    """In front of `versions`."""
    metrics = Metrics(service="gateway", version="1", commit="x")
    return Cache(CacheSettings(), versions, metrics)  # type: ignore[arg-type]


def test_versions_never_mix(cache: Cache, versions: Versions) -> None:
    """Each is asked once, and its clients get its answer."""
    for _ in range(3):
        assert ask(cache, "v1") == b"http://v1"
        assert ask(cache, "v2") == b"http://v2"
    assert sorted(versions.asked) == ["v1", "v2"]


def test_an_answer_is_kept_for_the_version_that_gave_it(cache: Cache, versions: Versions) -> None:
    """When another one steps in, the one that was asked for is asked again next time."""
    other = VERSIONS.version("v2")
    assert other is not None
    versions.answers_for["v1"] = other
    assert ask(cache, "v1") == b"http://v2"
    versions.answers_for.clear()
    assert ask(cache, "v1") == b"http://v1"
    assert ask(cache, "v2") == b"http://v2"
    assert versions.asked == ["v1", "v1"]


def test_a_write_to_one_is_a_write_to_all(versions: Versions) -> None:
    """What any version has of the target is out of date, in this cache and, by the callback, in others."""
    told: list[Any] = []
    metrics = Metrics(service="gateway", version="1", commit="x")
    cache = Cache(CacheSettings(), versions, metrics, on_invalidate=told.append)  # type: ignore[arg-type]
    other = Cache(CacheSettings(), versions, Metrics(service="gateway", version="1", commit="x"))  # type: ignore[arg-type]
    for each in (cache, other):
        ask(each, "v1")
        ask(each, "v2")
    ask(cache, "v1", "DELETE")
    (keys,) = told
    other.drop(keys)
    for each in (cache, other):
        versions.asked.clear()
        ask(each, "v1")
        ask(each, "v2")
        assert versions.asked == ["v1", "v2"]
