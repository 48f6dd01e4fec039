"""Parsers under hypothesis: nothing is raised but what is said, no two requests share a cache key, cursors lead back,
and 8 KB of anything take no longer than 8 KB of letters.
"""

from __future__ import annotations

import ipaddress
import itertools
import json
import os
import re
import string
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

import pytest
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel
from werkzeug.test import create_environ

import catalogue.settings
import gateway.settings
import links.settings
import user.settings
from catalogue.answers import link
from catalogue.queries import ProductQuery, query_of
from catalogue.schemas import ProductParameters
from chassis import context, http
from chassis import logging as logs
from chassis.errors import NotFound, Problem
from chassis.metrics import Metrics
from chassis.settings import ServiceSettings, SettingsError, load
from chassis.versioned import allowed_versions
from gateway.edge import callers
from gateway.edge.cache import Cache, directives
from gateway.edge.cache.entry import Entry, selector
from gateway.edge.cache.freshness import Terms, http_date, terms
from gateway.edge.headers import Peers, by_name, named_by, sort_request, valid_host
from gateway.edge.request import Request
from gateway.edge.routes import Router
from gateway.edge.target import Target
from gateway.policy import UpstreamPolicy, split_url
from gateway.registry import codec, rendering
from gateway.registry import schemas as routes
from gateway.registry.keys import Keyring
from gateway.registry.repository import Event, Page
from gateway.registry.resolve import Resolver
from gateway.registry.route import Route
from gateway.registry.table import Table
from links import codes, destinations
from links.schemas import LinkChanges, NewLink
from links.schemas import ListParameters as LinkParameters
from tests.hostile.stage import SERVICES, Stage
from tests.promises import Promise
from user import rendering as user_rendering
from user.endpoints import _wanted
from user.generation import token_of
from user.idempotency import parse_key
from user.pages import Wanted
from user.repository import Rows
from user.schemas import ListParameters as UserParameters
from user.schemas import NewUser, UserChanges

pytestmark = pytest.mark.hostile

LONG = bool(os.environ.get("LONG"))
EXAMPLES = 20_000 if LONG else 200
often = settings(max_examples=EXAMPLES, deadline=None, derandomize=not LONG)

HEADER_BYTES = 8190
"""What gunicorn takes of one field."""
LINEAR_S = 0.1
"""CPU time for 8 KB. The slowest parser takes a tenth of it; one that tries twice what it has read takes seconds."""

MARKS = '",\\=;@/:%& \ta0-*W.()<>[]'
TEXT = st.text(st.characters(exclude_categories=["Cs"]))
DIGITS = st.one_of(st.integers().map(str), st.text(string.digits, max_size=30))
LATIN = st.characters(max_codepoint=255, exclude_characters="\r\n\x00")
FIELD = st.one_of(
    st.text(LATIN, max_size=60),
    st.text(st.sampled_from(MARKS), max_size=60),
    DIGITS,
    st.builds('{}"{}-{}", "7-{}"'.format, st.sampled_from(["", "W/"]), DIGITS, DIGITS, DIGITS),
    st.builds("{}={}, max-age={}".format, st.sampled_from(["no-cache", "s-maxage", "x"]), st.text(LATIN), DIGITS),
    st.builds(
        "{}-{}-{}-{}{}".format,
        st.sampled_from(["00", "01", "ff", "0"]),
        st.text("0af", min_size=31, max_size=33),
        st.text("0af", min_size=15, max_size=17),
        st.sampled_from(["00", "01", "zz"]),
        st.sampled_from(["", "-", "-x"]),
    ),
    st.builds("Mon, {} Feb {} {}:00:00 GMT".format, *[st.integers(0, 99).map("{:02}".format)] * 3),
)
URLISH = st.one_of(
    TEXT,
    st.builds("{}://{}/{}".format, st.sampled_from(["http", "HTTPS"]), st.text("aZ0.%:@[]_-", max_size=30), TEXT),
    st.builds("http://{}{}".format, TEXT, TEXT),
    st.builds("https://xn--{}.example/%{}".format, st.text(string.ascii_lowercase + string.digits + "-"), TEXT),
)
APP = Flask("parsers")


@contextmanager
def asked(*, query: bytes = b"", body: bytes | None = None, **headers: str) -> Iterator[None]:
    """Inside a request with these fields."""
    environ = create_environ(method="GET" if body is None else "POST", data=body, content_type="application/json")
    environ["QUERY_STRING"] = query.decode("latin-1")
    environ |= {f"HTTP_{name.upper()}": value for name, value in headers.items()}
    with APP.request_context(environ):
        yield


