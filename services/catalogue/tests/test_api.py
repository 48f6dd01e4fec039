"""The catalogue's API in process: what comes back for what is asked, in both modes."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import psycopg2
import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from catalogue.schemas import ProductBody

MakeApp = Callable[..., Any]


@pytest.fixture(params=["json", "db"])
def either_client(request: pytest.FixtureRequest) -> FlaskClient:
    """A client with the packaged products: one from the file, one from the database."""
    client: FlaskClient = request.getfixturevalue("client" if request.param == "json" else "db_client")
    return client


def ids(answer: TestResponse) -> list[int]:
    """The ids in the order of the answer."""
    assert answer.status_code == 200, answer.text
    return [product["id"] for product in answer.get_json()]


def links(answer: TestResponse) -> dict[str, str]:
    """The addresses in `Link` by their relation."""
    return {name: url for url, name in re.findall(r'<([^>]*)>; rel="(\w+)"', answer.headers.get("Link", ""))}


def test_without_parameters_all_products_come_as_an_array(either_client: FlaskClient) -> None:
    """A JSON array by id, counted, without pages, and each product has the fields of the contract."""
    answer = either_client.get("/api/products")
    assert ids(answer) == list(range(1, 17))
    assert answer.headers["X-Total-Count"] == "16"
    assert "Link" not in answer.headers
    for product in answer.get_json():
        assert list(product) == list(ProductBody.model_fields)
        ProductBody.model_validate_json(orjson.dumps(product))


FOUND: tuple[tuple[str, list[int]], ...] = (
    ("q=crane", [1, 12]),
    ("q=CR%C3%82NE", [1, 12]),
    ("q=children%20toy", [2, 3, 16]),
    ("q=", list(range(1, 17))),
    ("q=no+such+thing", []),
    ("q=100%25", []),
    ("category=toys", [3, 16]),
    ("tag=wet-folded", [4]),
    ("tag=toy&in_stock=true", [2, 3, 16]),
    ("in_stock=false", [7, 14]),
    ("min_price=24&max_price=48.00", [7, 15]),
    ("min_price=50&max_price=1", []),
    ("sort=price&per_page=2", [3, 2]),
    ("sort=-price&per_page=1", [7]),
    ("sort=newest&per_page=2", [16, 15]),
    ("sort=-newest&per_page=3", [11, 12, 1]),
    ("page=2&per_page=10", [11, 12, 13, 14, 15, 16]),
    ("page=1000000&per_page=100", []),
)


def test_parameters(either_client: FlaskClient) -> None:
    """Each filter, order and page, the same in both modes."""
    for query, wanted in FOUND:
        assert ids(either_client.get(f"/api/products?{query}")) == wanted, query


def test_names_are_sorted_as_people_do(either_client: FlaskClient) -> None:
    """By name, small and capital letters together; `-` reverses."""
    names = [product["name"] for product in either_client.get("/api/products?sort=name").get_json()]
    assert names == sorted(names, key=str.lower)
    backwards = [product["name"] for product in either_client.get("/api/products?sort=-name").get_json()]
    assert backwards == names[::-1]


def test_links_lead_through_all_pages(either_client: FlaskClient) -> None:
    """Following `next` from the first page visits every match once; every link keeps the other parameters."""
    answer = either_client.get("/api/products?q=paper&sort=-price&per_page=5&min_price=4")
    seen = ids(answer)
    while "next" in links(answer):
        answer = either_client.get(links(answer)["next"])
        seen += ids(answer)
        for link in links(answer).values():
            assert {"per_page=5", "q=paper", "min_price=4.00", "sort=-price"} < set(re.split("[?&]", link))
    whole = either_client.get("/api/products?q=paper&sort=-price&min_price=4")
    assert seen == ids(whole)
    assert answer.headers["X-Total-Count"] == str(len(seen)) == whole.headers["X-Total-Count"]
    assert list(links(answer)) == ["first", "prev", "last"]


def test_a_page_beyond_the_last_is_empty_and_leads_back(either_client: FlaskClient) -> None:
    """No error: the list may have become shorter while somebody read it."""
    answer = either_client.get("/api/products?page=9&per_page=10")
    assert answer.get_json() == []
    pages = {name: re.findall(r"[?&]page=(\d+)", url) for name, url in links(answer).items()}
    assert pages == {"first": ["1"], "prev": ["2"], "last": ["2"]}


@pytest.mark.parametrize("data_source", ["json", "db"])
def test_too_many_products_come_in_pages_also_when_nobody_asked(
    make_app: MakeApp, database_url: str, data_source: str
) -> None:
    """Above CATALOGUE_MAX_UNPAGINATED the first page comes, and `Link` leads on; a narrower search comes whole."""
    env = {"DATA_SOURCE": data_source, "DATABASE_URL": database_url, "CATALOGUE_MAX_UNPAGINATED": "15"}
    client = make_app(**env).test_client()
    answer = client.get("/api/products")
    assert links(answer) == {
        "first": "/api/products?page=1&per_page=50",
        "last": "/api/products?page=1&per_page=50",
    }
    assert answer.headers["X-Total-Count"] == "16"
    assert "Link" not in client.get("/api/products?in_stock=true").headers


def test_one_product(either_client: FlaskClient) -> None:
    """A product's own page is the same object as in the list."""
    product = either_client.get("/api/products/6").get_json()
    assert product == either_client.get("/api/products").get_json()[5]
    assert product["price"] == {"amount": "12.50", "currency": "EUR"}
    assert product["created_at"] == "2025-03-24T09:00:00+00:00"


