"""The router: from a path to a service of a tenant, and to its versions."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from chassis.errors import NotFound, Unavailable
from gateway.edge.headers import Peers
from gateway.edge.request import Request
from gateway.edge.routes import Place, Prefix, Prefixes, Router
from gateway.registry.route import Route
from gateway.registry.table import Table

NOW = datetime(2026, 1, 1, tzinfo=UTC)
PEERS = Peers(trusted=(), internal=())


def route(number: int, name: str, *, active: bool = True, weight: int = 100) -> Route:
    """A route named `tenant/service/env/version`."""
    tenant, service, env, version = name.split("/")
    return Route(number, tenant, service, env, version, f"http://127.0.0.1:{number}", active, weight, NOW, NOW)


TABLE = Table(
    [
        route(1, "storefront/catalogue/prod/v1"),
        route(2, "storefront/user/prod/v1"),
        route(3, "team-a/payments/prod/v1", weight=90),
        route(4, "team-a/payments/prod/v2", weight=0),
        route(5, "team-a/payments/prod/v3", active=False),
        route(6, "team-a/payments/staging/v9"),
        route(7, "team-a/asleep/prod/v1", active=False),
    ]
)
ROUTER = Router(TABLE, env="prod")


def request(path: str, *, raw: str = "", query: str = "", **headers: str) -> Request:
    """A GET; header names with `_` for `-`."""
    scope: dict[str, Any] = {
        "method": "GET", "path": path, "raw_path": (raw or path).encode(), "query_string": query.encode(),
        "scheme": "http", "http_version": "1.1", "client": ("127.0.0.1", 1),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }  # fmt: skip
    return Request(scope, PEERS)


def place(path: str, **more: str) -> Place:
    """The place of a request for `path`."""
    return ROUTER.place(request(path, **more))


def versions(path: str, **more: str) -> set[str]:
    """The versions that requests like this one are spread over."""
    asked = request(path, **more)
    target = ROUTER.target(asked, ROUTER.place(asked))
    return {found.version for found in (target.choose() for _ in range(50)) if found is not None}


@pytest.mark.parametrize(
    ("path", "name", "service", "asked"),
    [
        ("/", "home", "catalogue", "/"),
        ("/api/products", "products", "catalogue", "/api/products"),
        ("/api/products/", "products", "catalogue", "/api/products/"),
        ("/api/products/7/deep/er", "products", "catalogue", "/api/products/7/deep/er"),
        ("/static/products/1.svg", "static", "catalogue", "/static/products/1.svg"),
        ("/api/v1/users", "users", "user", "/api/v1/users"),
        ("/api/v1/users/7", "users", "user", "/api/v1/users/7"),
        ("/links", "links_page", "links", "/links"),
        ("/api/v1/links/x", "links", "links", "/api/v1/links/x"),
        ("/s/x", "redirect", "links", "/s/x"),
        ("/qr/x.svg", "qr", "links", "/qr/x.svg"),
        ("/catalogue/docs", "docs", "catalogue", "/docs"),
        ("/catalogue/docs/assets/ui.js", "docs", "catalogue", "/docs/assets/ui.js"),
        ("/catalogue/openapi.json", "openapi", "catalogue", "/openapi.json"),
        ("/user/api/v1/users/7", "users", "user", "/api/v1/users/7"),
    ],
)
def test_a_path_leads_to_the_service_of_its_longest_prefix(path: str, name: str, service: str, asked: str) -> None:
    """Section 5 of the contract, and all that is below each prefix: of the house, in the gateway's environment."""
    assert place(path) == Place(name, "storefront", service, "prod", asked, asked.encode())


