"""The cache at work: a gateway of one worker before a service that counts what it is asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from chassis.testing import wait_until
from services.gateway.tests.conftest import Backend, Client, Gateway, Message, Wire, answer

StartGateway = Callable[..., Gateway]
FRESH = "Cache-Control: public, max-age=60\r\n"
STALE = "Cache-Control: public, max-age=10\r\nAge: 20\r\n"
"""Ten seconds too old when it comes: no test has to wait for an answer to become stale."""


class Page:
    """Answers with its version, and 304 for who has it; `hold` keeps answers back until it is set."""

    def __init__(self, headers: str = FRESH) -> None:
        self.headers = headers
        self.status = "200 OK"
        self.version = 1
        self.hold = threading.Event()
        self.hold.set()
        self.waiting = 0

    def __call__(self, wire: Wire, message: Message) -> None:
        self.waiting += 1
        self.hold.wait(10)
        self.waiting -= 1
        etag = f'"{self.version}"'
        if message.get("if-none-match") == etag and self.status == "200 OK":
            wire.send(f"HTTP/1.1 304 Not Modified\r\nETag: {etag}\r\n{self.headers}\r\n".encode())
            return
        body = b"" if message.method == "HEAD" else b"version %d" % self.version
        answer(wire, body, status=self.status, headers=f"ETag: {etag}\r\n{self.headers}")


@pytest.fixture(scope="module")
def service() -> Iterator[Backend]:
    """The service behind `edge`."""
    backend = Backend()
    yield backend
    backend.stop()


@pytest.fixture(scope="module")
def edge(tmp_path_factory: pytest.TempPathFactory, service: Backend) -> Iterator[Gateway]:
    """A gateway of one worker, for all tests of this module."""
    env = {
        "CATALOGUE_URL": service.url, "USER_URL": service.url, "WEB_CONCURRENCY": "1",
        "REQUEST_TIMEOUT_MS": "3000", "CACHE_OBJECT_BYTES": "200000",
    }  # fmt: skip
    process = Gateway(tmp_path_factory.mktemp("gateway"), **env)
    yield process.wait_alive()
    process.stop()


def said(message: Message) -> str:
    """What the cache says of an answer, without its name."""
    return (message.get("cache-status") or "").removeprefix("storefront; ")


# --- hits -------------------------------------------------------------------------------------------------------------


def test_a_public_answer_is_asked_for_once(edge: Gateway, service: Backend, path: str) -> None:
    """Then it comes from memory: the same but for its age, its ids and what Cache-Status says."""
    service.on(path, Page(FRESH + "Date: Mon, 02 Nov 2099 10:00:00 GMT\r\nX-Odd: a\r\nX-Odd: b\r\nVia: 1.1 x\r\n"))
    first, second = edge.ask("GET", path), edge.ask("GET", path)
    assert said(first) == "fwd=uri-miss; stored"
    assert said(second) in ("hit; ttl=60", "hit; ttl=59")
    assert first.get("age") is None
    assert second.get("age") == "0"
    assert first.body == second.body == b"version 1"
    same = ("date", "etag", "cache-control", "content-length", "server", "via")
    assert [first.get(name) for name in same] == [second.get(name) for name in same]
    assert first.all("x-odd") == second.all("x-odd") == ["a", "b"]
    assert first.get("x-request-id") != second.get("x-request-id")
    assert len(service.seen_at(path)) == 1
    assert edge.ask("GET", path, {"X-Request-ID": "mine"}).get("x-request-id") == "mine"


def test_a_hit_keeps_the_connection(edge: Gateway, service: Backend, path: str) -> None:
    """A ready head frames its answer; queries and hosts are answers of their own."""
    service.on(path, Page())
    with edge.client() as client:
        assert [client.ask("GET", path).body for _ in range(3)] == [b"version 1"] * 3
        assert said(client.ask("GET", f"{path}?a=1")) == "fwd=uri-miss; stored"
        assert said(client.ask("GET", path, host="other")) == "fwd=uri-miss; stored"


def test_the_quick_way_is_like_the_long_one(edge: Gateway, service: Backend, path: str) -> None:
    """From the third request on a hit is answered without ASGI: the same answer, counted and logged the same way."""
    service.on(path, Page(FRESH + "Content-Type: text/plain\r\n"))
    with Client(edge.port) as client:
        _, long, quick = (client.ask("GET", path) for _ in range(3))
        other = client.ask("GET", path, {"X-Request-ID": "quick-1"})
        # A request that is not so plain takes the long way again.
        assert client.ask("GET", path, {"If-None-Match": '"1"'}).status == 304
        assert client.ask("HEAD", path).body == b""
        client.wire.send(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode() * 3)
        assert [client.answer().body for _ in range(3)] == [b"version 1"] * 3
    changing = ("age", "cache-status", "x-request-id")
    assert [field for field in long.headers if field[0] not in changing] == [
        field for field in quick.headers if field[0] not in changing
    ]
    assert other.get("x-request-id") == "quick-1"
    assert (quick.status, quick.body) == (200, b"version 1")
    wait_until(lambda: sum(line.get("path") == path for line in edge.logs) == 9)
    line = next(line for line in edge.logs if line.get("request_id") == "quick-1")
    assert (line["method"], line["route"], line["status"], line["remote_addr"]) == ("GET", "products", 200, "127.0.0.1")
    assert (line["message"], len(line["trace_id"])) == (f'"GET {path} HTTP/1.1" 200', 32)
    with Client(edge.port) as client:
        client.wire.send(f"GET {path} HTTP/1.0\r\nHost: shop\r\n\r\n".encode())
        assert client.answer().get("connection") == "close"
        assert client.wire.closed_by_peer()


def test_hits_are_limited_as_all_requests(start_gateway: StartGateway, backend: Backend) -> None:
    """By rate: what is said of the limit, and 429, are for hits as well."""
    backend.on("/api/products/a", Page())
    gateway = start_gateway(WEB_CONCURRENCY="1", RATE_LIMITS="address=5/min")
    answers = [gateway.ask("GET", "/api/products/a", key=None) for _ in range(6)]
    assert [each.status for each in answers] == [200] * 5 + [429]
    left = [each.get("ratelimit-remaining") for each in answers[:5]]
    assert left == ["4", "3", "2", "1", "0"]
    assert len(backend.seen_at("/api/products/a")) == 1


def test_a_client_that_takes_nothing_is_not_written_to(edge: Gateway, service: Backend, path: str) -> None:
    """Pipelined hits wait until the ones before are taken; all of them come in the end."""
    service.on(path, lambda wire, _: answer(wire, b"x" * 190_000, headers=FRESH))
    for _ in range(2):
        edge.ask("GET", path)
    with edge.client() as client:
        client.wire.send(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode() * 60)
        assert edge.ask("GET", path).status == 200
        assert {len(client.answer().body) for _ in range(60)} == {190_000}


def test_head_is_answered_from_a_stored_get(edge: Gateway, service: Backend, path: str) -> None:
    """With its length and no body; alone, HEAD is not stored."""
    service.on(path, Page())
    assert said(edge.ask("HEAD", path)) == "fwd=uri-miss"
    edge.ask("GET", path)
    with edge.client() as client:
        head = client.ask("HEAD", path)
        assert (head.status, head.get("content-length"), head.body) == (200, "9", b"")
        assert said(head).startswith("hit")
        assert client.ask("GET", path).body == b"version 1"


def test_a_clients_condition_is_answered_from_memory(edge: Gateway, service: Backend, path: str) -> None:
    """304 for who has it, all of it for who has something else; on a miss too, and the service is asked for all."""
    service.on(path, Page())
    first = edge.ask("GET", path, {"If-None-Match": '"1"'})
    assert (first.status, first.get("etag"), first.body) == (304, '"1"', b"")
    assert service.seen_at(path)[0].get("if-none-match") is None
    assert edge.ask("GET", path, {"If-None-Match": 'W/"0", W/"1"'}).status == 304
    other = edge.ask("GET", path, {"If-None-Match": '"0"'})
    assert (other.status, other.body) == (200, b"version 1")
    assert len(service.seen_at(path)) == 1


def test_vary_separates_answers(edge: Gateway, service: Backend, path: str) -> None:
    """One for each value of the field, present or not."""

    def by_language(wire: Wire, message: Message) -> None:
        language = message.get("accept-language") or "none"
        answer(wire, language.encode(), headers=FRESH + "Vary: Accept-Language\r\n")

    service.on(path, by_language)
    for _ in range(2):
        for language in ("de", "fr", None):
            headers = {"Accept-Language": language} if language else {}
            assert edge.ask("GET", path, headers).body.decode() == (language or "none")
    assert len(service.seen_at(path)) == 3
    assert said(edge.ask("GET", path, {"Accept-Language": "it"})) == "fwd=vary-miss; stored"


# --- what is never cached ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "headers",
    [
        "",
        "Cache-Control: max-age=60\r\n",
        "Cache-Control: public\r\n",
        FRESH + "Set-Cookie: a=b\r\n",
        FRESH + "Vary: *\r\n",
        "Cache-Control: public, max-age=60, private\r\n",
        "Cache-Control: public, max-age=60\r\nCache-Control: no-store\r\n",
    ],
)
def test_what_is_not_plainly_public_is_not_kept(edge: Gateway, service: Backend, path: str, headers: str) -> None:
    """The service is asked each time."""
    service.on(path, lambda wire, _: answer(wire, headers=headers))
    answers = [edge.ask("GET", path) for _ in range(3)]
    assert len(service.seen_at(path)) == 3
    assert {said(each) for each in answers} == {"fwd=uri-miss"}


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({"Authorization": "Basic YTpi"}, "bypass"),
        ({"Range": "bytes=0-1"}, "bypass"),
        ({"If-Match": '"1"'}, "bypass"),
        ({"Content-Length": "2"}, "bypass"),
        ({"Cache-Control": "no-store"}, "request"),
    ],
)
def test_requests_that_pass_the_cache_by(
    edge: Gateway, service: Backend, path: str, headers: dict[str, str], reason: str
) -> None:
    """They neither get what is kept, nor is kept what they get."""
    service.on(path, Page())
    body = b"{}" if "Content-Length" in headers else b""
    assert said(edge.ask("GET", path, headers, body)) == f"fwd={reason}"
    assert said(edge.ask("GET", path)) == "fwd=uri-miss; stored"
    assert said(edge.ask("GET", path, headers, body)) == f"fwd={reason}"


@pytest.mark.parametrize("chunked", [True, False])
def test_what_is_large_or_of_unknown_length_streams(edge: Gateway, service: Backend, path: str, chunked: bool) -> None:
    """To each client as it comes; it is not kept."""
    piece = b"x" * 100_000

    def large(wire: Wire, _message: Message) -> None:
        if not chunked:
            answer(wire, piece * 3, headers=FRESH)
            return
        wire.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n" + FRESH.encode() + b"\r\n")
        for _ in range(3):
            wire.send(b"%x\r\n%b\r\n" % (len(piece), piece))
        wire.send(b"0\r\n\r\n")

    service.on(path, large)
    assert [edge.ask("GET", path).body for _ in range(2)] == [piece * 3] * 2
    assert len(service.seen_at(path)) == 2


def test_an_answer_up_to_the_limit_is_kept_whole(edge: Gateway, service: Backend, path: str) -> None:
    """Also when it comes in many pieces."""
    service.on(path, lambda wire, _: answer(wire, b"x" * 199_999, headers=FRESH))
    assert [edge.ask("GET", path).body for _ in range(2)] == [b"x" * 199_999] * 2
    assert len(service.seen_at(path)) == 1


def test_an_answer_that_breaks_off_is_not_kept(edge: Gateway, service: Backend, path: str) -> None:
    """503, and the next one is asked for anew."""

    def broken(wire: Wire, _message: Message) -> None:
        wire.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n" + FRESH.encode() + b"\r\n" + b"x" * 90_000)
        wire.close()

    service.on(path, broken)
    assert edge.ask("GET", path).status == 503
    service.on(path, Page())
    assert edge.ask("GET", path).status == 200


# --- what clients ask -------------------------------------------------------------------------------------------------


def test_no_cache_and_max_age_0_ask_the_service(edge: Gateway, service: Backend, path: str) -> None:
    """With the validator; a 304 renews what is kept, and a new answer replaces it for everybody."""
    page = Page()
    service.on(path, page)
    edge.ask("GET", path)
    for headers in ({"Cache-Control": "no-cache"}, {"Cache-Control": "max-age=0"}, {"Pragma": "no-cache"}):
        asked = edge.ask("GET", path, headers)
        assert (asked.status, said(asked)) == (200, "fwd=request; fwd-status=304; stored")
        assert service.seen_at(path)[-1].get("if-none-match") == '"1"'
    page.version = 2
    assert edge.ask("GET", path, {"Cache-Control": "no-cache"}).body == b"version 2"
    assert edge.ask("GET", path).body == b"version 2"


def test_max_age_min_fresh_and_max_stale_are_obeyed(edge: Gateway, service: Backend, path: str) -> None:
    """Section 5.2.1 of RFC 9111."""
    service.on(path, Page("Cache-Control: public, max-age=60\r\nAge: 30\r\n"))
    edge.ask("GET", path)
    for directive, hit in (
        ("max-age=40", True),
        ("max-age=20", False),
        ("min-fresh=20", True),
        ("min-fresh=40", False),
    ):
        assert said(edge.ask("GET", path, {"Cache-Control": directive})).startswith("hit") == hit
    stale = f"{path}?stale"
    service.on(path, Page(STALE))
    edge.ask("GET", stale)
    for directive, hit in (("max-stale", True), ("max-stale=100", True), ("max-stale=5", False)):
        assert said(edge.ask("GET", stale, {"Cache-Control": directive})).startswith("hit; ttl=-1") == hit


def test_only_if_cached_asks_nobody(edge: Gateway, service: Backend, path: str) -> None:
    """What is kept, or 504."""
    service.on(path, Page())
    only = {"Cache-Control": "only-if-cached"}
    refused = edge.ask("GET", path, only)
    assert (refused.status, refused.get("content-type")) == (504, "application/problem+json")
    edge.ask("GET", path)
    assert edge.ask("GET", path, only).status == 200
    assert len(service.seen_at(path)) == 1


# --- validation -------------------------------------------------------------------------------------------------------


def test_a_stale_answer_is_confirmed_by_a_304(edge: Gateway, service: Backend, path: str) -> None:
    """The client gets all of it, or its own 304; then it is fresh again."""
    page = Page(STALE)
    service.on(path, page)
    edge.ask("GET", path)
    confirmed = edge.ask("GET", path)
    assert (confirmed.status, confirmed.body) == (200, b"version 1")
    assert said(confirmed) == "fwd=stale; fwd-status=304; stored"
    assert edge.ask("GET", path, {"If-None-Match": '"1"'}).status == 304
    page.headers = FRESH + "X-New: yes\r\n"
    assert edge.ask("GET", path).get("x-new") == "yes"
    assert said(edge.ask("GET", path)).startswith("hit")
    assert all(seen.get("if-none-match") == '"1"' for seen in service.seen_at(path)[1:])


def test_an_answer_that_becomes_private_is_forgotten(edge: Gateway, service: Backend, path: str) -> None:
    """Also if a 304 says so: then it is asked for in full."""
    page = Page(STALE)
    service.on(path, page)
    edge.ask("GET", path)
    page.headers = "Cache-Control: private\r\n"
    assert edge.ask("GET", path).get("cache-control") == "private"
    assert service.seen_at(path)[-1].get("if-none-match") is None
    assert said(edge.ask("GET", path)) == "fwd=uri-miss"


# --- stale answers ----------------------------------------------------------------------------------------------------


def test_stale_while_revalidate(edge: Gateway, service: Backend, path: str) -> None:
    """The old one at once while the service thinks, and it is asked once; then the new one."""
    page = Page("Cache-Control: public, max-age=10, stale-while-revalidate=60\r\nAge: 20\r\n")
    service.on(path, page)
    edge.ask("GET", path)
    page.hold.clear()
    page.version, page.headers = 2, FRESH
    for _ in range(3):
        stale = edge.ask("GET", path)
        assert stale.body == b"version 1"
        assert said(stale).startswith("hit; ttl=-1")
    page.hold.set()
    wait_until(lambda: edge.ask("GET", path).body == b"version 2")
    assert len(service.seen_at(path)) == 2


@pytest.mark.parametrize("status", ["500 No", "502 No", "503 No", "504 No"])
def test_stale_if_error(edge: Gateway, service: Backend, path: str, status: str) -> None:
    """The old one for an error, for a reload as well; an answer is an answer again as soon as there is one."""
    page = Page(STALE)
    service.on(path, page)
    edge.ask("GET", path)
    page.status, page.version = status, 2
    for headers in ({}, {"Cache-Control": "max-age=0"}, {"Cache-Control": "no-cache"}, {"If-None-Match": '"0"'}):
        stale = edge.ask("GET", path, headers)
        assert (stale.status, stale.body) == (200, b"version 1")
        assert said(stale).endswith("; detail=stale-if-error")
    page.status = "200 OK"
    wait_until(lambda: edge.ask("GET", path).body == b"version 2")


@pytest.mark.parametrize("directive", ["must-revalidate", "proxy-revalidate", "no-cache", "stale-if-error=5"])
def test_no_stale_answer_where_it_is_forbidden(edge: Gateway, service: Backend, path: str, directive: str) -> None:
    """Then the error is what the client gets."""
    page = Page(f"Cache-Control: public, max-age=10, {directive}\r\nAge: 20\r\n")
    service.on(path, page)
    edge.ask("GET", path)
    page.status = "500 No"
    assert edge.ask("GET", path).status == 500


def test_a_dead_service_is_stood_in_for(start_gateway: StartGateway, backend: Backend) -> None:
    """What was asked for before is still served, the rest is 503; when the service is back, so are its answers."""
    page = Page(STALE)
    backend.on("/api/products/a", page)
    gateway = start_gateway(WEB_CONCURRENCY="1")
    gateway.ask("GET", "/api/products/a")
    backend.stop()
    for _ in range(10):
        stale = gateway.ask("GET", "/api/products/a")
        assert (stale.status, stale.body) == (200, b"version 1")
    assert gateway.ask("GET", "/api/products/b").status == 503
    page.version = 2
    backend.start()
    wait_until(lambda: gateway.ask("GET", "/api/products/a").body == b"version 2")


def test_a_hung_service_is_stood_in_for_soon(edge: Gateway, service: Backend, path: str) -> None:
    """Long before the deadline; and the next clients do not wait at all."""
    page = Page(STALE)
    service.on(path, page)
    edge.ask("GET", path)
    page.hold.clear()
    began_s = time.monotonic()
    assert edge.ask("GET", path).body == b"version 1"
    first_s = time.monotonic() - began_s
    for _ in range(20):
        assert edge.ask("GET", path).body == b"version 1"
    assert first_s < 2.5
    assert len(service.seen_at(path)) == 2
    page.version = 2
    page.hold.set()
    wait_until(lambda: edge.ask("GET", path).body == b"version 2")


# --- many at the same time --------------------------------------------------------------------------------------------


def ask_all(edge: Gateway, stack: ExitStack, path: str, count: int) -> list[Client]:
    """So many clients that have asked, and wait."""
    clients = [stack.enter_context(edge.client()) for _ in range(count)]
    for client in clients:
        client.wire.send(f"GET {path} HTTP/1.1\r\nHost: shop\r\n\r\n".encode())
    return clients


def test_concurrent_misses_are_one_request(edge: Gateway, service: Backend, path: str) -> None:
    """200 clients, one question to the service, and the same answer for all."""
    page = Page()
    page.hold.clear()
    service.on(path, page)
    with ExitStack() as stack:
        clients = ask_all(edge, stack, path, 200)
        wait_until(lambda: page.waiting == 1)
        edge.ask("GET", "/health/live")  # behind them in the queue: when it is answered, the others have been read
        edge.ask("GET", "/health/live")
        page.hold.set()
        answers = [client.answer() for client in clients]
    assert {(each.status, each.body) for each in answers} == {(200, b"version 1")}
    assert len({each.get("x-request-id") for each in answers}) == 200
    assert "fwd=uri-miss; collapsed" in {said(each) for each in answers}
    assert len(service.seen_at(path)) == 1


def test_the_first_may_leave(edge: Gateway, service: Backend, path: str) -> None:
    """Those who joined it get their answer; when all have left, the service is told."""
    page = Page()
    page.hold.clear()
    service.on(path, page)
    with ExitStack() as stack:
        first = ask_all(edge, stack, path, 1)[0]
        wait_until(lambda: page.waiting == 1)
        (second,) = ask_all(edge, stack, path, 1)
        edge.ask("GET", "/health/live")
        first.wire.reset()
        edge.ask("GET", "/health/live")
        page.hold.set()
        assert second.answer().body == b"version 1"
    assert len(service.seen_at(path)) == 1


def test_nobody_left_is_nothing_to_do(edge: Gateway, service: Backend, path: str) -> None:
    """The request to the service is given up with its last client."""
    page = Page()
    page.hold.clear()
    service.on(path, page)
    open_before = service.open_connections
    with ExitStack() as stack:
        ask_all(edge, stack, path, 1)
        wait_until(lambda: page.waiting == 1)
    counted = 'gateway_upstream_requests_total{outcome="abandoned",upstream="catalogue"}'
    wait_until(lambda: edge.metric(counted) >= 1, what="the request to be given up")
    page.hold.set()
    wait_until(lambda: service.open_connections <= open_before)
    assert edge.ask("GET", path).body == b"version 1"


def test_what_cannot_be_shared_makes_no_queue(edge: Gateway, service: Backend, path: str) -> None:
    """Those who waited go on all at once, and for a while nobody waits for another."""
    page = Page("")
    page.hold.clear()
    service.on(path, page)
    with ExitStack() as stack:
        clients = ask_all(edge, stack, path, 1)
        wait_until(lambda: page.waiting == 1)
        clients += ask_all(edge, stack, path, 9)
        edge.ask("GET", "/health/live")
        page.hold.set()
        assert [client.answer().status for client in clients] == [200] * 10
        page.hold.clear()
        clients = ask_all(edge, stack, path, 10)
        wait_until(lambda: page.waiting == 10)
        page.hold.set()
        assert [client.answer().status for client in clients] == [200] * 10


def test_what_varies_is_shared_by_those_who_ask_the_same(edge: Gateway, service: Backend, path: str) -> None:
    """A follower whose answer it turns out not to be gets its own."""
    hold = threading.Event()

    def by_language(wire: Wire, message: Message) -> None:
        hold.wait(10)
        answer(wire, (message.get("accept-language") or "").encode(), headers=FRESH + "Vary: Accept-Language\r\n")

    service.on(path, by_language)
    with ExitStack() as stack:
        clients = []
        for language in ("de", "fr", "de", "fr", "fr"):
            client = stack.enter_context(edge.client())
            client.wire.send(f"GET {path} HTTP/1.1\r\nHost: shop\r\nAccept-Language: {language}\r\n\r\n".encode())
            wait_until(lambda: len(service.seen_at(path)) == 1)
            clients.append(client)
        edge.ask("GET", "/health/live")
        hold.set()
        assert [client.answer().body for client in clients] == [b"de", b"fr", b"de", b"fr", b"fr"]
    assert len(service.seen_at(path)) == 2


# --- writes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("status", "forgotten"), [("200 OK", True), ("303 See", True), ("400 No", False)])
def test_a_write_that_succeeds_makes_out_of_date(
    edge: Gateway, service: Backend, path: str, status: str, forgotten: bool
) -> None:
    """What is kept of its target and of where Location and Content-Location point, on the same host."""
    pointed = f"Location: {path}?b\r\nContent-Location: http://shop{path}?c\r\n"

    def take(wire: Wire, message: Message) -> None:
        if message.method == "POST":
            answer(wire, b"", status=status, headers=pointed)
        else:
            answer(wire, b"kept", headers=FRESH)

    service.on(path, take)
    targets = (path, f"{path}?b", f"{path}?c", f"{path}?d")
    for target in targets:
        edge.ask("GET", target)
    assert said(edge.ask("POST", path, body=b"x")) == "fwd=method"
    hits = [said(edge.ask("GET", target)).startswith("hit") for target in targets]
    assert hits == [not forgotten] * 3 + [True]


def test_what_was_asked_for_before_a_write_is_not_kept_after_it(edge: Gateway, service: Backend, path: str) -> None:
    """The answer on its way may be the old one."""
    page = Page()

    def take(wire: Wire, message: Message) -> None:
        if message.method == "PUT":
            page.version = 2
            answer(wire)
        else:
            old = Page()
            old.hold = page.hold
            old.version = page.version
            old(wire, message)

    page.hold.clear()
    service.on(path, take)
    with ExitStack() as stack:
        (reader,) = ask_all(edge, stack, path, 1)
        wait_until(lambda: len(service.seen_at(path)) == 1)
        assert edge.ask("PUT", path, body=b"x").status == 200
        page.hold.set()
        reader.answer()
    assert edge.ask("GET", path).body == b"version 2"


# --- what is counted --------------------------------------------------------------------------------------------------


def test_results_bytes_and_entries_are_counted(start_gateway: StartGateway, backend: Backend) -> None:
    """By what became of each request; a full cache makes room."""
    backend.on("/api/products/big", lambda wire, _: answer(wire, b"x" * 4000, headers=FRESH))
    backend.on("/api/products/stale", Page(STALE))
    gateway = start_gateway(WEB_CONCURRENCY="1", CACHE_BYTES="20000")
    gateway.ask("GET", "/api/products/big")
    gateway.ask("GET", "/api/products/big")
    gateway.ask("POST", "/api/products/stale")
    gateway.ask("GET", "/api/products/stale")
    gateway.ask("GET", "/api/products/stale")
    for result, count in (("hit", 1), ("miss", 2), ("bypass", 1), ("revalidated", 1), ("stale", 0)):
        gateway.wait_metric(f'gateway_cache_requests_total{{result="{result}"}}', count)
    assert gateway.metric("gateway_cache_entries") == 2
    for number in range(10):
        gateway.ask("GET", f"/api/products/big?{number}")
    wait_until(lambda: gateway.metric("gateway_cache_evictions_total") > 5)
    assert 4000 < gateway.metric("gateway_cache_bytes") <= 20000


def test_a_cache_of_no_bytes_is_none(start_gateway: StartGateway, backend: Backend) -> None:
    """Every request is the service's."""
    backend.on("/api/products/a", Page())
    gateway = start_gateway(WEB_CONCURRENCY="1", CACHE_BYTES="0")
    assert [said(gateway.ask("GET", "/api/products/a")) for _ in range(2)] == ["fwd=bypass"] * 2
    assert len(backend.seen_at("/api/products/a")) == 2