@pytest.mark.parametrize("path", ["/api/products", "/api/products?q=paper&page=1", "/api/products/1", "/"])
def test_answers_can_be_kept_and_revalidated(either_client: FlaskClient, path: str) -> None:
    """Strong ETag, public caching, 304 without a body for who has it, the same headers for HEAD."""
    answer = either_client.get(path)
    etag = answer.headers["ETag"]
    assert re.fullmatch(r'"[^"]+"', etag)
    kept = "public, max-age=10, stale-while-revalidate=60, stale-if-error=86400"
    assert answer.headers["Cache-Control"] == kept
    for condition in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        unchanged = either_client.get(path, headers={"If-None-Match": condition})
        assert (unchanged.status_code, unchanged.data) == (304, b"")
        assert unchanged.headers["ETag"] == etag
        assert unchanged.headers["Cache-Control"] == answer.headers["Cache-Control"]
    assert either_client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    head = either_client.head(path)
    assert head.data == b""
    assert head.headers["Content-Length"] == str(len(answer.data))
    assert head.headers["ETag"] == etag


def test_the_etag_changes_with_the_products(db_client: FlaskClient, database_url: str) -> None:
    """A changed row is another answer, on the home page, too."""
    before = {path: db_client.get(path).headers["ETag"] for path in ("/api/products", "/api/products/1", "/")}
    with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("UPDATE products SET stock = stock - 1 WHERE id = 1")
    for path, etag in before.items():
        answer = db_client.get(path, headers={"If-None-Match": etag})
        assert (answer.status_code, answer.headers["ETag"] != etag) == (200, True)


def test_the_source_is_named(client: FlaskClient, db_client: FlaskClient) -> None:
    """X-Data-Source says where the products came from."""
    for path in ("/", "/api/products", "/api/products?page=1", "/api/products/1", "/api/products/999"):
        assert client.get(path).headers["X-Data-Source"] == "json"
        assert db_client.get(path).headers["X-Data-Source"] == "db"


def test_the_seeds_insert_works(db_client: FlaskClient, database_url: str) -> None:
    """The SQL of the former catalogue's documents fills our table; what it does not say has defaults."""
    with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(
            """
            INSERT INTO products (description, image_url, name) VALUES
                ('Beautiful origami paper', '/static/images/origami/001-origami.png', 'Origami Paper Set'),
                ('Instructional book', '/static/images/origami/003-origami-3.png', 'Origami Guide')
            """
        )
    product = db_client.get("/api/products?sort=newest").get_json()[0]
    assert product.pop("created_at").endswith("+00:00")
    assert product == {
        "id": 17, "name": "Origami Paper Set", "description": "Beautiful origami paper",
        "image_url": "/static/images/origami/001-origami.png", "price": {"amount": "0.00", "currency": "EUR"},
        "category": "other", "tags": [], "stock": 0,
    }  # fmt: skip
    assert ids(db_client.get("/api/products?q=instructional")) == [12, 18]
    assert db_client.get(product["image_url"]).content_type == "image/png"


def test_every_picture_is_there(client: FlaskClient) -> None:
    """Each `image_url` answers with a picture that may be kept; SVG is drawn, not only named."""
    for product in client.get("/api/products").get_json():
        picture = client.get(product["image_url"])
        assert picture.status_code == 200
        assert picture.content_type == "image/svg+xml"
        assert picture.data.startswith(b"<svg ")
        assert picture.headers["Cache-Control"] == "public, max-age=3600"
        again = client.get(product["image_url"], headers={"If-None-Match": picture.headers["ETag"]})
        assert again.status_code == 304