@pytest.mark.parametrize(
    "path",
    [
        "/api/productsX", "/api/product", "/api", "/api/", "/api/v1", "/api/v1/usersX/1", "//", "/x", "/API/products",
        "//api/products", "/api//products", "/catalogue", "/catalogue/metrics", "/catalogue/health",
        "/catalogue/openapi.json/x", "/user/metrics", "/staticX", "", "/t", "/t/", "/t/a", "/t/a/", "/t//b/c",
        "/t/A/b/c", "/t/a_b/c", "/t/" + "a" * 64 + "/b",
    ],
)  # fmt: skip
def test_anything_else_is_nobodys(path: str) -> None:
    """A path that only begins like a prefix, differs in case or slashes, or has names that are none."""
    with pytest.raises(NotFound):
        place(path)


@pytest.mark.parametrize(
    ("path", "raw", "asked", "raw_asked"),
    [
        ("/t/team-a/payments", "", "/", b"/"),
        ("/t/team-a/payments/", "", "/", b"/"),
        ("/t/team-a/payments/a/b c", "/t/team-a/payments/a/b%20c", "/a/b c", b"/a/b%20c"),
        ("/t/team-a/payments/a/b", "/t/team-a/payments/a%2Fb", "/a/b", b"/a%2Fb"),
    ],
)
def test_below_t_the_rest_of_the_path_is_the_services(path: str, raw: str, asked: str, raw_asked: bytes) -> None:
    """As it was written, escapes and all."""
    assert place(path, raw=raw) == Place("tenant", "team-a", "payments", "prod", asked, raw_asked)


@pytest.mark.parametrize(
    ("path", "raw"),
    [
        ("/t/team-a/payments/x", "/%74/team-a/payments/x"),
        ("/t/team-a/payments/x", "/t/team%2Da/payments/x"),
        ("/t/team-a/payments/x", "/t/team-a%2Fpayments/x"),
        ("/user/api/v1/users", "/%75ser/api/v1/users"),
    ],
)
def test_what_is_taken_off_a_path_must_be_written_plainly(path: str, raw: str) -> None:
    """With escapes in it nobody could say what would be left."""
    with pytest.raises(NotFound):
        place(path, raw=raw)


def test_the_longest_prefix_wins_whatever_the_order() -> None:
    """A more special prefix beats a more general one, declared before or after it."""
    prefixes = Prefixes([Prefix("all", "/a", "x"), Prefix("some", "/a/b/c", "x"), Prefix("mid", "/a/b", "x")])
    found = [prefixes.find(path) for path in ("/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/x")]
    assert [prefix and prefix.name for prefix in found] == ["all", "mid", "some", "some", "all"]


def test_a_hostile_path_costs_no_more_than_any_other() -> None:
    """The number of look-ups depends on the prefixes: thousands of segments are cut once."""
    with pytest.raises(NotFound):
        place("/a" * 4000)
    assert place("/api/products" + "/a" * 4000).name == "products"


def test_a_version_can_be_named() -> None:
    """An active one, whatever its weight; without a name those that have a weight share the requests."""
    path = "/t/team-a/payments/x"
    assert versions(path) == {"v1"}
    assert versions(path, x_route_version="v2") == {"v2"}
    for version in ("v3", "v4", "V1", ""):
        with pytest.raises(NotFound):
            versions(path, x_route_version=version)


def test_an_environment_can_be_named_below_t_only() -> None:
    """On the prefixes of the house a shopper could reach what is being tried out."""
    assert versions("/t/team-a/payments/x", x_route_env="staging") == {"v9"}
    assert place("/api/products", x_route_env="staging").env == "prod"


def test_who_is_not_known_is_404_and_who_takes_nothing_is_503() -> None:
    """A tenant, service or environment that there is not, and a service whose versions are all switched off."""
    for path, env in (("/t/team-b/payments", "prod"), ("/t/team-a/x", "prod"), ("/t/team-a/payments", "x")):
        with pytest.raises(NotFound):
            versions(path, x_route_env=env)
    with pytest.raises(NotFound):
        versions("/links")
    with pytest.raises(Unavailable):
        versions("/t/team-a/asleep")
