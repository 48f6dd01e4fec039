"""Versions and instances: who gets a request, and who gets it when that one does not answer."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import subprocess
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from chassis import context
from chassis.errors import Problem
from chassis.metrics import Metrics
from chassis.settings import load
from chassis.testing import free_port
from chassis.testing.tools import require
from gateway.edge.body import Body
from gateway.edge.headers import Peers
from gateway.edge.instance import Refused
from gateway.edge.proxy import SOON_S, Proxy
from gateway.edge.request import Request
from gateway.edge.target import Target
from gateway.edge.upstream import Upstreams
from gateway.policy import UpstreamPolicy
from gateway.registry.route import Route
from gateway.registry.table import Group
from gateway.settings import Settings

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Backend, Message, Wire

NOW = datetime(2026, 11, 1, tzinfo=UTC)
_ids = itertools.count(1000)


def route(url: str, *, version: str = "v1", weight: int = 100) -> Route:
    """A version of the service `shop/pay`."""
    return Route(next(_ids), "shop", "pay", "prod", version, url, True, weight, NOW, NOW)


def peers() -> Peers:
    """That trust nobody."""
    return Peers(trusted=[], internal=[])


class Edge:
    """A proxy with its upstreams, asked without a server in front."""

    def __init__(self, upstreams: Upstreams, proxy: Proxy, metrics: Metrics, limit_ms: int) -> None:
        self.limit_ms = limit_ms
        self.upstreams = upstreams
        self.proxy = proxy
        self.metrics = metrics

    async def ask(
        self,
        target: Target,
        *,
        method: str = "GET",
        body: bytes | None = None,
        timeout_ms: str | None = None,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> tuple[int, bytes]:
        """Forward a request; returns status and body, also of a problem."""
        sent: list[dict[str, Any]] = []

        async def send(message: Any) -> None:
            sent.append(message)

        request = make_request(method, body, headers)
        request.context = context.begin(None, None, timeout_ms, self.limit_ms)
        route = target.choose()
        assert route is not None
        try:
            status = await self.proxy.forward(request, target, route, send)
        except Problem as problem:
            return problem.status, problem.detail.encode()
        return status, b"".join(message.get("body", b"") for message in sent)

    def instance(self, of: Route) -> Any:
        """The only instance of a route."""
        (instance,) = self.upstreams.of(of.url).instances
        return instance

    def counted(self, name: str, **labels: str) -> float:
        """The value of a counter."""
        value = self.metrics.registry.get_sample_value(name, labels)
        return value or 0.0


def make_request(method: str, body: bytes | None, headers: tuple[tuple[bytes, bytes], ...]) -> Request:
    """A request as the server hands it over."""
    length = () if body is None else ((b"content-length", b"%d" % len(body)),)
    scope = {
        "method": method, "path": "/x", "raw_path": b"/x", "query_string": b"", "scheme": "http", "http_version": "1.1",
        "client": ("127.0.0.1", 1), "headers": [(b"host", b"shop"), *length, *headers],
    }  # fmt: skip
    request = Request(scope, peers())
    request.context = context.begin(None, None, None, 2000)
    if body is not None:

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": body, "more_body": False}

        request.body = Body(receive, length=len(body), limit=1000, expected=False)
    return request


@asynccontextmanager
async def edge(resolver: Any = None, *, limit_ms: int = 2000, **values: Any) -> AsyncIterator[Edge]:
    """A proxy with these settings."""
    settings = load(Settings, **values)
    metrics = Metrics(service="gateway", version="1", commit="1")
    upstreams = Upstreams(settings, policy=UpstreamPolicy(settings), metrics=metrics, resolver=resolver)
    proxy = Proxy(upstreams, peers=peers(), metrics=metrics, env="prod", timeout_s=limit_ms / 1000)
    yield Edge(upstreams, proxy, metrics, limit_ms)
    upstreams.close()
    await eventually(lambda: not any(upstream.in_use for upstream in upstreams))
    assert not any(upstream.in_flight or upstream.admission.waiting for upstream in upstreams)


def to(*routes: Route, pinned: Route | None = None, key: bytes | None = None) -> Target:
    """A target of these versions."""
    return Target(endpoint="t", group=Group(routes), path=b"/x", pinned=pinned, key=key)


def run(test: Coroutine[Any, Any, None]) -> None:
    """Run `test` with a limit of 10 s."""

    async def limited() -> None:
        async with asyncio.timeout(10):
            await test

    asyncio.run(limited())


async def eventually(condition: Callable[[], object]) -> None:
    """Return when `condition` holds, letting the loop run."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.01)


