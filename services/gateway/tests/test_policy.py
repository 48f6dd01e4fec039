"""Where routes may lead: by name and by address, in every spelling that was ever used to get past such a check."""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Iterator

import pytest

from chassis.settings import load
from gateway.edge.exchange import UpstreamError
from gateway.edge.instance import Limits
from gateway.edge.upstream import Upstream
from gateway.policy import UpstreamPolicy
from gateway.settings import Settings


def policy(*allowed: str) -> UpstreamPolicy:
    """The policy with that list, and the two services of the storefront."""
    urls = {"catalogue_url": "http://catalogue.test:5000", "user_url": "http://user.test:5001"}
    return UpstreamPolicy(load(Settings, gateway_allowed_upstreams=allowed, **urls))


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("http://api.test", "http://api.test"),
        ("http://api.test/", "http://api.test"),
        ("HTTP://API.Test:80/", "http://api.test"),
        ("https://api.test:443", "https://api.test"),
        ("https://api.test:80", "https://api.test:80"),
        ("http://api.test:8080/v2/", "http://api.test:8080/v2"),
        ("http://api.test/a%20b/c;d=1", "http://api.test/a%20b/c;d=1"),
        ("http://10.1.2.3:9000", "http://10.1.2.3:9000"),
        ("http://[FD12:0:0::1]:9000/x", "http://[fd12::1]:9000/x"),
    ],
)
def test_a_url_has_one_normal_form(url: str, normal: str) -> None:
    """So that two routes to the same place share connections, breaker and caps."""
    checked = policy("api.test", "10.0.0.0/8", "fd12::/16").check_url(url)
    assert checked == normal
    assert policy("api.test", "10.0.0.0/8", "fd12::/16").check_url(checked) == normal


@pytest.mark.parametrize(
    "url",
    [
        "", "api.test", "//api.test", "ftp://api.test", "file:///etc/passwd", "gopher://api.test", "data:,",
        "http:", "http://", "http:///x", "http:/api.test", "http:api.test", "http://:80", "http://?", "http://#",
        "http://user@api.test", "http://user:pass@api.test", "http://api.test@evil.test", "http://evil.test\\@api.test",
        "http://api.test?x", "http://api.test/?x", "http://api.test#x", "http://api.test/#", "http://api.test\\x",
        "http://api.test:", "http://api.test:0", "http://api.test:65536", "http://api.test:-1", "http://api.test:+80",
        "http://api.test:080", "http://api.test:8x", "http://api.test:80:80", "http://api.test:٨٠",
        " http://api.test", "http://api.test ", "http://api.test/a b", "http://api\t.test", "http://api.test/\r\nX: y",
        "http://api.test/\x00", "http://api.test/%00", "http://api.test/%zz", "http://api.test/%", "http://api.test/<>",
        "http://api.test/a/../b", "http://api.test/%2e%2E/b", "http://api.test/a//b", "http://api.test/./a",
        "http://api.test/..%2fb",
        "http://api.test.", "http://.api.test", "http://api..test", "http://-api.test", "http://api-.test",
        "http://api_.test", "http://" + "a" * 64 + ".test", "http://" + "a." * 130 + "test", "http://äpi.test",
        "http://api。test", "http://api.test\uff0fx", "http://\uff41pi.test", "http://api%2etest",
        "http://*.test", "http://api,test",
        "http://api.test/" + "a" * 2048,
        "http://[::1", "http://::1", "http://[]", "http://[api.test]", "http://[::1%25eth0]", "http://[fe80::1%eth0]",
        "http://[::1]x", "http://[v1.a]", "http://[10.0.0.1]",
    ],
)  # fmt: skip
def test_what_is_no_plain_url_is_refused(url: str) -> None:
    """Everything that two parsers could read differently, whatever is on the list."""
    with pytest.raises(ValueError, match=r".+"):
        policy("api.test", "*.test", "0.0.0.0/0", "::/0").check_url(url)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.1", "127.0.1", "0", "0x0", "1.2.3.4.5",
        "256.1.1.1",
        "127.0.0.01", "00.0.0.0", "1e3", "127.0.0.1.", "017700000001", "0x7F.1", "0xa9fea9fe", "2852039166",
        "169.254.43518", "0251.0376.0251.0376", "api.0x7f", "api.127",
    ],
)  # fmt: skip
def test_an_address_is_spelt_in_the_one_usual_way(host: str) -> None:
    """Decimal, octal, hexadecimal and shortened forms lead to addresses in some parsers and to names in others."""
    with pytest.raises(ValueError, match=r".+"):
        policy("*.test", "0.0.0.0/0", "::/0", "api.0x7f").check_url(f"http://{host}/")


NEVER = [
    "169.254.169.254", "169.254.0.1", "[fe80::1]", "[fd00:ec2::254]", "[fd20:ce::254]", "100.100.100.200",
    "168.63.129.16", "192.0.0.192", "0.0.0.0", "0.1.2.3", "[::]", "224.0.0.1", "239.255.255.255", "[ff02::1]",
    "255.255.255.255", "240.0.0.1",
    "[::ffff:169.254.169.254]", "[::ffff:a9fe:a9fe]", "[64:ff9b::169.254.169.254]", "[64:ff9b:1::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]", "[::169.254.169.254]", "[fd00::5efe:169.254.169.254]", "[::ffff:0.0.0.0]",
    "[::ffff:224.0.0.1]", "[2001:0:4136:e378:8000:63bf:3fff:fdd2]", "[2002:e000:1::]",
]  # fmt: skip


