"""Forged header fields through the whole storefront: nobody becomes another, and nobody else's answer changes."""

from __future__ import annotations

import secrets
from collections import Counter
from collections.abc import Mapping

import pytest

from chassis.testing.wire import Client, Message
from tests.hostile.stage import OPERATOR, SHOPPER, Stage
from tests.promises import Promise

pytestmark = pytest.mark.hostile

INSIDE = ("127.0.0.1", "::1", "10.0.0.1", "localhost", "unknown", "127.0.0.1, 127.0.0.1", "[::1]:80", "0")
ADDRESS_FIELDS = (
    "X-Forwarded-For", "X_Forwarded_For", "X-Real-IP", "X-Client-IP", "Client-IP", "True-Client-IP", "X-Remote-Addr",
    "Remote-Addr", "REMOTE_ADDR", "X-Originating-IP", "X-Cluster-Client-IP", "CF-Connecting-IP", "Fastly-Client-IP",
    "X-Forwarded", "X-ProxyUser-Ip", "Via",
)  # fmt: skip
REWRITES: Mapping[str, str] = {
    "X-Original-URL": "/metrics", "X-Rewrite-URL": "/metrics", "X-Forwarded-Prefix": "/metrics",
    "Path-Info": "/metrics", "Path_Info": "/metrics", "Script-Name": "/api", "SCRIPT_NAME": "/api/products",
    "X-Http-Method-Override": "DELETE", "X-Method-Override": "DELETE", "X-Http-Method": "DELETE",
    "X-Forwarded-Path": "/metrics", "X-Envoy-Original-Path": "/metrics", "Destination": "/metrics",
    "Base-Url": "/metrics",
}  # fmt: skip
POISONS: Mapping[str, str] = {
    "Host": "evil.example", "X-Forwarded-Host": "evil.example", "X_Forwarded_Host": "evil.example",
    "X-Host": "evil.example", "X-Forwarded-Server": "evil.example", "X-HTTP-Host-Override": "evil.example",
    "Forwarded": "host=evil.example;proto=https", "X-Forwarded-Proto": "evil", "X-Forwarded-Scheme": "nothttps",
    "X-Forwarded-Port": "666", "X-Forwarded-Prefix": "/evil.example", "X-Original-URL": "/evil.example",
    "Origin": "https://evil.example", "Referer": "https://evil.example/", "Cookie": "id=evil.example",
    "Range": "bytes=0-0", "If-Range": '"x"', "If-None-Match": "*", "If-Modified-Since": "Fri, 27 Nov 2099 00:00:00 GMT",
    "Accept": "text/evil.example", "Accept-Encoding": "evil.example", "Accept-Language": "evil.example",
    "User-Agent": "evil.example", "X-HTTP-Method-Override": "POST", "X-Request-ID": "evil.example",
    "traceparent": "00-11111111111111111111111111111111-2222222222222222-01", "tracestate": "evil.example=1",
    "X-Request-Timeout-Ms": "60", "Cache-Control": "max-age=0", "Pragma": "no-cache", "X-Api-Version": "evil.example",
    "X-Large": "a" * 8100, "X-Meta": "\t evil.example", "X-Caller": "evil.example", "X-Route-Env": "evil.example",
    "X-Route-Key": "evil.example", "Upgrade": "evil.example", "TE": "trailers", "Expect": "100-continue",
    "Content-Type": "text/evil.example", "Max-Forwards": "0", "Connection": "Cache-Control, ETag, Host, Content-Type",
    "Authorization": "Basic evil.example",
}  # fmt: skip
"""What a cache might not tell requests apart by, and a service answer differently."""


def ask(
    stage: Stage, method: str, target: str, headers: Mapping[str, str], *, source: str = SHOPPER, body: bytes = b""
) -> Message:
    """One request to the gateway from that address of this machine."""
    with Client(stage.port("gateway"), source=source) as client:
        return client.ask(method, target, dict(headers), body)


def test_nobody_comes_from_inside_by_saying_so(stage: Stage, promise: Promise) -> None:
    """Pages for operators do not exist for a shopper, whatever address or path the request claims."""
    assert ask(stage, "GET", "/metrics", {}, source=OPERATOR).status == 200
    forged = [{name: value} for name in ADDRESS_FIELDS for value in INSIDE]
    forged += [{"Forwarded": f"for={value}"} for value in ("127.0.0.1", '"[::1]"', "_hidden")]
    forged += [{name: value} for name, value in REWRITES.items()]
    forged += [{"Host": "127.0.0.1"}, {"Host": "localhost"}, {"Connection": "X-Forwarded-For, Forwarded, Host"}]
    seen: Counter[tuple[str, int]] = Counter()
    told = []
    for headers in forged:
        for target in ("/metrics", "/status"):
            seen[target, ask(stage, "GET", target, headers).status] += 1
        ready = ask(stage, "GET", "/health/ready", headers)
        told += [headers] if set(ready.json()) != {"status"} else []
    holds = set(seen) == {("/metrics", 404), ("/status", 404)} and not told
    promise(
        "forged addresses and paths", "no page for operators",
        f"{3 * len(forged)} requests: {dict(seen)}, {len(told)} details",
        holds=holds,
    )  # fmt: skip