@contextmanager
def serving(name: bytes, status: str = "200 OK") -> Iterator[Backend]:
    """A service that answers with its name."""
    from services.gateway.tests.conftest import Backend, answer

    backend = Backend()
    backend.on("/x", lambda wire, _: answer(wire, name, status=status))
    yield backend
    backend.stop()


@pytest.fixture
def two() -> Iterator[tuple[Backend, Backend]]:
    """Two services, `a` and `b`."""
    with serving(b"a") as a, serving(b"b") as b:
        yield a, b


# --- versions ------------------------------------------------------------------------------------------------------


def test_weights_share_the_requests(two: tuple[Backend, Backend]) -> None:
    """Nine to one, within a request or two."""
    a, b = route(two[0].url, weight=90), route(two[1].url, version="v2", weight=10)

    async def test() -> None:
        async with edge() as gateway:
            bodies = Counter([(await gateway.ask(to(a, b)))[1] for _ in range(200)])
        # a new group each time begins anywhere: the shares are even by chance only
        assert 140 < bodies[b"a"] < 200

    run(test())


def test_a_dead_version_hands_its_requests_to_the_others(two: tuple[Backend, Backend]) -> None:
    """Nothing was sent where nobody listens: not one request fails, whatever its method, and nothing is spent."""
    two[0].stop()
    a, b = route(two[0].url), route(two[1].url, version="v2")

    async def test() -> None:
        async with edge(retry_budget_percent=0) as gateway:
            for method in ("GET", "POST", "DELETE", "PATCH") * 5:
                body = b"1" if method in ("POST", "PATCH") else None
                assert await gateway.ask(to(a, b), method=method, body=body) == (200, b"b")
            assert gateway.instance(a).state == "open"
            assert (
                gateway.counted("gateway_upstream_requests_total", upstream="shop/pay/prod/v1", outcome="unreachable")
                == 1
            )

    run(test())


def test_a_version_that_was_asked_for_is_not_replaced(two: tuple[Backend, Backend]) -> None:
    """X-Route-Version means that one: 503 at once, with when to come back, while it is dead."""
    two[0].stop()
    a, b = route(two[0].url), route(two[1].url, version="v2")

    async def test() -> None:
        async with edge() as gateway:
            for _ in range(3):
                status, detail = await gateway.ask(to(a, b, pinned=a))
                assert (status, detail) == (503, b"The pay service is not available")
            assert await gateway.ask(to(a, b, pinned=b)) == (200, b"b")
        assert gateway.counted("gateway_upstream_requests_total", upstream="shop/pay/prod/v1", outcome="open") == 2

    run(test())


def test_a_key_sticks_to_its_version_while_that_lives(two: tuple[Backend, Backend]) -> None:
    """The same answer every time, from the other version only when there is no other way."""
    a, b = route(two[0].url), route(two[1].url, version="v2")

    async def test() -> None:
        async with edge(breaker={"reset_ms": 60_000}) as gateway:
            homes = {}
            for number in range(20):
                found = {await gateway.ask(to(a, b, key=b"%d" % number)) for _ in range(3)}
                assert len(found) == 1
                homes[number] = found.pop()[1]
            assert set(homes.values()) == {b"a", b"b"}
            two[0].stop()
            for number in homes:
                assert await gateway.ask(to(a, b, key=b"%d" % number)) == (200, b"b")

    run(test())


def test_a_version_that_answers_with_errors_only_is_avoided() -> None:
    """After five in a row the others get its requests; alone, it goes on getting them all."""
    with serving(b"bad", "503 Service Unavailable") as bad, serving(b"good") as good:
        a, b = route(bad.url), route(good.url, version="v2")

        async def test() -> None:
            async with edge(retry_budget_percent=0, breaker={"reset_ms": 60_000}) as gateway:
                for _ in range(5):
                    assert await gateway.ask(to(a, b, pinned=a)) == (503, b"bad")
                assert gateway.instance(a).state == "ejected"
                for _ in range(20):
                    assert await gateway.ask(to(a, b)) == (200, b"good")
                assert await gateway.ask(to(a, b, pinned=a)) == (503, b"bad")
                assert await gateway.ask(to(a)) == (503, b"bad")

        run(test())


