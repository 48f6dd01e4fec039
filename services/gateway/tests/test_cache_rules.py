"""The cache's rules, each by itself: what is kept, for how long, for whom, and how much of it."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.cache import directives, status
from gateway.edge.cache.directives import FOREVER_S, of_answer, of_request
from gateway.edge.cache.entry import Entry, selector
from gateway.edge.cache.freshness import Terms, http_date, terms
from gateway.edge.cache.store import MAX_VARIANTS, Key, Store, key_size
from gateway.edge.headers import Header

NOW = 1_800_000_000.0
TERMS = Terms(lifetime_s=60, age_s=0, always_ask=False, stale_while_revalidate_s=0, stale_if_error_s=0, bendable=True)


def date(unix_s: float) -> bytes:
    """As an HTTP date."""
    return formatdate(unix_s, usegmt=True).encode()


def kept(*headers: Header, answer_status: int = 200, took_s: float = 0.0) -> Terms | None:
    """The terms on which an answer with these fields is kept."""
    found = terms(answer_status, list(headers), asked=NOW - took_s, came=NOW, stale_if_error_s=1000)
    return None if found is None else found[0]


def cc(value: bytes) -> Header:
    """Cache-Control."""
    return b"cache-control", value


# --- RFC 9111 section 5.2: directives ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (b"public, max-age=10", (True, 10)),
        (b"PUBLIC,Max-Age=10", (True, 10)),
        (b' public ,, max-age="10"', (True, 10)),
        (b"public,max-age=99999999999999999999", (True, FOREVER_S)),
        (b"public, max-age=ten", (True, 0)),
        (b"public, max-age=-1", (True, 0)),
        (b"public, max-age", (True, 0)),
        (b"public, max-age=1.5", (True, 0)),
        (b"public, max-age=10, max-age=20", (True, 0)),
        (b"public, max-age=10, max-age=10", (True, 10)),
        (b'max-age=10, x="public"', (False, 10)),
        (b"", (False, None)),
    ],
)
def test_section_5_2_directives_are_read_strictly(value: bytes, expected: tuple[bool, int | None]) -> None:
    """Case does not matter, both forms of an argument are taken, and a time that is none is no time at all."""
    says = of_answer(value)
    assert (says.public, says.max_age_s) == expected


@pytest.mark.parametrize(
    "value", [b'public, x="a, b", no-store', b'public, x="a, no-store', b'public, x="\\"", no-store', b"x=,no-store"]
)
def test_section_5_2_no_quote_hides_a_directive(value: bytes) -> None:
    """Not even one without an end."""
    assert of_answer(value).no_store


@pytest.mark.parametrize("letters", [b'"', b'"\\', b'\\"', b'"a\\', b'",\\'])
def test_section_5_2_quotes_are_matched_as_they_stand(letters: bytes) -> None:
    """From the left, as a reader who tries each quote anew would, and without trying: 8 KB of them once took 2 s."""
    slow = re.compile(rb'(?:[^",]|"(?:[^"\\]|\\.)*"|")+', re.DOTALL)
    for count in range(12):
        for value in (letters * count, b"public, " + letters * count + b', x="a, b", max-age=1'):
            names = [match[0].partition(b"=")[0].strip(b" \t").lower() for match in slow.finditer(value)]
            assert [name for name, _ in directives.elements(value)] == [name for name in names if name]
    assert of_answer(b"no-store," + letters * 4000).no_store


def test_section_5_2_a_quoted_list_is_one_argument() -> None:
    """`no-cache="a, b"` counts as `no-cache`; `private` in quotes of another directive does not count."""
    assert of_answer(b'no-cache="set-cookie, x"').no_cache
    assert not of_answer(b'x="private, no-store"').private


@given(st.binary(max_size=200))
def test_section_5_2_any_bytes_are_directives_of_some_kind(value: bytes) -> None:
    """Nothing raises, names are lower case and without spaces around, times are within bounds."""
    for name in directives.parse(value):
        assert name == name.strip(b" \t").lower() != b""
    for time_s in of_answer(value)[-4:]:
        assert time_s is None or 0 <= time_s <= FOREVER_S
    asked = of_request(value, None)
    assert 0 <= asked.min_fresh_s <= FOREVER_S
    assert 0 <= asked.max_stale_s <= FOREVER_S


WORDS = st.sampled_from([b"public", b"private", b"no-store", b"no-cache", b"must-revalidate", b"proxy-revalidate"])


@given(st.lists(WORDS, max_size=6), st.sampled_from([b",", b", ", b" ,", b",,"]), st.integers(0, 10**12))
def test_section_5_2_every_directive_written_is_read(words: list[bytes], comma: bytes, age_s: int) -> None:
    """Whatever their order and the white space between them."""
    says = of_answer(comma.join([*words, b"max-age=%d" % age_s]))
    for word in (b"public", b"private", b"no-store", b"no-cache", b"must-revalidate", b"proxy-revalidate"):
        assert getattr(says, word.decode().replace("-", "_")) == (word in words)
    assert says.max_age_s == min(age_s, FOREVER_S)


def test_section_5_2_1_what_a_client_asks_and_cannot_be_read_is_strict() -> None:
    """No age is young enough for a bad max-age, nothing fresh enough for a bad min-fresh, nothing stale welcome."""
    asked = of_request(b"max-age=x, min-fresh=x, max-stale=x", None)
    assert (asked.max_age_s, asked.min_fresh_s, asked.max_stale_s) == (0, FOREVER_S, 0)
    assert of_request(b"max-stale", None).max_stale_s == FOREVER_S


def test_section_5_4_pragma_counts_without_cache_control() -> None:
    """And only then."""
    assert of_request(None, b"No-Cache").no_cache
    assert not of_request(b"max-age=5", b"no-cache").no_cache


# --- RFC 9111 section 3: what is kept ---------------------------------------------------------------------------------


@pytest.mark.parametrize("answer_status", [200, 301, 308, 404, 410])
def test_section_3_a_public_answer_with_a_lifetime_is_kept(answer_status: int) -> None:
    """Of the statuses that say all there is to say."""
    assert kept(cc(b"public, max-age=10"), answer_status=answer_status) is not None


@pytest.mark.parametrize("answer_status", [201, 204, 206, 302, 304, 307, 400, 401, 403, 405, 429, 500, 502, 503, 504])
def test_section_3_other_statuses_are_not(answer_status: int) -> None:
    """Whatever they say."""
    assert kept(cc(b"public, max-age=10"), answer_status=answer_status) is None


@pytest.mark.parametrize(
    "headers",
    [
        (),
        (cc(b"max-age=10"),),
        (cc(b"s-maxage=10"),),
        (cc(b"public"),),
        (cc(b"public"), (b"etag", b'"a"')),
        (cc(b"public, no-cache"),),
        (cc(b"public, max-age=10, private"),),
        (cc(b'public, max-age=10, private="x"'),),
        (cc(b"public, max-age=10, no-store"),),
        (cc(b"public, max-age=10"), cc(b"no-store")),
        (cc(b"public, max-age=10"), (b"set-cookie", b"a=b")),
        (cc(b"public, max-age=10"), (b"vary", b"accept, *")),
        (cc(b"public, max-age=10"), (b"vary", b"accept, X-Forwarded-For")),
        (cc(b"public, max-age=10"), (b"vary", b"x-caller")),
        (cc(b"public, max-age=10"), (b"content-range", b"bytes 0-1/2")),
        (cc(b"public, max-age=0"),),
        (cc(b"public, max-age=10"), (b"age", b"10")),
    ],
)
def test_section_3_what_is_not_plainly_public_is_not_kept(headers: tuple[Header, ...]) -> None:
    """Nor what has a cookie, varies by everything or by what the edge says itself, is a part, has no explicit lifetime,
    or would never be used.
    """
    assert kept(*headers) is None


def test_section_3_what_can_be_validated_is_kept_without_a_lifetime_if_it_says_no_cache() -> None:
    """It is never used unasked, not even on errors."""
    found = kept(cc(b"public, no-cache"), (b"etag", b'"a"'))
    assert found is not None
    assert found.always_ask
    assert found.stale_if_error_s == 0


# --- RFC 9111 section 4.2: freshness ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "lifetime_s"),
    [
        ((cc(b"public, max-age=10, s-maxage=20"), (b"expires", date(NOW + 30))), 20),
        ((cc(b"public, max-age=10"), (b"expires", date(NOW + 30))), 10),
        ((cc(b"public"), (b"expires", date(NOW + 30)), (b"date", date(NOW - 5))), 35),
        ((cc(b"public"), (b"expires", date(NOW + 30))), 30),
        ((cc(b"public"), (b"expires", b"0"), (b"etag", b'"a"')), 0),
        ((cc(b"public"), (b"expires", b"tomorrow"), (b"etag", b'"a"')), 0),
    ],
)
def test_section_4_2_1_the_lifetime(headers: tuple[Header, ...], lifetime_s: float) -> None:
    """s-maxage before max-age before Expires less Date; an Expires that is no date means the past."""
    found = kept(*headers)
    assert found is not None
    assert found.lifetime_s == lifetime_s


@pytest.mark.parametrize(
    ("headers", "took_s", "age_s"),
    [
        ((), 0.0, 0),
        (((b"age", b"7"),), 0.0, 7),
        (((b"age", b"7"),), 3.0, 10),
        (((b"age", b"7"), (b"date", date(NOW - 20))), 0.0, 20),
        (((b"date", date(NOW + 20)),), 0.0, 0),
        (((b"age", b"young"),), 0.0, 0),
    ],
)
def test_section_4_2_3_the_age_when_it_comes(headers: tuple[Header, ...], took_s: float, age_s: float) -> None:
    """The greater of what Date makes it and of Age with the time that the answer took."""
    found = kept(cc(b"public, max-age=100"), *headers, took_s=took_s)
    assert found is not None
    assert found.age_s == age_s


@pytest.mark.parametrize(
    ("value", "while_revalidate_s", "if_error_s", "bendable"),
    [
        (b"public, max-age=1", 0, 1000, True),
        (b"public, max-age=1, stale-while-revalidate=5, stale-if-error=6", 5, 6, True),
        (b"public, max-age=1, stale-while-revalidate=5, stale-if-error=6, must-revalidate", 0, 0, False),
        (b"public, max-age=1, stale-while-revalidate=5, stale-if-error=6, proxy-revalidate", 0, 0, False),
        (b"public, s-maxage=1", 0, 0, False),
        (b"public, s-maxage=1, stale-while-revalidate=5", 5, 0, False),
    ],
)
def test_section_4_2_4_how_stale_it_may_be(
    value: bytes, while_revalidate_s: float, if_error_s: float, bendable: bool
) -> None:
    """As RFC 5861 says, with a default for errors, and not at all where revalidation is a must."""
    found = kept(cc(value))
    assert found is not None
    assert (found.stale_while_revalidate_s, found.stale_if_error_s) == (while_revalidate_s, if_error_s)
    assert found.bendable == bendable


def test_http_dates_in_their_three_forms() -> None:
    """RFC 9110 section 5.6.7; anything else is none."""
    forms = (b"Sun, 06 Nov 1994 08:49:37 GMT", b"Sunday, 06-Nov-94 08:49:37 GMT", b"Sun Nov  6 08:49:37 1994")
    assert {http_date(form) for form in forms} == {784111777.0}
    for other in (b"", b"0", b"-1", b"1994-11-06T08:49:37Z", b"Sun, 06 Nov 1994 08:49:37 +0100", b"\xff" * 29, None):
        assert http_date(other) is None


# --- entries ----------------------------------------------------------------------------------------------------------


def entry(
    *headers: Header, body: bytes = b"body", varies: bytes = b"", asked: dict[bytes, bytes] | None = None
) -> Entry:
    """One that came just now."""
    names = tuple(sorted(name for name in varies.split(b",") if name))
    made = Entry(
        status=200, headers=list(headers), terms=TERMS, selected_by=selector(names, asked or {}),
        born_s=time.monotonic(), came=NOW,
    )  # fmt: skip
    made.take_body(body)
    return made


@pytest.mark.parametrize(
    ("condition", "unchanged"),
    [
        ({b"if-none-match": b'"a"'}, True),
        ({b"if-none-match": b'W/"a"'}, True),
        ({b"if-none-match": b'"b", "a"'}, True),
        ({b"if-none-match": b"*"}, True),
        ({b"if-none-match": b'"b"'}, False),
        ({b"if-none-match": b'"b"', b"if-modified-since": date(NOW)}, False),
        ({b"if-none-match": b"a"}, False),
        ({b"if-modified-since": date(NOW)}, True),
        ({b"if-modified-since": date(NOW - 100)}, True),
        ({b"if-modified-since": date(NOW - 101)}, False),
        ({b"if-modified-since": b"yesterday"}, False),
    ],
)
def test_section_4_3_2_conditions_of_clients(condition: dict[bytes, bytes], unchanged: bool) -> None:
    """If-None-Match, compared weakly, beats If-Modified-Since."""
    made = entry((b"etag", b'"a"'), (b"last-modified", date(NOW - 100)))
    assert made.unchanged_for(condition) == unchanged


def test_section_4_3_4_a_304_renews_the_fields() -> None:
    """All that it has, except what describes the body."""
    made = entry((b"etag", b'"a"'), (b"x", b"old"), (b"x", b"older"), (b"content-type", b"a/b"), (b"date", b"then"))
    after = made.headers_after([(b"x", b"new"), (b"content-type", b"c/d"), (b"content-length", b"0")])
    assert sorted(after) == [(b"content-type", b"a/b"), (b"date", b"then"), (b"etag", b'"a"'), (b"x", b"new")]
    assert made.is_meant_by([(b"etag", b'W/"a"')])
    assert not made.is_meant_by([(b"etag", b'"b"')])


def test_section_4_1_vary_is_compared_by_value_and_not_by_white_space() -> None:
    """A field that is not there is not the same as an empty one."""
    made = entry(varies=b"accept,x", asked={b"accept": b"a, b"})
    assert made.answers({b"accept": b"a,b"})
    assert not made.answers({b"accept": b"a,b", b"x": b""})
    assert not made.answers({b"accept": b"b,a"})
    assert not made.answers({})
    quoted = entry(varies=b"accept", asked={b"accept": b'x="a, b"'})
    assert quoted.answers({b"accept": b'x="a, b"'})
    assert not quoted.answers({b"accept": b'x="a,b"'})


def test_a_ready_head_has_every_field() -> None:
    """The lines of a plain hit say what its fields would."""
    made = entry((b"etag", b'"a"'), (b"date", b"then"), (b"age", b"9"), (b"content-length", b"4"))
    now_s = made.born_s + 12.5
    head = made.ready_head(b"id-1", now_s)
    expected = made.head(b"id-1", status=status.hit(48), age_s=12)
    lines = head.lines.rstrip(b"\r\n").split(b"\r\n")
    assert sorted(lines) == sorted(b"%b: %b" % field for field in expected)
    assert list(head) == [(b"content-length", b"4")]
    later = made.ready_head(b"id-2", now_s + 1).lines
    assert b"age: 13\r\n" in later
    assert b"cache-status: storefront; hit; ttl=47\r\n" in later


# --- the store --------------------------------------------------------------------------------------------------------


def key(number: int) -> Key:
    """One of many."""
    return "http://a", b"shop", "http", b"/%d" % number, b""


def entries(store: Store, keys: range) -> Iterator[tuple[Key, Entry]]:
    """All that is kept."""
    for number in keys:
        variants = store.get(key(number))
        for kept_entry in [] if variants is None else variants.entries:
            yield key(number), kept_entry


ACTIONS = st.one_of(
    st.tuples(st.just("put"), st.integers(0, 5), st.integers(0, 3), st.integers(0, 4000)),
    st.tuples(st.sampled_from(["get", "drop", "discard"]), st.integers(0, 5), st.integers(0, 3), st.just(0)),
)


@given(st.lists(ACTIONS, max_size=40), st.integers(0, 12_000))
def test_the_budget_is_counted_to_the_byte(actions: list[tuple[str, int, int, int]], budget: int) -> None:
    """Whatever is put, found, replaced, evicted and dropped: the sum is that of what is there, and within bounds."""
    evicted: list[int] = []
    store = Store(budget, evicted=evicted.append)
    for action, number, variant, size in actions:
        made = entry(body=b"x" * size, varies=b"accept" if variant else b"", asked={b"accept": b"%d" % variant})
        if action == "put":
            assert store.put(key(number), made) == (key_size(key(number)) + made.size <= budget)
        elif action == "get":
            store.get(key(number))
        elif action == "drop":
            store.drop(key(number))
        else:
            store.discard(key(number), made)
        there = list(entries(store, range(6)))
        keys = {found for found, _ in there}
        assert store.bytes == sum(found.size for _, found in there) + sum(map(key_size, keys)) <= budget
        assert len(store) == len(there)
    assert all(count > 0 for count in evicted)


def test_what_was_not_used_for_longest_goes_first() -> None:
    """Use counts, not age."""
    made = entry(body=b"x" * 1000)
    store = Store(3 * (made.size + key_size(key(0))), evicted=lambda _: None)
    for number in range(3):
        store.put(key(number), entry(body=b"x" * 1000))
    store.get(key(0))
    store.put(key(3), entry(body=b"x" * 1000))
    assert [number for number in range(4) if store.get(key(number)) is not None] == [0, 2, 3]


def test_the_variants_of_one_key_are_bounded() -> None:
    """A client that varies what the answer varies by drives out none but its like."""
    store = Store(10_000_000, evicted=lambda _: None)
    store.put(key(1), entry())
    for number in range(100):
        store.put(key(0), entry(varies=b"accept", asked={b"accept": b"%d" % number}))
    assert len(store) == MAX_VARIANTS + 1
    variants = store.get(key(0))
    assert variants is not None
    assert variants.find({b"accept": b"99"}) is not None
    assert variants.find({b"accept": b"0"}) is None


# --- RFC 9211 ---------------------------------------------------------------------------------------------------------


def test_cache_status_is_a_structured_field() -> None:
    """As RFC 9211 has its parameters."""
    assert status.hit(55) == b"storefront; hit; ttl=55"
    assert status.forwarded(b"uri-miss", stored=True) == b"storefront; fwd=uri-miss; stored"
    assert status.forwarded(b"uri-miss", collapsed=True) == b"storefront; fwd=uri-miss; collapsed"
    assert (
        status.forwarded(b"stale", status=503, ttl_s=-3, error=True)
        == b"storefront; fwd=stale; fwd-status=503; ttl=-3; detail=stale-if-error"
    )
