"""Both sources answer every query alike: random products and queries, in memory and in a real PostgreSQL."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import psycopg2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from catalogue import repository
from catalogue.answers import Caching
from catalogue.folding import fold
from catalogue.products import PACKAGED, Product, read_file
from catalogue.queries import EVERYTHING, ProductQuery
from catalogue.repository import ProductRepository
from catalogue.settings import CatalogueDatabaseSettings
from catalogue.shelves import Shelves
from catalogue.sources import DatabaseSource, JsonSource
from chassis.database import Database
from chassis.metrics import Metrics
from chassis.servers import PostgresServer
from chassis.settings import parse_database_url

MOST = 6
"""CATALOGUE_MAX_UNPAGINATED of these tests: small, so that random shelves often hold more."""

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
CACHING = Caching(source="test", cache_control="no-cache")

# Small alphabets, so that words are often found, with what is special to LIKE, to folding and to PostgreSQL's lower().
LETTERS = st.sampled_from(
    [*"aAbB %_\\'\n\t", "é", "É", "e", "\u0301", "ß", "Σ", "ς", "Я", "я", "İ", "ﬁ", "¨", "￼", "🦢"]
)
ANYTHING = st.characters(exclude_categories=("Cs", "Cn", "Co"), exclude_characters="\0")
WORDS = st.text(LETTERS, min_size=1, max_size=6) | st.text(ANYTHING, min_size=1, max_size=6)
NAMES = WORDS
CATEGORIES = st.sampled_from(["animals", "Animals", "toys", "a'b"])
TAGS = st.sampled_from(["gift", "Gift", 'a"b', "{x,y}", "NULL", "é", "back\\slash"])
PRICES = st.sampled_from([Decimal(text) for text in ("0.00", "3.90", "4.00", "12.50", "9999999999.99")])
TIMES = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 30), timezones=st.just(UTC)) | st.just(  # noqa: DTZ001
    datetime(2025, 2, 3, 9, tzinfo=UTC)
)


@st.composite
def shelves(draw: st.DrawFn) -> list[Product]:
    """Up to ten products with distinct ids, in no order."""
    ids = draw(st.lists(st.integers(1, 2**31 - 1), max_size=10, unique=True))
    return [
        Product(
            id=number,
            name=draw(NAMES),
            description=draw(st.text(ANYTHING, max_size=10)),
            image_url="",
            price=draw(PRICES),
            currency=draw(st.sampled_from(["EUR", "USD"])),
            category=draw(CATEGORIES),
            tags=draw(st.lists(TAGS, max_size=3)),
            stock=draw(st.integers(0, 2)),
            created_at=draw(TIMES),
        )
        for number in ids
    ]


AMOUNTS = st.sampled_from([None, "0.00", "4.00", "4.01", "9999999999.99"])
QUERIES = st.builds(
    ProductQuery,
    page=st.none() | st.integers(1, 4) | st.just(1_000_000),
    per_page=st.none() | st.integers(1, 4) | st.just(100),
    q=st.none() | st.lists(WORDS, max_size=2).map(" ".join),
    category=st.none() | CATEGORIES,
    tag=st.none() | TAGS,
    min_price=AMOUNTS,
    max_price=AMOUNTS,
    in_stock=st.none() | st.booleans(),
    sort=st.sampled_from([None, "name", "-name", "price", "-price", "newest", "-newest"]),
)


@pytest.fixture(scope="module")
def database_url_of_module(postgres_server: PostgresServer, database_template: str) -> Iterator[str]:
    """A database for all examples: hypothesis runs many in one test."""
    yield postgres_server.create_database("catalogue_sources", template=database_template)
    postgres_server.drop_database("catalogue_sources")


@pytest.fixture(scope="module")
def connection(database_url_of_module: str) -> Iterator[Any]:
    """A connection to that database, to change it behind the source's back."""
    with closing(psycopg2.connect(database_url_of_module)) as found:
        found.autocommit = True
        yield found


@pytest.fixture(scope="module")
def database_source(database_url_of_module: str) -> Iterator[DatabaseSource]:
    """The source under test, reading that database."""
    options = {**parse_database_url(database_url_of_module), "operation_timeout_ms": 10_000}
    database = Database(
        CatalogueDatabaseSettings(**options),
        application="test",
        metrics=Metrics(service="test", version="1", commit="c"),
    )
    yield DatabaseSource(ProductRepository(database, max_unpaginated=MOST), caching=CACHING, max_unpaginated=MOST)
    database.close()


