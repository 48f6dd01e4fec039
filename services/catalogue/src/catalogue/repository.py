"""Products in PostgreSQL: the only place with SQL, apart from the migrations."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from psycopg2.extras import execute_values

from catalogue.products import Product
from catalogue.queries import DEFAULT_PER_PAGE, ProductQuery

if TYPE_CHECKING:
    from chassis.database import Database

_COLUMNS = ", ".join(Product._fields)
_ORDER = {
    None: "id",
    "name": "name_key, id",
    "-name": "name_key DESC, id",
    "price": "price, id",
    "-price": "price DESC, id",
    "newest": "created_at DESC, id",
    "-newest": "created_at, id",
}
BATCH_ROWS = 500


class ProductRepository:
    """Reads products by a `Database`, and raises what that raises."""

    def __init__(self, database: Database, *, max_unpaginated: int) -> None:
        self._database = database
        self._max_unpaginated = max_unpaginated

    def page(self, query: ProductQuery) -> tuple[list[Product], int]:
        """The products that `query` asks for, and how many match it in all. One round trip."""
        where, parameters = _where(query)
        order = _ORDER[query.sort]
        if query.page is None and query.per_page is None:
            parameters |= {"most": self._max_unpaginated, "few": DEFAULT_PER_PAGE}
            limit = "(SELECT CASE WHEN n <= %(most)s THEN n ELSE %(few)s END FROM total)"
        else:
            _, per_page, offset = query.window(0, max_unpaginated=self._max_unpaginated)
            parameters |= {"limit": per_page, "offset": offset}
            limit = "%(limit)s OFFSET %(offset)s"
        # The count stands beside every row, and alone when there is none: the left join keeps it then.
        rows = self._database.fetch(
            f"""
            WITH total AS (SELECT count(*) AS n FROM products {where})
            SELECT total.n, {_COLUMNS}
            FROM total LEFT JOIN LATERAL (
                SELECT {_COLUMNS}, name_key FROM products {where} ORDER BY {order} LIMIT {limit}
            ) AS page ON true
            ORDER BY {order}
            """,  # noqa: S608 - built of the constants above
            parameters,
        )
        total = rows[0][0]
        return [Product(*row[1:]) for row in rows if row[1] is not None], total

    def product(self, product_id: int) -> Product | None:
        """The product of that id, None if there is none."""
        rows = self._database.fetch(
            f"SELECT {_COLUMNS} FROM products WHERE id = %s",  # noqa: S608
            (product_id,),
        )
        return Product(*rows[0]) if rows else None

    def probe(self) -> None:
        """Return if products can be read; raise what a request for them would."""
        self._database.fetch(f"SELECT {_COLUMNS}, name_key, search_text FROM products LIMIT 1")  # noqa: S608

    def count(self) -> int:
        """How many products there are."""
        return int(self._database.fetch("SELECT count(*) FROM products")[0][0])


def _where(query: ProductQuery) -> tuple[str, dict[str, Any]]:
    conditions: list[str] = []
    parameters: dict[str, Any] = {}

    def add(condition: str, **values: Any) -> None:
        conditions.append(condition)
        parameters.update(values)

    for number, word in enumerate(query.words):
        add(f"search_text LIKE %(word{number})s", **{f"word{number}": f"%{_escaped(word)}%"})
    if query.category is not None:
        add("category = %(category)s", category=query.category)
    if query.tag is not None:
        add("tags @> ARRAY[%(tag)s]::text[]", tag=query.tag)
    if query.lowest is not None:
        add("price >= %(lowest)s", lowest=query.lowest)
    if query.highest is not None:
        add("price <= %(highest)s", highest=query.highest)
    if query.in_stock is not None:
        add("stock > 0" if query.in_stock else "stock = 0")
    return ("WHERE " + " AND ".join(conditions) if conditions else ""), parameters


def _escaped(word: str) -> str:
    """`word` as it stands in a LIKE pattern."""
    return word.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")


# --- loading and saving: for `catalogue-db`, on a plain connection, inside the caller's transaction ----------------


def upsert(cursor: Any, products: Iterable[Product]) -> Iterator[int]:
    """Insert `products`, or replace those with the same id; yields the rows written so far after each batch."""
    updates = ", ".join(f"{column} = excluded.{column}" for column in Product._fields if column != "id")
    statement = f"INSERT INTO products ({_COLUMNS}) VALUES %s ON CONFLICT (id) DO UPDATE SET {updates}"  # noqa: S608
    written = 0
    remaining = iter(products)
    while batch := list(islice(remaining, BATCH_ROWS)):
        execute_values(cursor, statement, batch, page_size=BATCH_ROWS)
        written += len(batch)
        yield written


def move_sequence(cursor: Any) -> None:
    """Let the next id that the table gives out follow the highest there is; it never goes back.

    Holds back other writers until the transaction's end, so that none takes an id in between.
    """
    cursor.execute("LOCK TABLE products IN SHARE ROW EXCLUSIVE MODE")
    cursor.execute("SELECT pg_get_serial_sequence('products', 'id')")
    (sequence,) = cursor.fetchone()
    cursor.execute(
        f"SELECT setval(%s, greatest(max(id), (SELECT last_value FROM {sequence}))) FROM products HAVING count(*) > 0",  # noqa: S608
        (sequence,),
    )


def count_all(cursor: Any) -> int:
    """How many products there are."""
    cursor.execute("SELECT count(*) FROM products")
    (count,) = cursor.fetchone()
    return int(count)


def read_all(connection: Any) -> Iterator[Product]:
    """Every product by id, a batch at a time, whatever their number. Needs a transaction."""
    with connection.cursor(name="catalogue_export") as cursor:
        cursor.itersize = BATCH_ROWS
        cursor.execute(f"SELECT {_COLUMNS} FROM products ORDER BY id")  # noqa: S608
        for row in cursor:
            yield Product(*row)