# --- retries -------------------------------------------------------------------------------------------------------


def test_errors_are_asked_for_again_within_the_budget() -> None:
    """An upstream that answers nothing but 503 sees 1.2 times the requests; each client gets the service's own 503."""
    with serving(b"sorry", "503 Service Unavailable") as bad:
        only = route(bad.url)

        async def test() -> None:
            async with edge(retry_budget_percent=20) as gateway:
                for _ in range(50):
                    assert await gateway.ask(to(only)) == (503, b"sorry")
                name = "shop/pay/prod/v1"
                assert gateway.counted("gateway_retries_total", upstream=name, outcome="failed") == 10
                assert gateway.counted("gateway_retries_total", upstream=name, outcome="over_budget") == 40

        run(test())
        assert len(bad.seen_at("/x")) == 60


@pytest.mark.parametrize("method", ["POST", "PATCH"])
@pytest.mark.parametrize("status", ["502 Bad Gateway", "503 Service Unavailable", "504 Gateway Timeout"])
def test_what_is_not_idempotent_is_never_sent_again(method: str, status: str) -> None:
    """Not for any answer, and not to another version."""
    with serving(b"bad", status) as bad, serving(b"good") as good:
        a, b = route(bad.url), route(good.url, version="v2", weight=0)

        async def test() -> None:
            async with edge(retry_budget_percent=100) as gateway:
                assert (await gateway.ask(to(a, b), method=method, body=b"x"))[0] == int(status[:3])

        run(test())
        assert (len(bad.seen_at("/x")), len(good.seen_at("/x"))) == (1, 0)


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE"])
def test_a_retry_goes_to_another_version_if_there_is_one(method: str) -> None:
    """One bad and one good: the client sees only good answers."""
    with serving(b"bad", "502 Bad Gateway") as bad, serving(b"good") as good:
        a, b = route(bad.url), route(good.url, version="v2")

        async def test() -> None:
            async with edge(retry_budget_percent=100) as gateway:
                statuses = {(await gateway.ask(to(a, b), method=method, body=b"x" if method == "PUT" else None))[0]
                            for _ in range(8)}  # fmt: skip
                assert statuses == {200}

        run(test())


def test_an_error_that_was_long_in_coming_is_not_asked_for_again() -> None:
    """What it waited for would have to be waited for again, and the client has waited once."""
    from services.gateway.tests.conftest import answer

    with serving(b"soon", "503 Service Unavailable") as bad:
        only = route(bad.url)

        def late(wire: Wire, _: Message) -> None:
            time.sleep(SOON_S + 0.05)  # how long it takes is what this is about
            answer(wire, b"late", status="503 Service Unavailable")

        async def test() -> None:
            async with edge(retry_budget_percent=100) as gateway:
                assert await gateway.ask(to(only)) == (503, b"soon")
                assert len(bad.seen_at("/x")) == 2
                bad.on("/x", late)
                assert await gateway.ask(to(only)) == (503, b"late")
                assert len(bad.seen_at("/x")) == 3

        run(test())


def test_a_connection_that_dies_is_worth_a_retry() -> None:
    """Also a new one: the service was stopped while the request was on its way to it."""
    with serving(b"a") as bad, serving(b"b") as good:
        bad.on("/x", lambda wire, _: wire.close())
        a, b = route(bad.url), route(good.url, version="v2")

        async def test() -> None:
            async with edge(retry_budget_percent=100) as gateway:
                assert {await gateway.ask(to(a, b)) for _ in range(8)} == {(200, b"b")}

        run(test())


def test_an_answer_that_is_not_503_is_not_asked_for_again() -> None:
    """500 says that the service tried; 501, 404 and 429 are answers."""
    for status in ("500 Internal Server Error", "501 Not Implemented", "404 Not Found", "429 Too Many Requests"):
        with serving(b"no", status) as backend:

            async def test(backend: Backend = backend, status: str = status) -> None:
                async with edge(retry_budget_percent=100) as gateway:
                    assert (await gateway.ask(to(route(backend.url))))[0] == int(status[:3])

            run(test())
            assert len(backend.seen_at("/x")) == 1


# --- breaker -------------------------------------------------------------------------------------------------------