def stock(connection: Any, products: list[Product]) -> None:
    """Let the table hold these products and no others."""
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM products")
        for _ in repository.upsert(cursor, products):
            pass


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(products=shelves(), queries=st.lists(QUERIES, min_size=1, max_size=6))
def test_both_sources_answer_alike(
    connection: Any, database_source: DatabaseSource, products: list[Product], queries: list[ProductQuery]
) -> None:
    """Bodies, totals, links and ETags are the same bytes, whatever is on the shelves and whatever is asked for."""
    stock(connection, products)
    json_source = JsonSource(products, caching=CACHING, max_unpaginated=MOST)
    assert json_source.count() == database_source.count()
    for query in [EVERYTHING, *queries]:
        assert json_source.products(query) == database_source.products(query)
    for number in [*(product.id for product in products), 7, 2**31, 2**63 - 1]:
        assert json_source.product(number) == database_source.product(number)


@settings(max_examples=300, deadline=None)
@given(text=st.text(LETTERS, max_size=20) | st.text(ANYTHING, max_size=20))
def test_python_and_postgresql_fold_alike(connection: Any, text: str) -> None:
    """`fold` and `catalogue_fold` give the same text for any text, in a database of the C locale, too."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT catalogue_fold(%s)", (text,))
        assert cursor.fetchone()[0] == fold(text)


@pytest.mark.parametrize(
    ("text", "folded"),
    [
        ("Paper Crane", "paper crane"),
        ("Crêpe ÉTOILE", "crepe etoile"),
        ("Ångström", "angstrom"),
        ("ЖУРАВЛЬ", "журавль"),
        ("ΌΡΙΓΚΆΜΙ", "οριγκαμι"),
        ("ORIGAMI 折り紙", "origami 折り紙"),
    ],
)
def test_accents_and_case_are_folded(text: str, folded: str) -> None:
    """What people would call the same letters is the same text."""
    assert fold(text) == folded
    assert fold(folded) == folded


def test_the_packaged_products_survive_the_database(connection: Any, database_source: DatabaseSource) -> None:
    """Every product's JSON is the same in both modes."""
    products = read_file(PACKAGED)
    stock(connection, products)
    json_source = JsonSource(products, caching=CACHING, max_unpaginated=MOST)
    for product in products:
        assert json_source.product(product.id) == database_source.product(product.id)


def test_a_changed_row_is_seen_at_once(connection: Any, database_source: DatabaseSource) -> None:
    """Nothing is remembered in database mode."""
    stock(connection, [])
    assert database_source.products(EVERYTHING).body == b"[]"
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO products (name) VALUES ('Swan') RETURNING id")
        (number,) = cursor.fetchone()
    assert b"Swan" in database_source.products(EVERYTHING).body
    assert database_source.product(number) is not None


def test_a_query_that_was_asked_before_is_remembered() -> None:
    """The very same answer comes again, and answers stay within their budget of bytes."""
    source = JsonSource(read_file(PACKAGED), caching=CACHING, max_unpaginated=1000)
    query = ProductQuery(q="paper", sort="-price")
    assert source.products(query) is source.products(ProductQuery(q="paper", sort="-price"))
    assert source.products(EVERYTHING) is source.products(EVERYTHING)


@pytest.mark.parametrize("query", [ProductQuery(page=1), ProductQuery(category="toys"), ProductQuery(tag="gift")])
@pytest.mark.parametrize("sort", [None, "-price"])
def test_a_page_of_a_shelf_looks_at_no_other_product(query: ProductQuery, sort: str | None) -> None:
    """All products, a category's or a tag's are laid out in every order that was asked for: the next page finds the
    same list, which nobody has copied, filtered or sorted again.
    """
    stocked = Shelves(
        Product(number, f"P{number}", "", "", Decimal(number % 3), "EUR", "toys", ("gift", "gift"), 1, EPOCH)
        for number in range(9, 0, -1)
    )
    found = stocked.find(query._replace(sort=sort))
    assert stocked.find(query._replace(sort=sort, page=2, per_page=3)) is found
    wanted = [1, 2, 3, 4, 5, 6, 7, 8, 9] if sort is None else [2, 5, 8, 1, 4, 7, 3, 6, 9]
    assert [entry.product.id for entry in found] == wanted
    assert list(stocked.find(query._replace(sort=sort, in_stock=True))) == list(found)