def refused(parse: Callable[[], Any], kind: type[Exception] = Problem) -> Any:
    """What `parse` returns, or the error of that kind that it raises."""
    try:
        return parse()
    except kind as error:
        return error


# --- what they raise ----------------------------------------------------------------------------------------------


@often
@given(FIELD, FIELD, FIELD, st.integers(1, 600_000))
def test_a_request_context_is_well_formed_whatever_is_sent(request_id: str, trace: str, ms: str, limit_ms: int) -> None:
    """X-Request-ID, traceparent and X-Request-Timeout-Ms: ids of the form that is promised, no deadline beyond ours."""
    made = context.begin(request_id, trace, ms, limit_ms)
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", made.request_id)
    assert re.fullmatch(r"(?!0{32})[0-9a-f]{32}", made.trace_id)
    assert re.fullmatch(r"00-[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}", made.child_traceparent())
    assert made.remaining_s() <= limit_ms / 1000
    if made.trace_id in trace:
        assert re.match(r"(?!ff)[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}", trace)


@often
@given(FIELD, FIELD, FIELD)
def test_conditions_and_keys_are_read_or_refused(condition: str, key: str, path: str) -> None:
    """If-Match, If-None-Match, Idempotency-Key, ids in paths: what is raised is a problem that names the field."""
    with asked(if_match=condition):
        for version in allowed_versions(7) or ():
            assert f"7-{version}" in condition.replace("-0", "-") or "-0" in condition
    assert http.matches(condition, '"7-1"') in (True, False)
    read = refused(lambda: parse_key(key))
    assert read == key or [error["field"] for error in read.errors] == ["Idempotency-Key"]
    with suppress(NotFound):
        assert str(http.parse_id(path, what="thing")) == path.lstrip("0")


QUERIES: tuple[type[BaseModel], ...] = (
    UserParameters, LinkParameters, ProductParameters, routes.ListParameters, routes.HistoryParameters,
    routes.ResolveParameters,
)  # fmt: skip
BODIES: tuple[type[BaseModel], ...] = (
    NewUser, UserChanges, NewLink, LinkChanges, routes.NewRoute, routes.RouteChanges, routes.RouteName,
)  # fmt: skip
JSONISH = st.one_of(
    st.binary(max_size=80),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXT),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(TEXT, inner)),
        max_leaves=8,
    ).map(lambda value: json.dumps(value).encode()),
)


def _pairs(model: type[BaseModel]) -> st.SearchStrategy[bytes]:
    name = st.one_of(st.sampled_from(sorted(model.model_fields)), st.text(max_size=5)).map(str.encode)
    value = st.one_of(FIELD, TEXT).map(lambda text: text.encode())
    word = st.one_of(value, value.map(lambda raw: b"".join(b"%%%02x" % byte for byte in raw)))
    return st.lists(st.tuples(name, word).map(b"=".join), max_size=5).map(b"&".join)


@often
@given(st.one_of(*[st.tuples(st.just(model), _pairs(model)) for model in QUERIES]))
def test_a_query_string_is_read_or_refused(drawn: tuple[type[BaseModel], bytes]) -> None:
    """By every model of every service: what is raised is a 400 that names a field, and what is read can be stored."""
    model, query = drawn
    with asked(query=query):
        found = refused(lambda: http.parse_query(model))
    if isinstance(found, Problem):
        assert found.status == 400
        assert found.errors or "query string" in found.detail
        return
    for value in found.model_dump().values():
        if isinstance(value, str):
            assert "\x00" not in value.encode().decode()
        elif isinstance(value, int):
            assert value < 2**63 or isinstance(found, UserParameters | LinkParameters | routes.ListParameters)
    with suppress(Problem):
        Resolver(Table([]), env="prod").answer(query)


@often
@given(st.sampled_from(BODIES), JSONISH)
def test_a_body_is_read_or_refused(model: type[BaseModel], body: bytes) -> None:
    """By every model of every service: what is raised is a 4xx that names what is wrong."""
    with asked(body=body):
        found = refused(lambda: http.parse_body(model, invalid=422))
    if isinstance(found, Problem):
        assert found.status in (400, 422)
        assert found.errors
        assert all(each["message"].isascii() for each in found.errors)