def test_garbage_opens_the_breaker_and_a_trial_closes_it() -> None:
    """After so many in a row nobody is sent there, until a probe and then one request have found it well."""
    from services.gateway.tests.conftest import answer

    with serving(b"well") as backend:
        backend.on("/x", lambda wire, _: wire.send(b"garbage\r\n\r\n"))
        only = route(backend.url)

        async def test() -> None:
            async with edge(breaker={"failures": 3, "reset_ms": 100}) as gateway:
                for _ in range(3):
                    assert (await gateway.ask(to(only)))[0] == 503
                assert gateway.instance(only).state == "open"
                seen = len(backend.seen_at("/x"))
                assert (await gateway.ask(to(only)))[0] == 503
                assert len(backend.seen_at("/x")) == seen
                await eventually(lambda: gateway.instance(only).state == "half-open")
                backend.on("/x", lambda wire, _: answer(wire, b"well"))
                assert await gateway.ask(to(only)) == (200, b"well")
                assert gateway.instance(only).state == "closed"

        run(test())


def test_while_half_open_one_request_at_a_time_finds_out() -> None:
    """The others are 503 at once; one that ends without a finding makes room for the next."""
    go = threading.Event()

    def later(wire: Wire, message: Message) -> None:
        go.wait(5)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with serving(b"x") as backend:
        backend.on("/x", lambda wire, _: wire.send(b"garbage\r\n\r\n"))
        only = route(backend.url)

        async def test() -> None:
            async with edge(breaker={"failures": 1, "reset_ms": 50}) as gateway:
                assert (await gateway.ask(to(only)))[0] == 503
                backend.on("/x", later)
                await eventually(lambda: gateway.instance(only).state == "half-open")
                assert (await gateway.ask(to(only), timeout_ms="100"))[0] == 504
                assert gateway.instance(only).state == "half-open"
                trial = asyncio.create_task(gateway.ask(to(only)))
                await eventually(lambda: gateway.instance(only).waiting)
                assert (await gateway.ask(to(only)))[0] == 503
                go.set()
                assert (await trial)[0] == 200
                assert (await gateway.ask(to(only)))[0] == 200

        run(test())


def test_an_instance_that_listens_again_is_used_again_at_once(two: tuple[Backend, Backend]) -> None:
    """Where nobody listened nothing has gone wrong: a request with nowhere else to go looks before it is refused."""
    only = route(two[0].url)

    async def test() -> None:
        async with edge(breaker={"reset_ms": 60_000}) as gateway:
            for _ in range(3):
                two[0].stop()
                assert [status for status, _ in await asyncio.gather(*(gateway.ask(to(only)) for _ in range(20)))] == (
                    [503] * 20
                )
                two[0].start()
                assert [status for status, _ in await asyncio.gather(*(gateway.ask(to(only)) for _ in range(20)))] == (
                    [200] * 20
                )

    run(test())


def test_a_look_that_came_too_early_is_no_answer() -> None:
    """A request that has nowhere else to go joins a probe that is under way; if that one finds nobody, it may have
    looked before somebody listened, so there is another one.
    """
    gone = route(f"http://127.0.0.1:{free_port()}")
    begun = asyncio.Event()
    looks: list[int] = []

    async def probe(_instance: Any) -> bool:
        looks.append(len(looks))
        begun.set()
        if len(looks) == 1:
            await asyncio.sleep(0.05)
            raise Refused("nobody yet")
        return True

    async def test() -> None:
        async with edge() as gateway:
            assert (await gateway.ask(to(gone)))[0] == 503
            instance = gateway.instance(gone)
            begun.clear()
            looks.clear()
            instance.probe = probe
            await begun.wait()  # the probe that comes by itself
            assert await instance.knock()
            assert looks == [0, 1]

    run(test())


def test_a_short_deadline_of_a_client_is_not_the_upstreams_fault() -> None:
    """Or anyone could close a service for everyone else."""
    with serving(b"x") as backend:
        backend.on("/x", lambda wire, _: wire.closed_by_peer())
        only = route(backend.url)

        async def test() -> None:
            async with edge(limit_ms=300, breaker={"failures": 2, "reset_ms": 60_000}) as gateway:
                for _ in range(4):
                    assert (await gateway.ask(to(only), timeout_ms="30"))[0] == 504
                assert gateway.instance(only).state == "closed"
                found = await asyncio.gather(*(gateway.ask(to(only)) for _ in range(2)))
                assert [status for status, _ in found] == [504, 504]
                assert gateway.instance(only).state == "open"

        run(test())