@pytest.mark.parametrize("host", NEVER)
def test_some_addresses_are_never_allowed(host: str) -> None:
    """Link-local, metadata services, no host's: not if everything is on the list, not inside an IPv6 address."""
    everything = policy("0.0.0.0/0", "::/0", host if host[0] != "[" else "x.test")
    with pytest.raises(ValueError, match="never allowed"):
        everything.check_url(f"http://{host}/")
    with pytest.raises(ValueError, match="never allowed"):
        policy("x.test").check_address("x.test", host.strip("[]"))


@pytest.mark.parametrize("inner", ["::ffff:10.0.0.5", "64:ff9b::10.0.0.5", "2002:a00:5::1", "::10.0.0.5"])
def test_an_ipv4_address_inside_an_ipv6_one_is_judged_as_such(inner: str) -> None:
    """What it leads to is what counts."""
    policy("10.0.0.0/8").check_address("x.test", inner)
    with pytest.raises(ValueError, match=r".+"):
        policy("*.test", "fd00::/8").check_address("x.test", inner)


def test_names_and_networks_of_the_list() -> None:
    """A name is itself, `*.` what is below it and not it, a network its addresses; with a port only that."""
    some = policy("api.test", "*.shop.test", "10.0.0.0/8", "only.test:8443", "192.0.2.7:81")
    good = (
        "http://api.test:1", "http://a.shop.test", "http://a.b.shop.test", "http://10.9.9.9", "https://only.test:8443",
        "http://192.0.2.7:81", "http://catalogue.test", "http://user.test:9",
    )  # fmt: skip
    bad = (
        "http://shop.test", "http://ashop.test", "http://api.test.evil.test", "http://x.api.test", "http://11.0.0.1",
        "https://only.test", "http://192.0.2.7", "http://192.0.2.8:81", "http://localhost", "http://127.0.0.1",
        "http://[::1]",
    )  # fmt: skip
    for url in good:
        some.check_url(url)
    for url in bad:
        with pytest.raises(ValueError, match="allowed upstreams"):
            some.check_url(url)


@pytest.mark.parametrize(
    ("host", "address", "allowed"),
    [
        ("exact.test", "10.0.0.1", True),
        ("exact.test", "127.0.0.1", True),
        ("exact.test", "203.0.114.1", True),
        ("a.wild.test", "8.8.8.8", True),
        ("a.wild.test", "2606:4700::1", True),
        ("a.wild.test", "10.0.0.1", False),
        ("a.wild.test", "127.0.0.1", False),
        ("a.wild.test", "::1", False),
        ("a.wild.test", "::ffff:127.0.0.1", False),
        ("a.wild.test", "100.64.0.1", False),
        ("a.wild.test", "fd00::1", False),
        ("a.wild.test", "172.20.0.9", True),
        ("other.test", "8.8.8.8", False),
        ("8.8.8.8", "8.8.8.8", False),
        ("172.20.0.9", "172.20.0.9", True),
    ],
)
def test_where_a_name_may_lead(host: str, address: str, allowed: bool) -> None:
    """One that is listed itself to private addresses too; one of many to public ones and to listed networks only."""
    some = policy("exact.test", "*.wild.test", "172.20.0.0/16")
    if allowed:
        some.check_address(host, address)
    else:
        with pytest.raises(ValueError, match=r".+"):
            some.check_address(host, address)


@pytest.fixture
def canary() -> Iterator[tuple[int, list[object]]]:
    """A listener that nobody may connect to: its port, and who did."""
    heard: list[object] = []
    listener = socket.create_server(("127.0.0.1", 0))

    def listen() -> None:
        while True:
            try:
                heard.append(listener.accept())
            except OSError:
                return

    threading.Thread(target=listen, daemon=True).start()
    yield listener.getsockname()[1], heard
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


def test_a_name_that_changes_where_it_leads_reaches_nobody(canary: tuple[int, list[object]]) -> None:
    """DNS rebinding: a good address for the check, a bad one later. What is judged is what would be used."""
    port, heard = canary
    answers = [["127.0.0.1"], ["169.254.169.254", "127.0.0.1", "::ffff:127.0.0.1"], ["93.184.215.14"], ["127.0.0.1"]]

    async def resolver(_name: str, _port: int) -> list[str]:
        return answers.pop(0)

    async def test() -> None:
        upstream = Upstream(
            "test", f"http://a.wild.test:{port}", Limits(), policy=policy("*.wild.test"), resolver=resolver, tls=_no_tls
        )
        for _ in range(2):
            with pytest.raises(UpstreamError, match=r"not public|never allowed"):
                await upstream.find(1)
            upstream._resolve_after_s = 0.0
        await upstream.find(1)
        assert [instance.address for instance in upstream.instances] == ["93.184.215.14"]
        upstream._resolve_after_s = 0.0
        upstream.tick(0.0)
        while answers or upstream._resolving is not None:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0)
        assert upstream.instances == ()
        upstream.close()

    asyncio.run(test())
    assert heard == []


def _no_tls() -> ssl.SSLContext:
    raise AssertionError("plain HTTP needs no context")
