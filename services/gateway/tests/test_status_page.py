"""`GET /status`: what it says of routes and traffic, and that a browser shows it."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from chassis.settings import load
from chassis.testing import wait_until
from chassis.testing.browser import draw, screenshot
from gateway import db
from gateway.settings import Settings

if TYPE_CHECKING:
    from services.gateway.tests.conftest import Backend, Gateway

StartGateway = Callable[..., "Gateway"]
JSON = {"Content-Type": "application/json"}
CANARY = {"tenant": "storefront", "service": "catalogue", "env": "prod", "version": "v2", "weight": 25}


@pytest.fixture
def shop(start_gateway: StartGateway, backend: Backend, user: Backend, database_url: str) -> Gateway:
    """A gateway whose registry has a canary of the catalogue, and a service of somebody else with a hostile name."""
    db.create(load(Settings, database_url=database_url, catalogue_url=backend.url, user_url=user.url))
    gateway = start_gateway(DATABASE_URL=database_url, USER_URL=user.url, CACHE_BYTES="0")
    for route in (CANARY | {"url": user.url}, CANARY | {"tenant": "team-a", "url": f"{user.url}/a'b", "active": False}):
        answer = gateway.ask("POST", "/api/v1/routes", JSON, json.dumps(route).encode())
        assert answer.status == 201, answer.body
    wait_until(lambda: all("team-a" in page(gateway) for _ in range(8)), timeout_s=5)
    return gateway


def page(gateway: Gateway) -> str:
    """The page's HTML."""
    answer = gateway.ask("GET", "/status")
    assert (answer.status, answer.get("content-type")) == (200, "text/html; charset=utf-8")
    assert "script" not in (answer.get("content-security-policy") or "script")
    return answer.body.decode()


def rows(html: str) -> list[list[str]]:
    """The text of every cell of every row about a route."""
    found = re.findall(r'<tr class="(?:on|off)">(.*?)</tr>', html, re.DOTALL)
    return [
        [
            re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", cell)).strip()
            for cell in re.findall(r"<td.*?</td>", row, re.DOTALL)
        ]
        for row in found
    ]


def test_it_shows_every_route_its_share_and_its_instances(shop: Gateway, backend: Backend, user: Backend) -> None:
    """Of both workers together: 200 requests are split 4 to 1, and the page says so; what is off is shown as off."""
    with shop.client() as client:
        assert all(client.ask("GET", f"/api/products/{number}").status == 200 for number in range(200))
    wait_until(lambda: shop.metric(ALL_OF_V1) + shop.metric(ALL_OF_V2) == 200, timeout_s=5)
    first, canary, users, other = rows(page(shop))
    assert [first[0], first[1], first[2], first[3]] == ["v1", backend.url, "yes", "100"]
    assert [canary[0], canary[1], canary[3]] == ["v2", user.url, "25"]
    assert "(wanted 80.0%)" in first[4]
    assert "(wanted 20.0%)" in canary[4]
    shares = [float(re.findall(r"[0-9.]+", row[4])[0]) for row in (first, canary)]
    assert shares == [pytest.approx(80, abs=2), pytest.approx(20, abs=2)]
    assert f"127.0.0.1:{user.port} closed" in users[8]
    assert [other[2], other[5]] == ["no", "0.0"]


ALL_OF_V1 = (
    "gateway_route_requests_total"
    '{cache="miss",code="2xx",env="prod",service="catalogue",tenant="storefront",version="v1"}'
)
ALL_OF_V2 = ALL_OF_V1.replace("v1", "v2")


def test_it_loads_nothing_and_escapes_what_it_shows(shop: Gateway) -> None:
    """No script, no style, no picture from anywhere; a URL is text and never markup."""
    html = page(shop)
    assert not re.search(r"<script|<link|<img|src=|url\(|@import", html)
    assert "/a&#39;b" in html


def test_it_says_what_is_wrong(start_gateway: StartGateway, backend: Backend, user: Backend) -> None:
    """A service that is down turns the heading and the title, and its breaker is open."""
    gateway = start_gateway(USER_URL=user.url, WEB_CONCURRENCY="1")
    assert "all is well" in wait_until(lambda: page(gateway))
    backend.stop()
    for _ in range(6):
        assert gateway.ask("GET", "/api/products/none").status == 503
    wait_until(lambda: "something is wrong" in page(gateway), timeout_s=5)
    html = page(gateway)
    assert "<title>Something is wrong" in html
    assert "open" in rows(html)[0][8]


@pytest.mark.slow
def test_a_browser_shows_it(shop: Gateway, tmp_path: Path) -> None:
    """Drawn whole, with nothing refused by the page's own policy, and not wider than a window."""
    drawn = draw(f"{shop.url}/status", tmp_path, budget_ms=3000)
    assert "storefront / catalogue / prod" in drawn.html
    assert drawn.html.count("<tr") >= 4
    assert not re.search(r"Content Security Policy|Uncaught|ERR_", drawn.log)
    picture = screenshot(f"{shop.url}/status", tmp_path)
    assert struct.unpack(">II", picture[16:24]) == (1280, 900)
