"""`catalogue-db` against a real PostgreSQL: schema and data, in and out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import orjson
import psycopg2
import pytest

from catalogue.products import PACKAGED, read_file
from chassis.servers import PostgresServer

CommandLine = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def empty_url(postgres_server: PostgresServer, request: pytest.FixtureRequest) -> Any:
    """The URL of a database without anything in it."""
    name = f"empty_{os.getpid()}_{abs(hash(request.node.name))}"
    yield postgres_server.create_database(name)
    postgres_server.drop_database(name)


@pytest.fixture
def command(empty_url: str) -> CommandLine:
    """`command("import", …)` runs `catalogue-db` as a program on that database."""

    def run(*arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        return subprocess.run(
            [sys.executable, "-m", "catalogue.db", *arguments],
            env={**inherited, "DATABASE_URL": empty_url, "LOG_LEVEL": "ERROR", **env},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def rows(url: str, statement: str) -> list[tuple[Any, ...]]:
    """What a statement returns."""
    with closing(psycopg2.connect(url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute(statement)
        return list(cursor.fetchall()) if cursor.description else []


def done(result: subprocess.CompletedProcess[str]) -> str:
    """What a successful command said; its words are on stderr, data alone goes to stdout."""
    assert result.returncode == 0, result.stderr
    return result.stderr


def failed(result: subprocess.CompletedProcess[str]) -> str:
    """The one line of a command that failed."""
    assert result.returncode == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr


@pytest.mark.slow
def test_create_import_export_and_all_of_it_again(command: CommandLine, empty_url: str, tmp_path: Path) -> None:
    """Each verb may be repeated; an export, imported elsewhere, is exported as the same bytes."""
    for _ in range(2):
        assert "up to date" in done(command("create"))
        assert "Imported 16 products" in done(command("import"))
    assert rows(empty_url, "SELECT count(*) FROM products") == [(16,)]
    assert "Exported 16 products" in done(command("export", str(tmp_path / "out.json")))
    exported = (tmp_path / "out.json").read_bytes()
    assert orjson.loads(exported) == orjson.loads(PACKAGED.read_bytes())
    rows(empty_url, "DELETE FROM products")
    done(command("import", str(tmp_path / "out.json")))
    assert command("export").stdout.encode() == exported
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


@pytest.mark.slow
def test_import_replaces_known_ids_and_keeps_the_others(
    command: CommandLine, empty_url: str, products_file: Callable[[Any], Path]
) -> None:
    """An upsert: nothing is deleted."""
    done(command("create"))
    done(command("import"))
    done(command("import", str(products_file([{"id": 1, "name": "New"}, {"id": 100, "name": "More"}]))))
    assert rows(empty_url, "SELECT id, name FROM products WHERE id IN (1, 2, 100) ORDER BY id") == [
        (1, "New"), (2, "Jumping Frog"), (100, "More"),
    ]  # fmt: skip


@pytest.mark.slow
def test_new_rows_get_ids_after_the_imported_ones(
    command: CommandLine, empty_url: str, products_file: Callable[[Any], Path]
) -> None:
    """The sequence follows the highest id, and does not go back with a later import of smaller ones."""
    insert = "INSERT INTO products (name) VALUES ('Swan') RETURNING id"
    done(command("create"))
    assert rows(empty_url, insert) == [(1,)]
    done(command("import", str(products_file([{"id": 500, "name": "High"}]))))
    assert rows(empty_url, insert) == [(501,)]
    rows(empty_url, "DELETE FROM products WHERE id > 100")
    done(command("import"))
    assert rows(empty_url, insert) == [(502,)]


@pytest.mark.slow
def test_many_products_are_imported_or_none(
    command: CommandLine, empty_url: str, products_file: Callable[[Any], Path]
) -> None:
    """Several batches in one transaction: an import that fails half-way leaves the table as it was."""
    done(command("create"))
    many = [{"id": number, "name": f"Product {number}"} for number in range(1, 2002)]
    assert "Imported 2001" in done(command("import", str(products_file(many))))
    assert rows(empty_url, "SELECT count(*), max(id) FROM products") == [(2001, 2001)]
    rows(empty_url, "DELETE FROM products")
    rows(empty_url, "ALTER TABLE products ADD CHECK (id < 1900)")
    assert "said no" in failed(command("import", str(products_file(many))))
    assert rows(empty_url, "SELECT count(*) FROM products") == [(0,)]


@pytest.mark.slow
def test_the_former_catalogues_table_is_taken_over(command: CommandLine, empty_url: str) -> None:
    """A table made by the seed's SQL keeps its rows and gets what it lacks."""
    rows(
        empty_url,
        """
        CREATE TABLE products (
            id SERIAL PRIMARY KEY, description TEXT, image_url VARCHAR(255), name VARCHAR(255)
        );
        INSERT INTO products (description, image_url, name) VALUES
            ('Beautiful origami paper', '/static/images/origami/001-origami.png', 'Origami Paper Set'),
            (NULL, NULL, NULL)
        """,
    )
    done(command("create"))
    products = orjson.loads(command("export").stdout)
    assert [(each["id"], each["name"], each["image_url"]) for each in products] == [
        (1, "Origami Paper Set", "/static/images/origami/001-origami.png"),
        (2, "Unnamed product", ""),
    ]