def test_too_many_requests_at_a_time_are_turned_away() -> None:
    """503 at once, counted; the others are answered."""
    go = threading.Event()

    def later(wire: Wire, message: Message) -> None:
        go.wait(5)
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")

    with serving(b"x") as backend:
        backend.on("/x", later)
        only = route(backend.url)

        async def test() -> None:
            async with edge(upstream={"max_connections": 3}) as gateway:
                tasks = [asyncio.create_task(gateway.ask(to(only))) for _ in range(3)]
                await eventually(lambda: len(backend.seen_at("/x")) == 3)
                assert await gateway.ask(to(only)) == (503, b"The pay service is busy")
                assert gateway.counted("gateway_shed_total", upstream="shop/pay/prod/v1") == 1
                go.set()
                assert {(await task)[0] for task in tasks} == {200}

        run(test())


# --- what is sent --------------------------------------------------------------------------------------------------


def test_the_path_of_the_url_is_put_in_front(two: tuple[Backend, Backend]) -> None:
    """A route to `http://host/base` gets `/base/x`; a host written with its default port is sent without it."""

    async def test() -> None:
        async with edge() as gateway:
            await gateway.ask(to(route(f"{two[0].url}/base/v2")))
        (seen,) = two[0].seen
        assert (seen.target, seen.get("host")) == ("/base/v2/x", f"127.0.0.1:{two[0].port}")

    run(test())


def test_keys_are_nobody_elses_business(two: tuple[Backend, Backend]) -> None:
    """X-API-Key never reaches a service, Authorization only if it is not a key of ours."""

    async def test() -> None:
        async with edge() as gateway:
            headers = ((b"x-api-key", b"k"), (b"authorization", b"Basic eDp5"))
            await gateway.ask(to(route(two[0].url)), headers=headers)
            request = make_request("GET", None, headers)
            request.strip_authorization = True
            only = route(two[0].url)
            (await gateway.proxy.fetch(request, to(only), only)).close()
        first, second = two[0].seen
        assert (first.get("x-api-key"), first.get("authorization")) == (None, "Basic eDp5")
        assert (second.get("x-api-key"), second.get("authorization")) == (None, None)

    run(test())


def test_a_fetch_may_bring_fields_of_its_own(two: tuple[Backend, Backend]) -> None:
    """As a cache does that asks whether what it has is still good."""

    async def test() -> None:
        async with edge() as gateway:
            only = route(two[0].url)
            request = make_request("GET", None, ((b"if-none-match", b'"old"'), (b"range", b"bytes=0-"), (b"x-a", b"1")))
            fetched = await gateway.proxy.fetch(
                request, to(only), only, fields=[(b"if-none-match", b'"new"')], without=[b"range"]
            )
            assert fetched.route is only
            assert (fetched.status, fetched.length, await fetched.read(), await fetched.read()) == (200, 1, b"a", b"")
            fetched.close()
            fetched.close()
        (seen,) = two[0].seen
        assert (seen.get("if-none-match"), seen.get("range"), seen.get("x-a")) == ('"new"', None, "1")

    run(test())


# --- names and instances -------------------------------------------------------------------------------------------


def test_a_name_with_two_addresses_is_two_instances() -> None:
    """Requests are spread over them; the dead one is passed over, and found again when it lives."""
    from services.gateway.tests.conftest import Backend, answer

    port = free_port()
    first, second = Backend(address="127.0.0.1", port=port), Backend(address="127.0.0.2", port=port)
    first.on("/x", lambda wire, _: answer(wire, b"1"))
    second.on("/x", lambda wire, _: answer(wire, b"2"))
    only = route(f"http://two.test:{port}")

    async def resolver(name: str, _port: int) -> list[str]:
        assert name == "two.test"
        return ["127.0.0.1", "127.0.0.2", "127.0.0.1"]

    async def test() -> None:
        values: dict[str, Any] = {"gateway_allowed_upstreams": ("two.test",), "breaker": {"reset_ms": 100}}
        async with edge(resolver, **values) as gateway:
            assert Counter([(await gateway.ask(to(only)))[1] for _ in range(10)]) == {b"1": 5, b"2": 5}
            second.stop()
            assert {await gateway.ask(to(only), method="POST", body=b"x") for _ in range(10)} == {(200, b"1")}
            second.start()
            await eventually(lambda: gateway.upstreams.of(only.url).instances[1].state == "closed")
            assert {(await gateway.ask(to(only)))[1] for _ in range(10)} == {b"1", b"2"}

    try:
        run(test())
    finally:
        first.stop()
        second.stop()
    assert {message.get("host") for message in first.seen} == {f"two.test:{port}"}


