"""Header hygiene, by example and by property."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.edge.headers import (
    HOP_BY_HOP,
    RESPONSE_DROPPED,
    Peers,
    named_by,
    response_headers,
    sort_request,
    valid_host,
)

TOKEN = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20).map(str.encode)
HOSTILE = st.sampled_from(
    sorted(
        HOP_BY_HOP
        | {
            b"forwarded", b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-port", b"host",
            b"x-real-ip", b"x-request-id", b"traceparent", b"x-request-timeout-ms", b"content-length", b"expect",
        }
    )
)  # fmt: skip
VALUE = st.binary(max_size=30).map(lambda value: bytes(byte for byte in value if byte >= 0x20 and byte != 0x7F))
FIELDS = st.lists(st.tuples(st.one_of(TOKEN, HOSTILE), VALUE), max_size=20)
ADDRESSES = st.ip_addresses().map(str)
NOBODY = Peers(trusted=(), internal=())


def networks(*texts: str) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
    """The networks of these names."""
    return [ipaddress.ip_network(text) for text in texts]


@given(FIELDS)
def test_no_hop_by_hop_or_forwarding_field_ever_goes_on(fields: list[tuple[bytes, bytes]]) -> None:
    """Whatever a client sends, what goes on as it is holds nothing that the edge must drop or say itself."""
    forwarded, aside = sort_request(fields)
    names = {name for name, _ in forwarded}
    assert not names & (HOP_BY_HOP | {b"host", b"content-length", b"expect", b"x-request-id", b"x-real-ip"})
    assert not any(name == b"forwarded" or name.startswith(b"x-forwarded") for name in names)
    assert not names & named_by(aside.get(b"connection", b""))


@given(FIELDS)
def test_everything_else_goes_on_in_order_and_unchanged(fields: list[tuple[bytes, bytes]]) -> None:
    """End-to-end fields, repeated ones too, reach the upstream as they came."""
    forwarded, aside = sort_request(fields)
    named = named_by(aside.get(b"connection", b"")) if b"connection" in aside else frozenset()
    assert forwarded == [item for item in fields if item[0] not in aside and item[0] not in named]


@given(st.lists(st.tuples(TOKEN, VALUE), max_size=10), st.lists(TOKEN, max_size=4))
def test_an_answer_loses_what_its_connection_field_names(fields: list[tuple[bytes, bytes]], named: list[bytes]) -> None:
    """RFC 9110 section 7.6.1, in the other direction."""
    kept = response_headers(fields, b", ".join(named).upper() if named else None)
    assert kept == [item for item in fields if item[0] not in named]


def test_repeated_fields_of_ours_are_joined() -> None:
    """Two request ids become one value that no id matches, instead of a choice that the next server makes otherwise."""
    _, aside = sort_request([(b"x-request-id", b"a"), (b"x-request-id", b"b")])
    assert aside == {b"x-request-id": b"a,b"}


def test_connection_cannot_remove_what_the_edge_says() -> None:
    """`Connection: host, x-request-id` is a way to strip fields that a careless proxy falls for."""
    _, aside = sort_request([(b"host", b"a"), (b"x-request-id", b"1"), (b"connection", b"host, x-request-id")])
    assert aside[b"host"] == b"a"
    assert aside[b"x-request-id"] == b"1"


def test_an_upstreams_server_and_framing_are_dropped() -> None:
    """The edge frames the answer again, and does not say what runs behind it."""
    assert {b"server", b"transfer-encoding", b"connection", b"keep-alive", b"x-request-id"} <= RESPONSE_DROPPED


@given(ADDRESSES, FIELDS)
def test_an_untrusted_peer_is_the_client_whatever_it_claims(peer: str, fields: list[tuple[bytes, bytes]]) -> None:
    """With no trusted proxies, the lines for the upstream depend on the connection alone."""
    _, aside = sort_request(fields)
    lines = NOBODY.forwarding_lines(peer, b"shop:8000", "http", aside)
    assert lines == NOBODY.forwarding_lines(peer, b"shop:8000", "http", {})
    assert NOBODY.client(peer, aside) == peer
    assert lines.count(b"\r\n") == 4


def test_forwarding_lines_of_an_ipv4_peer() -> None:
    """The four fields, with the port of the host quoted as RFC 7239 wants it."""
    assert NOBODY.forwarding_lines("192.0.2.7", b"shop:8000", "http", {}).decode().split("\r\n") == [
        "X-Forwarded-For: 192.0.2.7",
        "X-Forwarded-Proto: http",
        'Forwarded: for=192.0.2.7;host="shop:8000";proto=http',
        "X-Forwarded-Host: shop:8000",
        "",
    ]


def test_forwarding_lines_of_an_ipv6_peer() -> None:
    """RFC 7239 section 6: an IPv6 address is bracketed and quoted. One mapped from IPv4 is the IPv4 address."""
    assert b'Forwarded: for="[2001:db8::7]";proto=http\r\n' in NOBODY.forwarding_lines("2001:db8::7", None, "http", {})
    assert b"X-Forwarded-For: 192.0.2.7\r\n" in NOBODY.forwarding_lines("::ffff:192.0.2.7", None, "http", {})


def test_a_trusted_proxy_is_believed_and_continued() -> None:
    """Its lists get the proxy's own address as one more hop; scheme and host are the client's."""
    peers = Peers(trusted=networks("10.0.0.0/8"), internal=())
    aside = {
        b"x-forwarded-for": b"203.0.113.9",
        b"x-forwarded-proto": b"https",
        b"x-forwarded-host": b"shop.example",
        b"forwarded": b"for=203.0.113.9;proto=https",
    }
    assert peers.forwarding_lines("10.1.2.3", b"gateway:8000", "http", aside).decode().split("\r\n") == [
        "X-Forwarded-For: 203.0.113.9, 10.1.2.3",
        "X-Forwarded-Proto: https",
        'Forwarded: for=203.0.113.9;proto=https, for=10.1.2.3;host="shop.example";proto=https',
        "X-Forwarded-Host: shop.example",
        "",
    ]


def test_a_trusted_proxys_nonsense_is_not_passed_on() -> None:
    """A scheme or host that cannot be one is replaced by what the connection says."""
    peers = Peers(trusted=networks("10.0.0.0/8"), internal=())
    lines = peers.forwarding_lines(
        "10.1.2.3", b"gateway", "http", {b"x-forwarded-proto": b"gopher", b"x-forwarded-host": b"a b"}
    )
    assert b"X-Forwarded-Proto: http\r\n" in lines
    assert b"X-Forwarded-Host: gateway\r\n" in lines


@pytest.mark.parametrize(
    ("hops", "client"),
    [
        (b"203.0.113.9", "203.0.113.9"),
        (b"198.51.100.1, 203.0.113.9", "203.0.113.9"),  # the first is the client's own invention
        (b"203.0.113.9, 10.9.9.9", "203.0.113.9"),  # two proxies of ours
        (b"10.8.8.8, 10.9.9.9", "10.8.8.8"),
        (b"nonsense", "10.1.2.3"),
        (b"203.0.113.9, unknown", "10.1.2.3"),
        (b"", "10.1.2.3"),
    ],
)
def test_the_client_is_the_last_hop_that_no_trusted_proxy_is(hops: bytes, client: str) -> None:
    """Read from the right: only what trusted proxies appended counts."""
    peers = Peers(trusted=networks("10.0.0.0/8"), internal=())
    assert peers.client("10.1.2.3", {b"x-forwarded-for": hops}) == client


def test_internal_is_the_peers_own_address() -> None:
    """Networks of both families, addresses mapped from IPv4, and things that are no addresses."""
    peers = Peers(trusted=(), internal=networks("127.0.0.0/8", "fc00::/7"))
    assert [peers.is_internal(peer) for peer in ("127.0.0.1", "::ffff:127.0.0.1", "fd00::1")] == [True] * 3
    assert [peers.is_internal(peer) for peer in ("192.0.2.1", "::1", "", "unix", "127.0.0.1")] == [False] * 4 + [True]


def test_what_is_remembered_of_peers_is_bounded() -> None:
    """A scan of the whole internet does not fill the memory, and does not change the answers."""
    peers = Peers(trusted=(), internal=networks("127.0.0.0/8"))
    for number in range(10_000):
        peer = str(ipaddress.ip_address(number))
        assert not peers.is_internal(peer)
        assert peer.encode() in peers.forwarding_lines(peer, b"shop", "http", {})
    assert all(len(value) <= 4096 for value in vars(peers).values() if isinstance(value, dict))


@pytest.mark.parametrize(
    "host",
    [
        b"", b" ", b"a b", b"a/b", b"a@b", b"a#b", b"a?b", b"a\\b", b"[::1", b"a:b", b"a:123456", b"a,b", b'a"b',
        b"\xe9", b"a:1:2", b"a%41",
    ],
)  # fmt: skip
def test_hosts_that_are_none(host: bytes) -> None:
    """What could be read as another host, or end a quoted string, by the server behind."""
    assert not valid_host(host)
