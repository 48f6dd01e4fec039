"""The route table."""

from __future__ import annotations

import pytest

from gateway.edge.routes import Route, RouteTable, static_routes
from gateway.registry.table import Group

CATALOGUE, USER = Group([]), Group([])
TABLE = RouteTable(static_routes(catalogue=CATALOGUE, user=USER))


@pytest.mark.parametrize(
    ("path", "name", "group"),
    [
        ("/", "home", CATALOGUE),
        ("/api/products", "products", CATALOGUE),
        ("/api/products/", "products", CATALOGUE),
        ("/api/products/7", "products", CATALOGUE),
        ("/api/products/7/deep/er", "products", CATALOGUE),
        ("/static/products/1.svg", "static", CATALOGUE),
        ("/api/v1/users", "users", USER),
        ("/api/v1/users/7", "users", USER),
        ("/catalogue/docs", "docs", CATALOGUE),
        ("/catalogue/docs/assets/ui.js", "docs", CATALOGUE),
        ("/catalogue/openapi.json", "openapi", CATALOGUE),
        ("/user/openapi.json", "openapi", USER),
    ],
)
def test_a_path_leads_to_the_service_of_its_longest_prefix(path: str, name: str, group: Group) -> None:
    """Section 5 of the contract: the static prefixes, and all that is below them."""
    route = TABLE.find(path)
    assert route is not None
    assert (route.name, route.group) == (name, group)


@pytest.mark.parametrize(
    "path",
    [
        "/api/productsX", "/api/product", "/api", "/api/", "/api/v1", "/api/v1/usersX/1", "//", "/x", "/API/products",
        "//api/products", "/api//products", "/catalogue", "/catalogue/metrics", "/catalogue/health",
        "/catalogue/openapi.json/x", "/user/metrics", "/staticX", "",
    ],
)  # fmt: skip
def test_prefixes_match_whole_segments_only(path: str) -> None:
    """A path that only begins like a route, or differs in case or slashes, is nobody's."""
    assert TABLE.find(path) is None


def test_the_longest_prefix_wins_whatever_the_order() -> None:
    """A more special route beats a more general one, declared before or after it."""
    table = RouteTable([Route("all", "/a", USER), Route("some", "/a/b/c", CATALOGUE), Route("mid", "/a/b", USER)])
    assert [getattr(table.find(path), "name", None) for path in ("/a", "/a/b", "/a/b/c", "/a/b/c/d", "/a/x")] == [
        "all", "mid", "some", "some", "all",
    ]  # fmt: skip


def test_a_hostile_path_costs_no_more_than_any_other() -> None:
    """The number of look-ups depends on the table: thousands of segments are cut once."""
    assert TABLE.find("/a" * 4000) is None
    assert TABLE.find("/api/products" + "/a" * 4000) is not None