@pytest.mark.parametrize(
    "values",
    [
        "(name) VALUES ('')",
        "(name) VALUES (NULL)",
        "(name, price) VALUES ('A', 'NaN')",
        "(name, price) VALUES ('A', -0.01)",
        "(name, currency) VALUES ('A', 'euro')",
        "(name, stock) VALUES ('A', -1)",
        "(name, tags) VALUES ('A', ARRAY[NULL]::text[])",
        "(name, tags) VALUES ('A', ARRAY[ARRAY['a'], ARRAY['b']])",
        "(name, created_at) VALUES ('A', 'infinity')",
        "(name, created_at) VALUES ('A', '10000-01-01')",
        "(id, name) VALUES (0, 'A')",
    ],
)
def test_the_table_refuses_what_the_api_cannot_say(database_url: str, values: str) -> None:
    """A row that gets in by hand can always be answered."""
    with pytest.raises(psycopg2.Error):
        rows(database_url, f"INSERT INTO products {values}")


def test_indexes_serve_the_filters(database_url: str) -> None:
    """With many products, a filter with its order reads an index and does not sort the table."""
    rows(
        database_url,
        """
        INSERT INTO products (name, price, category, tags, created_at)
        SELECT 'Product ' || n, n % 1000, 'category ' || n % 2000, ARRAY['tag ' || n % 500],
               timestamptz '2020-01-01' + n * interval '1 minute'
        FROM generate_series(1, 20000) AS n
        """,
    )
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("ANALYZE products")
        for condition, index in [
            ("ORDER BY name_key, id LIMIT 50", "products_by_name"),
            ("ORDER BY price DESC, id LIMIT 50", "products_by_price_descending"),
            ("ORDER BY created_at DESC, id LIMIT 50", "products_by_age_descending"),
            ("WHERE category = 'category 7' ORDER BY id LIMIT 50", "products_by_category"),
            ("WHERE tags @> ARRAY['tag 7']", "products_by_tag"),
            ("WHERE price >= 5 AND price <= 5.5", "products_by_price"),
        ]:
            cursor.execute(f"EXPLAIN SELECT * FROM products {condition}")
            plan = "\n".join(row[0] for row in cursor.fetchall())
            assert index in plan, plan
            assert "Seq Scan" not in plan, plan


@pytest.mark.slow
def test_errors_are_one_line(command: CommandLine, products_file: Callable[[Any], Path]) -> None:
    """A bad file, a missing table, a bad setting, an unwritable place: what is wrong, and no traceback."""
    assert "no table of products yet" in failed(command("import"))
    bad = products_file([{"id": 1}])
    assert f"{bad}: want good products: product 1 (id 1), name:" in failed(command("import", str(bad)))
    assert "/nowhere.json: want a readable file" in failed(command("import", "/nowhere.json"))
    done(command("create"))
    assert "No such file" in failed(command("export", "/nowhere/out.json"))
    assert "THREADS: got 'x'" in failed(command("create", THREADS="x"))


@pytest.mark.slow
def test_help_lists_the_verbs(command: CommandLine) -> None:
    """`--help` is enough to use it."""
    result = command("--help")
    assert result.returncode == 0
    for verb in ("create", "import", "export"):
        assert verb in result.stdout
    assert command().returncode == 2


def test_the_packaged_products_are_good() -> None:
    """At least 12, with pictures that are files of the package."""
    products = read_file(PACKAGED)
    assert len(products) >= 12
    for product in products:
        assert (PACKAGED.parents[1] / product.image_url.lstrip("/")).is_file()