@often
@given(st.lists(st.tuples(st.sampled_from(
    [b"cache-control", b"vary", b"age", b"date", b"expires", b"etag", b"last-modified", b"pragma", b"if-none-match",
     b"if-modified-since", b"range", b"connection", b"x-forwarded-for", b"x-forwarded-host", b"forwarded", b"host"]
), FIELD.map(lambda text: text.encode("latin-1"))), max_size=6))  # fmt: skip
def test_header_fields_are_read(fields: list[tuple[bytes, bytes]]) -> None:
    """All that the edge reads of requests and answers: nothing is raised, and times are within bounds."""
    named = by_name(fields)
    sort_request(fields)
    directives.of_request(named.get(b"cache-control"), named.get(b"pragma"))
    http_date(named.get(b"date"))
    named_by(named.get(b"connection", b""))
    found = terms(200, fields, asked=1e9, came=1e9 + 1, stale_if_error_s=60)
    if found is not None:
        assert 0 <= found[0].lifetime_s <= directives.FOREVER_S * 2
        assert 0 <= found[0].age_s <= directives.FOREVER_S
    assert _entry(named, (b"accept",)).unchanged_for(named) in (True, False)
    peers = Peers(trusted=[ipaddress.ip_network("127.0.0.0/8")], internal=[])
    ipaddress.ip_address(peers.client("127.0.0.1", named))
    host, scheme = peers.origin("127.0.0.1", b"shop", "http", named)
    assert host is not None
    assert valid_host(host)
    assert scheme in ("http", "https")
    lines = peers.forwarding_lines("127.0.0.1", b"shop", "http", named)
    assert all(b": " in line for line in lines.split(b"\r\n")[:-1])


@often
@given(URLISH)
def test_urls_have_one_normal_form_or_none(url: str) -> None:
    """Destinations of links and of routes: ValueError, or a form that is its own normal form and can be a header."""
    policy = UpstreamPolicy(load(gateway.settings.Settings, gateway_allowed_upstreams=("0.0.0.0/0", "localhost")))
    for normal in (destinations.normalize, policy.check_url):
        with suppress(ValueError):
            form = normal(url)
            assert normal(form) == form
            assert form.isascii()
            assert form.isprintable()
            assert " " not in form
    with suppress(ValueError):
        split_url(url)
    with suppress(ValueError):
        codes.check(url)
    destinations.hosts_of([url, f"http://{url}"])
    assert Keyring().find(url) is None


@often
@given(st.binary(max_size=100), st.text(string.digits, max_size=6000))
def test_what_others_left_in_redis_is_read_or_refused(message: bytes, digits: str) -> None:
    """Somebody else's bytes under our keys: no generation, and no batch."""
    assert token_of(message).epoch >= -1
    for number in (digits, "9" * 5000):
        assert token_of(f"{number}.x".encode()).epoch >= -1
    with suppress(ValueError):
        codec.load_batch(message)


SETTINGS = (catalogue.settings.Settings, user.settings.Settings, gateway.settings.Settings, links.settings.Settings)
FILES = ("secrets/db_password", "secrets/redis_url", "db-config/db-config.properties", "config.json")


