"""Users, the count of them, answers kept for Idempotency-Keys, and the epoch of the cache.

ADR 0020 says what the announcement of inserts is for, ADR 0021 the same of the epoch.
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

# User names tell upper from lower case and sort by code point. E-mail addresses do not tell: the index is on lower().
_USERS = """
CREATE TABLE users (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    username text COLLATE "C" NOT NULL,
    email text NOT NULL,
    full_name text,
    created_at timestamptz NOT NULL DEFAULT now(),
    updated_at timestamptz NOT NULL DEFAULT now(),
    version bigint NOT NULL DEFAULT 1,
    CONSTRAINT users_username_is_a_name CHECK (username ~ '^[A-Za-z0-9._-]{3,50}$'),
    CONSTRAINT users_email_is_an_address CHECK (email LIKE '_%@_%' AND length(email) <= 255),
    CONSTRAINT users_full_name_has_a_limit CHECK (length(full_name) <= 200)
);
CREATE UNIQUE INDEX users_by_username ON users (username);
CREATE UNIQUE INDEX users_by_email ON users (lower(email));
"""

# Before it takes its first id, an insert says in a lock that blocks nobody which id was the last one then: all of its
# own are greater. A reader sees in pg_locks which ids may still turn up (repository.py).
_ANNOUNCEMENT = """
CREATE FUNCTION users_announce_insert() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_advisory_xact_lock_shared(
        (85::bigint << 56) | (SELECT last_value - CASE WHEN is_called THEN 0 ELSE 1 END FROM users_id_seq)
    );
    RETURN NULL;
END
$$;
CREATE TRIGGER users_announce_insert BEFORE INSERT ON users
    FOR EACH STATEMENT EXECUTE FUNCTION users_announce_insert();
"""

# The number of users, spread over rows so that writers do not queue for one. The row goes by the session: one
# transaction always has the same, and cannot deadlock with another over two of them.
_TOTAL = """
CREATE TABLE users_total (
    shard integer PRIMARY KEY,
    users bigint NOT NULL
) WITH (fillfactor = 20);
INSERT INTO users_total SELECT shard, 0 FROM generate_series(0, 15) AS shard;

CREATE FUNCTION users_count_change() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    change bigint := (SELECT count(*) FROM changed);
BEGIN
    IF change > 0 THEN
        UPDATE users_total SET users = users + CASE TG_OP WHEN 'INSERT' THEN change ELSE -change END
        WHERE shard = pg_backend_pid() % 16;
    END IF;
    RETURN NULL;
END
$$;
CREATE TRIGGER users_count_insert AFTER INSERT ON users REFERENCING NEW TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION users_count_change();
CREATE TRIGGER users_count_delete AFTER DELETE ON users REFERENCING OLD TABLE AS changed
    FOR EACH STATEMENT EXECUTE FUNCTION users_count_change();

CREATE FUNCTION users_count_nothing() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE users_total SET users = 0;
    RETURN NULL;
END
$$;
CREATE TRIGGER users_count_truncate AFTER TRUNCATE ON users
    FOR EACH STATEMENT EXECUTE FUNCTION users_count_nothing();
"""

_IDEMPOTENCY = """
CREATE TABLE users_idempotency (
    key text COLLATE "C" PRIMARY KEY,
    fingerprint bytea NOT NULL,
    user_id bigint NOT NULL,
    answer bytea NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX users_idempotency_by_age ON users_idempotency (created_at);
"""

_EPOCH = """
CREATE SEQUENCE users_cache_epoch;
SELECT setval('users_cache_epoch', 1); -- so that the first step from here is a step
"""


def upgrade() -> None:
    for script in (_USERS, _ANNOUNCEMENT, _TOTAL, _IDEMPOTENCY, _EPOCH):
        op.get_bind().exec_driver_sql(script.replace("%", "%%"))


def downgrade() -> None:
    for what in (
        "TABLE users", "TABLE users_total", "TABLE users_idempotency", "SEQUENCE users_cache_epoch",
        "FUNCTION users_announce_insert()", "FUNCTION users_count_change()", "FUNCTION users_count_nothing()",
    ):  # fmt: skip
        op.execute(f"DROP {what}")
