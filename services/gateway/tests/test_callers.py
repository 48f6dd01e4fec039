"""Whom the links service is told that a request is from, and the form that a key may come in."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from chassis.database import Database
from chassis.metrics import Metrics
from chassis.settings import load
from gateway import db
from gateway.registry.keys import digest
from gateway.registry.repository import Registry
from gateway.settings import Settings

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Backend, Gateway, Message

StartGateway = Callable[..., "Gateway"]
LINKS = "/api/v1/links"
FORM = {"Content-Type": "application/x-www-form-urlencoded; charset=utf-8"}
KEYS = {"sf_shop-of-this-test": "links:write", "sf_reader-of-this-test": "users:read"}
SHOP, READER = KEYS


@pytest.fixture(scope="session")
def database_template(registry_template: str) -> str:
    """A registry with nothing in it."""
    return registry_template


@pytest.fixture
def links(start_gateway: StartGateway, backend: Backend, database_url: str) -> Gateway:
    """A gateway with a links service, and keys named `shop` and `reader`."""
    urls = dict.fromkeys(("catalogue_url", "user_url", "links_url"), backend.url)
    db.create(load(Settings, database_url=database_url, **urls))
    metrics = Metrics(service="gateway", version="1", commit="c")
    with closing(Database(load(Settings, database_url=database_url).db, application="test", metrics=metrics)) as opened:
        for text, scope in KEYS.items():
            name = text[3:].partition("-")[0]
            Registry(opened).add_key(name=name, digest=digest(text), scopes=[scope], limit=None)
    return start_gateway(
        LINKS_URL=backend.url, DATABASE_URL=database_url, WEB_CONCURRENCY="1", LOG_LEVEL="DEBUG"
    )  # fmt: skip


def test_callers(links: Gateway, backend: Backend) -> None:
    """The service is told the truth, and a key may come in its form. One gateway is enough for both."""
    _check_what_is_told(links)
    _check_the_form(links, backend)


def _check_what_is_told(links: Gateway) -> None:
    """Name and scopes of the key, whatever the client says; nothing where there is none, and other services never."""
    forged = {"X-Caller": "admin", "X-Caller-Scopes": "admin", "x-CALLER-refused": "200", "Connection": "x-caller"}

    def told(path: str, key: str | None) -> dict[str, str]:
        answer = links.ask("GET", path, forged, key=key)
        assert answer.status == 200
        found: dict[str, str] = {
            name.lower(): value for name, value in answer.json()["headers"] if name.lower().startswith("x-caller")
        }
        return found

    mine = {"x-caller": "shop", "x-caller-scopes": "links:write"}
    for path in (LINKS, f"/links{LINKS}", f"/t/storefront/links{LINKS}"):
        assert told(path, SHOP) == mine
    assert told("/s/abc", SHOP) == mine
    assert told("/s/abc", None) == {}
    assert told("/api/v1/users", READER) == {}
    assert links.ask("GET", LINKS, forged, key=READER).status == 403
    assert links.ask("POST", LINKS, forged, b"{}", key=None).status == 401

    boss = links.ask("GET", LINKS, forged).json()["headers"]
    assert ["x-caller", "admin"] in boss
    assert ["x-caller-scopes", "admin"] in boss


def _check_the_form(links: Gateway, backend: Backend) -> None:
    """A key in it counts as one in a header does, and goes no further; without a good one the page is to ask again."""

    def send(body: bytes, *, path: str = "/links", key: str | None = None, headers: dict[str, str] = FORM) -> Message:
        return links.ask("POST", path, headers, body, key=key)

    def passed_on(body: bytes, **options: str | None) -> tuple[str, dict[str, str]]:
        answer = send(body, **options).json()  # type: ignore[arg-type]
        names = {name.lower(): value for name, value in answer["headers"]}
        assert names["content-length"] == str(len(answer["body"]))
        return answer["body"], {name[9:]: value for name, value in names.items() if name.startswith("x-caller-")}

    good, bad = {"scopes": "links:write"}, {"refused": "401"}
    shop = SHOP.encode()
    assert passed_on(b"url=https%%3A%%2F%%2Fa&key=%b&code=" % shop) == ("url=https%3A%2F%2Fa&code=", good)
    assert passed_on(b"%%6bey=+%b+&a=1" % shop) == ("a=1", good)
    assert passed_on(b"key=%b" % shop) == ("", good)
    assert passed_on(b"a=1", key=SHOP) == ("a=1", good)
    assert passed_on(b"a=1&key=nobody", key=SHOP) == ("a=1", good)
    assert passed_on(b"a=1&key=%b" % READER.encode()) == ("a=1", {"refused": "403"})
    for body in (b"a=1", b"a=1&key=", b"key=sf_nobody&a=1", b"key=%ff%00\xff&a=1"):
        assert passed_on(body) == ("a=1", bad)
    assert send(b"key=%b&key=x" % shop).status == 400
    assert send(b"&" * 50 + b"key=%b" % shop).status == 400
    assert send(b"a" * 70_000).status == 413
    assert send(b"key=%b" % shop, path=LINKS).status == 401
    assert send(b"key=%b" % shop, headers={"Content-Type": "text/plain"}).status == 401
    assert send(b"key=%b" % shop, path="/api/products").status == 200  # open, and none of our business
    seen = [message for message in backend.seen if message.target != "/api/products"]
    assert not [message for message in seen if shop in message.body or SHOP in str(message.headers)]
    assert SHOP not in links.text()