@settings(max_examples=EXAMPLES // 2, deadline=None, derandomize=not LONG)
@given(
    model=st.sampled_from(SETTINGS),
    file=st.sampled_from(FILES),
    content=st.one_of(
        st.binary(max_size=60),
        st.builds("{}={}\n".format, st.sampled_from(["port", "db_host", "log_level", "db_port"]), TEXT).map(str.encode),
        st.builds('{{"port":{}}}'.format, st.one_of(st.integers(), st.floats(), TEXT)).map(str.encode),
        st.sampled_from([b"[" * 100_000, b'{"port":' + b"9" * 5000 + b"}", b'{"port":"\\ud800"}', b"db_host=a\x00b"]),
    ),
)
def test_settings_files_are_read_or_refused(
    model: type[ServiceSettings], file: str, content: bytes, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Any bytes in any file: settings, or one error that says which file or variable, and does not repeat a secret."""
    directory = tmp_path_factory.mktemp("config", numbered=True)
    path = directory / file
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONFIG_DIR", str(directory))
        found = refused(lambda: load(model), SettingsError)
    if isinstance(found, SettingsError):
        assert 0 < len(str(found).splitlines()) < 5
        assert not (file.startswith("secrets/") and len(content) > 8 and content.decode("latin-1") in str(found))
        return
    assert "\x00" not in repr(found)


# --- cache keys ---------------------------------------------------------------------------------------------------

NOW = datetime(2026, 1, 1, tzinfo=UTC)


def _route(number: int, url: str = "http://127.0.0.1:5000", service: str = "catalogue") -> Route:
    return Route(
        id=number, tenant="storefront", service=service, env="prod", version="v1", url=url, active=True, weight=100,
        created_at=NOW, updated_at=NOW, revision=number,
    )  # fmt: skip


_FOR_A_MINUTE = Terms(
    lifetime_s=60, age_s=0, always_ask=False, stale_while_revalidate_s=0, stale_if_error_s=0, bendable=True
)


def _entry(asked_by: dict[bytes, bytes], names: tuple[bytes, ...]) -> Entry:
    headers = [(b"etag", b'"7-1"')]
    chosen = selector(names, asked_by)
    return Entry(
        status=200, headers=headers, terms=_FOR_A_MINUTE, selected_by=chosen, born_s=time.monotonic(), came=time.time()
    )


ROUTER = Router(Table([_route(1)]), env="prod")
PEERS = Peers(trusted=[ipaddress.ip_network("127.0.0.1/32")], internal=[])
PATHS = st.sampled_from(["/api/products", "/api/products/1", "/api/%70roducts", "/api/products/%31", "/static/a",
                         "/static/A", "/static/%61", "/api/products/1%20", "/api/products/1/"])  # fmt: skip
ASKED = st.fixed_dictionaries(
    {},
    optional={
        b"accept": st.sampled_from([b"", b"a", b"A", b"a,b", b"a, b", b"b,a", b'x="a, b"', b'x="a,b"', b"a,,b"]),
        b"accept-language": st.sampled_from([b"de", b"en", b"de;q=1", b"de ;q=1"]),
        b"x-forwarded-host": st.sampled_from([b"shop", b"other", b"a,b", b"shop:80"]),
        b"x-forwarded-proto": st.sampled_from([b"http", b"https", b"HTTPS", b"https,http"]),
    },
)
CALLS = st.tuples(PATHS, st.sampled_from(["", "q=a", "q=A", "q=%61", "q=a&page=1", "page=1&q=a", "q=a&", "?"]),
                  st.sampled_from([b"shop", b"Shop", b"shop:80", b"other"]), ASKED)  # fmt: skip
Call = tuple[str, str, bytes, dict[bytes, bytes]]


def _request(call: Call) -> tuple[Request, Target]:
    path, query, host, fields = call
    scope = {
        "method": "GET", "path": re.sub("%(..)", lambda match: chr(int(match[1], 16)), path), "raw_path": path.encode(),
        "query_string": query.encode(), "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1),
        "headers": [(b"host", host), *fields.items()],
    }  # fmt: skip
    request = Request(scope, PEERS)
    return request, ROUTER.target(request, ROUTER.place(request))


def _meaning(call: Call, names: tuple[bytes, ...]) -> tuple[Any, ...]:
    """What makes two requests the same: what the service gets, and what the answer varies by."""
    path, query, host, fields = call
    outer = fields.get(b"x-forwarded-host", host)
    proto = fields.get(b"x-forwarded-proto", b"http")
    said = {name: value if value is None or b'"' in value else value.replace(b", ", b",")
            for name, value in ((name, fields.get(name)) for name in names)}  # fmt: skip
    return (path, query, outer if b"," not in outer else host, proto if proto in (b"http", b"https") else b"http",
            tuple(sorted(said.items())))  # fmt: skip


@often
@given(CALLS, CALLS, st.sampled_from([(), (b"accept",), (b"accept", b"accept-language")]))
def test_two_different_requests_never_share_an_answer_of_the_edge(one: Call, other: Call, names: tuple[bytes]) -> None:
    """However little they differ: in case, escapes, order, host, scheme, or a field that the answer varies by."""
    kept = Cache(gateway.settings.CacheSettings(), None, Metrics(service="g", version="1", commit="c"))  # type: ignore[arg-type]
    request, target = _request(one)
    route = _route(1)
    kept._store.put((route.url, *request.origin, target.path, target.query), _entry(request.headers, names))
    again, target = _request(other)
    found = kept.peek(again, target, route, time.monotonic())
    assert (found is not None) == (_meaning(one, names) == _meaning(other, names))


_FEW = st.integers(1, 20)
PAGES = st.builds(Wanted, _FEW, st.one_of(st.none(), _FEW), _FEW)


@often
@given(PAGES, PAGES)
def test_two_different_pages_of_users_never_share_a_name(one: Wanted, other: Wanted) -> None:
    """In Redis, where all workers look."""
    same = (one.per_page, one.page) == (other.per_page, other.page)
    assert (one.name == other.name) == (same and (one.page is not None or one.after == other.after))


PRODUCT_QUERIES = st.builds(
    ProductQuery, page=st.integers(1, 50), per_page=st.integers(1, 100),
    q=st.one_of(st.none(), TEXT.map(lambda text: " ".join(text.replace("\x00", "").split())[:200] or None)),
    category=st.one_of(st.none(), TEXT.map(lambda text: text.replace("\x00", "")[:100])),
    tag=st.one_of(st.none(), TEXT.map(lambda text: text.replace("\x00", "")[:50])),
    min_price=st.one_of(st.none(), st.decimals(0, 9999999999, places=2).map(str)),
    max_price=st.none(),
    in_stock=st.one_of(st.none(), st.booleans()), sort=st.sampled_from([None, "name", "-price", "newest"]),
)  # fmt: skip


# --- cursors ------------------------------------------------------------------------------------------------------


def _next(value: str, rel: str = "next") -> bytes | None:
    """The query string of that relation in a `Link` field."""
    assert value.isascii()
    assert value.isprintable()
    found = re.search(rf'<[^>]*\?([^>]*)>; rel="{rel}"', value)
    return None if found is None else found[1].encode()


@often
@given(st.integers(1, 100), st.integers(1, 2**63 - 1), st.one_of(st.none(), st.integers(1, 900)))
def test_a_cursor_of_users_leads_on_from_where_it_came(per_page: int, last: int, page: int | None) -> None:
    """`next` is read as: as many, after the last one of this page."""
    wanted = Wanted(per_page, page, 0)
    value = user_rendering.page_link(Rows([(last,)], True, 5), wanted)
    with asked(query=_next(value) or b""):
        assert _wanted(http.parse_query(UserParameters)) == Wanted(per_page, None, last)


NAMES = st.text(string.ascii_lowercase + string.digits + "-", min_size=1, max_size=63)


@often
@given(st.integers(1, 100), st.integers(1, 2**63 - 1), st.fixed_dictionaries({}, optional={
    "tenant": NAMES, "service": NAMES, "env": NAMES, "version": NAMES.map(str.upper),
    "active": st.booleans()}))  # fmt: skip
def test_a_cursor_of_routes_leads_on_from_where_it_came(per_page: int, last: int, filters: dict[str, Any]) -> None:
    """With the same filters; and that of a history to what is older."""
    value = rendering.page_link(Page([_route(last)], True, 5), per_page=per_page, filters=filters)
    with asked(query=_next(value) or b""):
        found = http.parse_query(routes.ListParameters).model_dump(exclude_unset=True)
    assert found == {**filters, "per_page": per_page, "after": last}
    events = [Event(last, 1, "created", "a", NOW, None, None)]
    with asked(query=_next(rendering.history_link(1, events, more=True, per_page=per_page)) or b""):
        assert http.parse_query(routes.HistoryParameters).model_dump() == {"before": last, "per_page": per_page}


@often
@given(PRODUCT_QUERIES, st.integers(1, 10_000))
def test_links_between_pages_of_products_mean_the_same_search(query: ProductQuery, total: int) -> None:
    """Whatever text is searched for, the other pages of `Link` are of the same search; keys of the cache are equal
    where searches are.
    """
    page, per_page = query.page or 1, query.per_page or 50
    value = link(query, page=page, per_page=per_page, total=total)
    for rel in ("first", "prev", "next", "last"):
        found = _next(value, rel)
        if found is None:
            continue
        with asked(query=found):
            again = query_of(http.parse_query(ProductParameters))
        assert again._replace(page=1) == query._replace(page=1)
        assert hash(again._replace(page=page)) == hash(query)


# --- how long they take -------------------------------------------------------------------------------------------

_ANSWERED = (b"cache-control", b"vary", b"age", b"expires")
_TIMES: dict[str, Any] = {"asked": 0, "came": 0, "stale_if_error_s": 0}
EDGE: dict[str, Callable[[bytes], object]] = {
    "Cache-Control of a request": lambda value: directives.of_request(value, value),
    "Cache-Control of an answer": directives.of_answer,
    "Vary, Age, Expires": lambda value: terms(
        200, [(name, b"public, max-age=9" if name == b"cache-control" else value) for name in _ANSWERED], **_TIMES
    ),
    "If-None-Match": lambda value: _entry({}, ()).unchanged_for({b"if-none-match": value}),
    "a field that is varied by": lambda value: selector((b"a",), {b"a": value}),
    "Connection": named_by,
    "Host": valid_host,
    "X-Forwarded-For": lambda value: PEERS.client("127.0.0.1", {b"x-forwarded-for": value}),
    "traceparent": lambda value: context.begin(value.decode("latin-1"), value.decode("latin-1"), None, 1),
    "If-None-Match of a service": lambda value: http.matches(value.decode("latin-1"), '"a"'),
    "a key": lambda value: Keyring().find(value.decode("latin-1")),
    "a path in the log": lambda value: logs.JsonFormatter(service="s", version="1")._template(
        "INFO", "GET", f"/{value[:4000].decode('latin-1')}/@", "HTTP/1.1", "r", 404, "a"
    ),
    "a text in the log": lambda value: logs._redact(f"{value.decode('latin-1')} @"),
    "a destination": lambda value: _try(destinations.normalize, f"http://{value[:2000].decode('latin-1')}"),
    "a route's URL": lambda value: _try(split_url, f"http://{value[:2000].decode('latin-1')}"),
    "a form's fields": lambda value: [callers._name(field) for field in (value * 8).split(b"&", callers._MOST_FIELDS)],
}


def _try(parse: Callable[[str], object], text: str) -> None:
    with suppress(ValueError):
        parse(text)


def test_no_parser_takes_long(promise: Promise) -> None:
    """8 KB of every pair (LONG: every three) of the characters that mean something, with a start and without: CPU time
    of the parsers that run in the edge's one event loop, where everybody waits for everybody.
    """
    slowest = dict.fromkeys(EDGE, (0.0, ""))
    marks, most = (MARKS, 3) if LONG else ('",\\=;@/: a0-', 2)
    units = ["".join(each) for count in range(1, most + 1) for each in itertools.product(marks, repeat=count)]
    for unit in units:
        for start in ("", 'a="'):
            value = (start + unit * HEADER_BYTES)[:HEADER_BYTES].encode("latin-1")
            for name, parse in EDGE.items():
                began_s = time.thread_time()
                parse(value)
                slowest[name] = max(slowest[name], (time.thread_time() - began_s, start + unit))
    for name, (took_s, unit) in sorted(slowest.items(), key=lambda item: -item[1][0])[:3]:
        promise("parsers: 8 KB of marks", f"{LINEAR_S * 1000:g} ms of the event loop at the most",
                f"{name}: {took_s * 1000:.1f} ms ({unit!r})", holds=took_s < LINEAR_S)  # fmt: skip
    assert max(took_s for took_s, _ in slowest.values()) < LINEAR_S


def test_header_fields_of_8_kb_are_answered_soon(stage: Stage, promise: Promise) -> None:
    """By every service and by the gateway, whatever the field: what a framework reads of it is not ours to choose."""
    watch = stage.watch()
    names = (
        "Accept", "Accept-Encoding", "Accept-Language", "Accept-Charset", "Authorization", "Cache-Control",
        "Content-Type", "Cookie", "Forwarded", "Idempotency-Key", "If-Match", "If-Modified-Since", "If-None-Match",
        "If-Range", "Origin", "Pragma", "Range", "Referer", "traceparent", "tracestate", "User-Agent", "X-API-Key",
        "X-Caller-Scopes", "X-Forwarded-For", "X-Request-ID", "X-Request-Timeout-Ms", "X-Route-Env", "X-Route-Key",
        "X-Route-Version",
    )  # fmt: skip
    paths = {"gateway": "/api/products", "catalogue": "/api/products", "user": "/api/v1/users", "links": "/s/nobody"}
    slowest, statuses = (0.0, ""), set()
    for service in SERVICES:
        for name in names:
            for unit in ('"\\', '\\"', ",", '",', "a=b;", "; a=", "0-1,", 'W/"a",', "a;q=0.1,", "=", "a, ", "9"):
                value = (unit * HEADER_BYTES)[: 8000 - len(name)]
                answer = stage.call("GET", paths[service], headers={name: value}, service=service)
                statuses.add(answer.status)
                slowest = max(slowest, (answer.took_s, f"{service}: {name}: {unit!r}"))
    assert watch.tracebacks() == []
    promise("parsers: 8 KB in a field", "no 5xx, and an answer within 1 s", f"{sorted(statuses)}, slowest "
            "{:.3f} s ({})".format(*slowest), holds=slowest[0] < 1 and max(statuses) < 500)  # fmt: skip