def test_a_path_is_what_the_request_line_says(stage: Stage, promise: Promise) -> None:
    """A field cannot lead a request to another page of a service, nor make another method of it."""
    watch = stage.watch()
    wrong = []
    for name, value in REWRITES.items():
        through = ask(stage, "GET", "/api/products/metrics", {name: value})
        straight = stage.call("GET", "/api/products/metrics", headers={name: value}, service="catalogue")
        if (through.status, straight.status) != (404, 404):
            wrong.append(f"{name}: {value}: {through.status} {straight.status}")
    stage.settle()
    other = [
        record["message"] for record in watch.requests("catalogue")
        if record["path"] not in ("/api/products/metrics", "/settled", "/health/live")
    ]  # fmt: skip
    promise(
        "fields that name a path or a method", "the path asked for is the path served",
        f"{2 * len(REWRITES)} requests: {len(wrong) + len(other)} led elsewhere", holds=not wrong and not other,
    )  # fmt: skip
    assert not wrong + other


def test_nobody_is_another_by_saying_so(stage: Stage, promise: Promise) -> None:
    """Without a key no field opens a door; with one, a caller stays whoever the key is."""
    forged = {
        "X-Caller": "admin", "X-Caller-Scopes": "admin", "X_Caller": "admin", "X_Caller_Scopes": "admin",
        "X-Caller-Refused": "", "X-Forwarded-User": "admin", "X-Remote-User": "admin", "Remote-User": "admin",
        "X-Authenticated-User": "admin", "X-Internal": "1", "Cookie": "key=admin", "X-Api-Scopes": "admin",
    }  # fmt: skip
    opened = [
        f"{name} {target}"
        for name, value in forged.items()
        for target in ("/api/v1/users", "/api/v1/links", "/api/v1/routes", "/t/storefront/user/metrics")
        if ask(stage, "GET", target, {name: value}).status != 401
    ]
    mine, theirs = (f"own-{secrets.token_hex(4)}" for _ in range(2))
    for name, code in (("sharer", mine), ("other-sharer", theirs)):
        made = stage.call("POST", "/api/v1/links", {"url": "https://example.com/", "code": code}, key=name)
        assert made.status == 201
    stolen = []
    guises: tuple[Mapping[str, str], ...] = (
        forged, {"X-Caller": "other-sharer"}, {"Connection": "X-Caller, X-Caller-Scopes"},
        {"Connection": "close, x-caller", "X-Caller": "other-sharer"}, {"X-Caller": "", "X-Caller-Scopes": ""},
        {"x-caller": "other-sharer", "Connection": "X-Forwarded-For"},
    )  # fmt: skip
    key = {"X-API-Key": stage.keys["sharer"]}
    for headers in guises:
        listed = ask(stage, "GET", "/api/v1/links?per_page=100", {**headers, **key}).json()
        codes = {link["code"] for link in listed["links"]}
        one = ask(stage, "GET", f"/api/v1/links/{theirs}", {**headers, **key}).status
        gone = ask(stage, "DELETE", f"/api/v1/links/{theirs}", {**headers, **key}).status
        if theirs in codes or mine not in codes or (one, gone) != (404, 404):
            stolen.append(f"{headers}: {one} {gone} {codes}")
    promise(
        "forged callers",
        "no door opens without a key",
        f"{4 * len(forged)} requests: {len(opened)} let in",
        holds=not opened,
    )
    promise("forged callers", "with a key, its own links and no others", f"{len(stolen)} seen", holds=not stolen)
    assert not opened + stolen


def test_hop_by_hop_fields_take_nothing_away(stage: Stage, promise: Promise) -> None:
    """What `Connection` names goes no further, but that takes away no key, no length, no host and nothing of ours."""
    names = (
        "X-API-Key", "Authorization", "X-Request-ID", "Content-Length", "Host", "traceparent", "X-Forwarded-For",
        "X-Forwarded-Host", "Forwarded", "X-Request-Timeout-Ms", "Transfer-Encoding", "Content-Type", "Server",
    )  # fmt: skip
    body = b'{"username":"x"}'
    wrong, watch = [], stage.watch()
    for name in names:
        request_id = f"hop-{secrets.token_hex(4)}"
        fields = {
            "X-API-Key": stage.keys["reader"],
            "X-Request-ID": request_id,
            "Connection": f"{name}, {name.upper()}",
        }
        read = ask(stage, "GET", "/api/v1/users?per_page=1", fields)
        write = ask(stage, "POST", "/api/v1/users", {**fields, "Content-Type": "application/json"}, body=body)
        # The service read the very body, and says of it that a field is missing; without its media type it is 415.
        told = 415 if name == "Content-Type" else 400
        ids = {answer.get("x-request-id") for answer in (read, write)}
        if (read.status, write.status, ids) != (200, told, {request_id}) or read.get("server") != "storefront":
            wrong.append(f"{name}: {read.status} {write.status} {ids}")
    stage.settle()
    lost = [record for record in watch.requests("user") if not record["request_id"].startswith(("hop-", "settled-"))]
    promise(
        "`Connection: <field>`", "keys, ids, lengths and hosts stay",
        f"{2 * len(names)} requests: {len(wrong) + len(lost)} lost",
        holds=not wrong and not lost,
    )  # fmt: skip
    assert not wrong


