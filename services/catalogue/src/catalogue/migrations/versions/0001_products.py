"""The table of products, its search columns and its indexes.

A table `products` of the former catalogue (id, description, image_url, name) is taken over with its rows.
"""

from __future__ import annotations

import unicodedata

from alembic import op
from sqlalchemy import text

revision = "0001"
down_revision = None

# What `catalogue.folding` does to capitals other than ASCII; a copy, because a migration must not change with the code.
_LETTERS = [
    letter
    for letter in map(chr, range(0x80, 0x588))
    if unicodedata.normalize("NFKD", letter) == letter and len(letter.casefold()) == 1 and letter.casefold() != letter
]
_CAPITALS = "".join(_LETTERS)
_SMALL = "".join(letter.casefold() for letter in _LETTERS)

_TABLE = """
CREATE TABLE IF NOT EXISTS products (
    id SERIAL PRIMARY KEY,
    description TEXT,
    image_url VARCHAR(255),
    name VARCHAR(255)
);

UPDATE products SET name = 'Unnamed product' WHERE name IS NULL OR name = '';
UPDATE products SET description = '' WHERE description IS NULL;
UPDATE products SET image_url = '' WHERE image_url IS NULL;

ALTER TABLE products
    ALTER COLUMN name SET NOT NULL,
    ALTER COLUMN description SET NOT NULL,
    ALTER COLUMN description SET DEFAULT '',
    ALTER COLUMN image_url SET NOT NULL,
    ALTER COLUMN image_url SET DEFAULT '',
    ADD COLUMN price NUMERIC(12, 2) NOT NULL DEFAULT 0,
    ADD COLUMN currency TEXT NOT NULL DEFAULT 'EUR',
    ADD COLUMN category VARCHAR(100) NOT NULL DEFAULT 'other',
    ADD COLUMN tags TEXT[] NOT NULL DEFAULT '{}',
    ADD COLUMN stock INTEGER NOT NULL DEFAULT 0,
    ADD COLUMN created_at TIMESTAMPTZ NOT NULL DEFAULT now(),
    ADD CONSTRAINT products_id_is_positive CHECK (id > 0),
    ADD CONSTRAINT products_name_is_there CHECK (name <> ''),
    ADD CONSTRAINT products_price_is_an_amount CHECK (price BETWEEN 0 AND 9999999999.99), -- which NaN is not
    ADD CONSTRAINT products_currency_is_a_code CHECK (currency ~ '^[A-Z]{3}$'),
    ADD CONSTRAINT products_category_is_there CHECK (category <> ''),
    ADD CONSTRAINT products_tags_are_texts
        CHECK (coalesce(array_ndims(tags), 1) = 1 AND array_position(tags, NULL) IS NULL),
    ADD CONSTRAINT products_stock_is_a_count CHECK (stock >= 0),
    ADD CONSTRAINT products_created_at_is_a_date
        CHECK (created_at >= '0001-01-02 00:00+00' AND created_at < '9999-12-31 00:00+00');
"""

# normalize() and lower() are said by PostgreSQL to be immutable; array_to_string() is not, since the text of some
# types depends on settings. That of text does not, so a wrapper may promise it.
_FUNCTIONS = f"""
CREATE OR REPLACE FUNCTION catalogue_fold(source text) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT lower((CASE
        WHEN octet_length(source) = char_length(source) THEN source
        ELSE translate(
            regexp_replace(normalize(source, NFKD), '[\\u0300-\\u036f]+', '', 'g'), '{_CAPITALS}', '{_SMALL}'
        )
    END) COLLATE "C")
$$;

CREATE OR REPLACE FUNCTION catalogue_search_text(name text, description text, tags text[]) RETURNS text
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE AS $$
    SELECT catalogue_fold(name || E'\\n' || description || E'\\n' || array_to_string(tags, E'\\n'))
$$;
"""

_SEARCH = """
ALTER TABLE products
    ADD COLUMN name_key TEXT COLLATE "C" GENERATED ALWAYS AS (catalogue_fold(name)) STORED,
    ADD COLUMN search_text TEXT COLLATE "C"
        GENERATED ALWAYS AS (catalogue_search_text(name, description, tags)) STORED;

CREATE INDEX products_by_name ON products (name_key, id);
CREATE INDEX products_by_name_descending ON products (name_key DESC, id);
CREATE INDEX products_by_price ON products (price, id);
CREATE INDEX products_by_price_descending ON products (price DESC, id);
CREATE INDEX products_by_age ON products (created_at, id);
CREATE INDEX products_by_age_descending ON products (created_at DESC, id);
CREATE INDEX products_by_category ON products (category, id);
CREATE INDEX products_by_tag ON products USING gin (tags);
CREATE INDEX products_sold_out ON products (id) WHERE stock = 0;
"""

# pg_trgm is a separate package on some systems and may need a superuser. Searches are right without it, only slower.
_TRIGRAMS = """
DO $$
BEGIN
    CREATE EXTENSION IF NOT EXISTS pg_trgm;
    CREATE INDEX products_by_words ON products USING gin (search_text gin_trgm_ops);
EXCEPTION WHEN undefined_file OR insufficient_privilege OR feature_not_supported OR undefined_object THEN
    RAISE NOTICE 'no pg_trgm: searches by words will read the whole table';
END
$$;
"""


def upgrade() -> None:
    for script in (_TABLE, _FUNCTIONS, _SEARCH, _TRIGRAMS):
        op.get_bind().exec_driver_sql(script.replace("%", "%%"))


def downgrade() -> None:
    op.execute(text("DROP TABLE products"))
    op.execute(text("DROP FUNCTION catalogue_search_text(text, text, text[])"))
    op.execute(text("DROP FUNCTION catalogue_fold(text)"))