def test_a_name_that_leads_nowhere_is_503_in_time() -> None:
    """At once if the resolver says so, after a second if it says nothing; other services do not wait for it."""
    hang = asyncio.Event()

    async def resolver(name: str, _port: int) -> list[str]:
        if name == "hangs.test":
            await hang.wait()
        raise OSError

    async def test() -> None:
        async with edge(resolver, gateway_allowed_upstreams=("*.test",)) as gateway:
            for name in ("gone", "hangs"):
                began_s = asyncio.get_running_loop().time()
                assert (await gateway.ask(to(route(f"http://{name}.test"))))[0] == 503
                assert asyncio.get_running_loop().time() - began_s < 1.8
            assert (await gateway.ask(to(route("http://hangs.test")), timeout_ms="50"))[0] == 504

    run(test())


def test_a_url_that_the_policy_does_not_let_through_is_503(two: tuple[Backend, Backend]) -> None:
    """Also if it got into the registry by another way: the address is judged before anything is sent."""

    async def test() -> None:
        async with edge(
            gateway_allowed_upstreams=("10.0.0.0/8",), catalogue_url="http://10.0.0.1", user_url="http://10.0.0.1"
        ) as gateway:
            for url in (two[0].url, "http://169.254.169.254", "gopher://x", "http://127.1"):
                assert (await gateway.ask(to(route(url))))[0] == 503

    run(test())
    assert two[0].connections == 0


def test_upstreams_are_forgotten_when_nobody_asks_for_them(two: tuple[Backend, Backend]) -> None:
    """Routes come and go: their connections, names and breakers go with them."""
    only = route(two[0].url)

    async def test() -> None:
        async with edge() as gateway:
            await gateway.ask(to(only))
            now_s = asyncio.get_running_loop().time()
            gateway.upstreams.tick(now_s)
            gateway.upstreams.tick(now_s + 55)
            await eventually(lambda: not gateway.upstreams.of(only.url).in_use)
            gateway.upstreams.tick(now_s + 56)
            assert len(list(gateway.upstreams)) == 1
            gateway.upstreams.tick(now_s + 180)
            assert list(gateway.upstreams) == []
            assert await gateway.ask(to(only)) == (200, b"a")

    run(test())


# --- https ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for `tls.test` and its key, in one file."""
    openssl = require("openssl")
    path = tmp_path / "tls.pem"
    command = [
        openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-keyout", str(path), "-out", str(tmp_path / "c"),
        "-days", "2", "-subj", "/CN=tls.test", "-addext", "subjectAltName=DNS:tls.test",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    path.write_bytes(path.read_bytes() + (tmp_path / "c").read_bytes())
    return path


def test_https_is_spoken_to_the_name_that_the_certificate_has(
    certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The address comes from the resolver, the name from the URL; another name, or another authority, is no answer."""
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))

    async def resolver(_name: str, _port: int) -> list[str]:
        return ["127.0.0.1"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nsecret")

    async def test() -> None:
        listener = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=server)
        port = listener.sockets[0].getsockname()[1]
        async with edge(resolver, gateway_allowed_upstreams=("tls.test", "other.test")) as gateway:
            for _ in range(2):
                assert await gateway.ask(to(route(f"https://tls.test:{port}"))) == (200, b"secret")
            assert (await gateway.ask(to(route(f"https://other.test:{port}"))))[0] == 503
            assert (await gateway.ask(to(route(f"http://tls.test:{port}"))))[0] == 503
            monkeypatch.delenv("SSL_CERT_FILE")
        async with edge(resolver, gateway_allowed_upstreams=("tls.test",)) as gateway:
            assert (await gateway.ask(to(route(f"https://tls.test:{port}"))))[0] == 503
        listener.close()

    run(test())