def test_a_rate_limit_is_not_dodged(stage: Stage, promise: Promise) -> None:
    """One address has one bucket, however many it claims to be; there are 20 an hour of this route."""
    address = f"127.0.1.{secrets.randbelow(250) + 1}"
    statuses: Counter[int] = Counter()
    for number in range(80):
        name = ADDRESS_FIELDS[number % len(ADDRESS_FIELDS)]
        headers = {name: f"198.51.100.{number}", "Forwarded": f"for=198.51.100.{number}", "Host": f"h{number}.example"}
        headers |= {"X-API-Key": f"sf_{number}"} if number % 4 == 0 else {}
        headers |= {"Connection": "X-Forwarded-For"} if number % 3 == 0 else {}
        target = ("/qr/nothing.svg", "/qr/nothing.svg?x=1", "/links/qr/nothing.svg", "/qr/%6eothing.svg")[number % 4]
        statuses[ask(stage, "GET", target, headers, source=address).status] += 1
    passed = sum(count for status, count in statuses.items() if status != 429)
    promise("forged addresses", "20 an hour are 20 an hour", f"80 requests: {dict(statuses)}", holds=0 < passed <= 20)


def test_the_shared_cache_is_not_poisoned(stage: Stage, promise: Promise) -> None:
    """A first request with a forged field leaves nothing in what the next client gets, and no error."""
    watch = stage.watch()
    spoilt = []
    for name, value in POISONS.items():
        for target in (f"/api/products?q={secrets.token_hex(4)}", f"/api/products/{secrets.randbelow(10) + 1}?{name}"):
            path = target if "?q=" in target else target.partition("?")[0]
            clean = stage.call("GET", path, service="catalogue")
            bad = ask(stage, "GET", path, {name: value})
            for _ in range(2):  # what was kept now, and what is kept of this one
                good = ask(stage, "GET", path, {})
                same = good.status == clean.status == 200 and good.get("etag") == clean.headers["ETag"]
                text = good.raw_head.lower() + good.body
                if (
                    not same
                    or b"evil" in text
                    or bad.status >= 500 != (name == "X-Request-Timeout-Ms" and bad.status == 504)
                ):
                    spoilt.append(f"{name}: {bad.status}, then {good.status} {good.headers}")
    stage.settle()
    errors, traces = watch.server_errors(allowed=(504,)), watch.tracebacks()
    promise(
        "forged fields before a cached answer", "the next client gets the clean one",
        f"{2 * len(POISONS)} poisons: {len(spoilt)} worked", holds=not spoilt,
    )  # fmt: skip
    promise(
        "forged fields",
        "no 5xx, no traceback",
        f"{len(errors)} 5xx, {len(traces)} tracebacks",
        holds=not errors + traces,
    )
    assert not spoilt + errors + traces, "\n".join(spoilt + errors + traces)


@pytest.mark.parametrize("service", ["gateway", "catalogue", "user", "links"])
def test_ids_and_traces_are_taken_only_if_they_are_some(stage: Stage, promise: Promise, service: str) -> None:
    """What is no id, or no trace, is replaced; the log has what was answered, and the peer's own address."""
    ids = ["", " ", "a b", "a" * 129, '"', "a,b", "a;b", "<a>", "a\tb", "é", "../a", "{a}", "%0d%0a", "a\\nb"]
    traces = [
        "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "ff-" + "1" * 32 + "-" + "1" * 16 + "-01", "00-" + "1" * 31 + "-x",
        "00-" + "G" * 32 + "-" + "1" * 16 + "-01", "a" * 5000, "00-" + "A" * 32 + "-" + "1" * 16 + "-01",
    ]  # fmt: skip
    watch, wrong, answered = stage.watch(), [], set()
    with Client(stage.port(service)) as client:
        for value in ids:
            got = client.ask("GET", "/forged-id", {"X-Request-ID": value, "X-Forwarded-For": "198.51.100.7"})
            answered.add(got.get("x-request-id"))
            wrong += [f"id {value!r} was taken"] if got.get("x-request-id") == value else []
        for value in traces:
            got = client.ask("GET", "/forged-trace", {"traceparent": value, "tracestate": "evil=1"})
            answered.add(got.get("x-request-id"))
    stage.settle()
    lines = [record for record in watch.requests(service) if record["path"].startswith("/forged-")]
    wrong += [f"{record['trace_id']} was taken" for record in lines if record["trace_id"] in "".join(traces).lower()]
    wrong += [f"{record['remote_addr']} is logged" for record in lines if record["remote_addr"] != OPERATOR]
    wrong += ["not every request has its line"] if {record["request_id"] for record in lines} != answered else []
    promise(
        f"forged ids and traces at {service}", "replaced, and logged once each",
        f"{len(answered)} requests: {len(wrong)} wrong",
        holds=not wrong and len(lines) == len(ids) + len(traces),
    )  # fmt: skip
    assert not wrong