def test_the_home_page_shows_products_and_facts(either_client: FlaskClient) -> None:
    """A welcome, every product with its picture, the system facts and the version; all it refers to is there."""
    page = either_client.get("/")
    assert page.content_type == "text/html; charset=utf-8"
    assert "Welcome" in page.text
    for product in either_client.get("/api/products").get_json():
        assert product["name"].replace("&", "&amp;") in page.text
        assert f'src="{product["image_url"]}"' in page.text
    for fact in ("Hostname", "Address", "Container", "Kubernetes", "<dd>1.0.0</dd>"):
        assert fact in page.text
    for address in set(re.findall(r'(?:src|href)="([^"#]+)"', page.text)):
        assert either_client.get(f"/{address.removeprefix('./').lstrip('/')}").status_code == 200, address


def test_the_home_page_escapes_what_products_say(make_app: MakeApp, products_file: Callable[[Any], Path]) -> None:
    """A product's text is text, never markup."""
    path = products_file([{"id": 1, "name": "<script>alert(1)</script>", "image_url": '"><script>'}])
    page = make_app(PRODUCTS_FILE=str(path)).test_client().get("/")
    assert "<script>" not in page.text
    assert "&lt;script&gt;alert(1)" in page.text
    assert "script-src" not in page.headers["Content-Security-Policy"]
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_an_empty_shelf_is_no_error(make_app: MakeApp, products_file: Callable[[Any], Path]) -> None:
    """No products: an empty array and a page that says so."""
    client = make_app(PRODUCTS_FILE=str(products_file([]))).test_client()
    assert client.get("/api/products").get_json() == []
    only = "/api/products?page=1&per_page=50"
    assert links(client.get("/api/products?page=1")) == {"first": only, "last": only}
    assert "no products yet" in client.get("/").text


@pytest.mark.parametrize("mode", ["client", "db_client"])
def test_gauges(mode: str, request: pytest.FixtureRequest) -> None:
    """Number of products, connection and source are exported next to the request metrics."""
    client: FlaskClient = request.getfixturevalue(mode)
    client.get("/api/products")
    text = client.get("/metrics").text
    connected = mode == "db_client"
    for line in (
        "catalogue_products_total 16.0",
        f"catalogue_db_connection_status {float(connected)}",
        f'catalogue_data_source{{source="db"}} {float(connected)}',
        f'catalogue_data_source{{source="json"}} {float(not connected)}',
        'catalogue_data_source{source="json-fallback"} 0.0',
        'catalogue_http_requests_total{endpoint="get_products",method="GET",status="200"} 1.0',
    ):
        assert f"\n{line}\n" in text, line


@pytest.mark.parametrize(
    ("mode", "database", "checks"), [("client", "not_configured", []), ("db_client", "connected", ["database"])]
)
def test_health(mode: str, database: str, checks: list[str], request: pytest.FixtureRequest) -> None:
    """Healthy in both modes; only database mode has a database to report."""
    client: FlaskClient = request.getfixturevalue(mode)
    summary = client.get("/health").get_json()
    assert (summary["status"], summary["service"], summary["database"]) == ("healthy", "catalogue", database)
    ready = client.get("/health/ready").get_json()
    assert (ready["status"], list(ready["checks"])) == ("ready", checks)
    if checks:
        assert set(ready["checks"]["database"]["pool"]) == {"size", "in_use", "available", "waiting"}


@pytest.mark.parametrize("path", ["/", "/api/products", "/api/products/16", "/static/favicon.svg", "/static/none"])
def test_fixed_answers_are_those_of_the_endpoints(make_app: MakeApp, path: str) -> None:
    """With CORS every request goes through Flask, without it fixed answers do not: nobody can tell."""
    short, whole = (make_app(CORS_ORIGINS=origins).test_client() for origins in ("", "https://shop.example"))
    etag = whole.get(path).headers.get("ETag", '"none"')
    for method in ("GET", "HEAD", "POST"):
        for headers in ({}, {"If-None-Match": etag}):
            answers = [client.open(path, method=method, headers=headers) for client in (short, whole)]
            assert answers[0].status_code == answers[1].status_code
            found, wanted = (
                {
                    name: value
                    for name, value in answer.headers
                    if name not in ("X-Request-ID", "Vary") and not name.startswith("Access-Control-")
                }
                for answer in answers
            )
            if answers[0].status_code < 400:
                assert (found, answers[0].data) == (wanted, answers[1].data)
