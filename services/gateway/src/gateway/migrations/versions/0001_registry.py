"""Routes, their history, the outbox of their events, and API keys: all counted by one revision."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

# One row. Whoever writes a route or a key locks it first, so revisions have no gaps and are committed in their order.
# The epoch tells this database from another one with the same numbers, a restored backup for instance.
_STATE = """
CREATE TABLE gateway_state (
    one boolean PRIMARY KEY DEFAULT true CHECK (one),
    epoch uuid NOT NULL DEFAULT gen_random_uuid(),
    revision bigint NOT NULL DEFAULT 0
);
INSERT INTO gateway_state DEFAULT VALUES;
"""

_ROUTES = """
CREATE TABLE routes (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant text COLLATE "C" NOT NULL,
    service text COLLATE "C" NOT NULL,
    env text COLLATE "C" NOT NULL,
    version text COLLATE "C" NOT NULL,
    url text NOT NULL,
    active boolean NOT NULL,
    weight integer NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    revision bigint NOT NULL,
    CONSTRAINT routes_tenant_is_a_name CHECK (tenant ~ '^[a-z0-9-]{1,63}$'),
    CONSTRAINT routes_service_is_a_name CHECK (service ~ '^[a-z0-9-]{1,63}$'),
    CONSTRAINT routes_env_is_a_name CHECK (env ~ '^[a-z0-9-]{1,63}$'),
    CONSTRAINT routes_version_is_a_version CHECK (version ~ '^[A-Za-z0-9._-]{1,63}$'),
    CONSTRAINT routes_url_is_http CHECK (url ~ '^https?://' AND length(url) <= 2048),
    CONSTRAINT routes_weight_is_a_weight CHECK (weight BETWEEN 0 AND 1000)
);
CREATE UNIQUE INDEX routes_by_name ON routes (tenant, service, env, version);
CREATE INDEX routes_by_service ON routes (service, id);
"""

# A row for every revision of a route, with what it was after it: the audit trail and the feed of the gateways in one.
_HISTORY = """
CREATE TABLE routes_history (
    revision bigint PRIMARY KEY,
    route_id bigint NOT NULL,
    action text NOT NULL CHECK (action IN ('created', 'updated', 'activated', 'deactivated', 'deleted')),
    actor text NOT NULL,
    at timestamptz NOT NULL,
    before jsonb,
    after jsonb
);
CREATE INDEX routes_history_by_route ON routes_history (route_id, revision);
CREATE INDEX routes_history_of_bootstrap ON routes_history (revision) WHERE actor = 'bootstrap' AND action = 'created';
"""

_OUTBOX = """
CREATE TABLE routes_outbox (
    revision bigint PRIMARY KEY,
    route_id bigint NOT NULL,
    action text NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamptz NOT NULL
);
"""

_KEYS = """
CREATE TABLE api_keys (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text COLLATE "C" NOT NULL UNIQUE,
    digest bytea NOT NULL UNIQUE,
    scopes text[] NOT NULL,
    rate_limit text,
    created_at timestamptz NOT NULL,
    revoked_at timestamptz,
    revision bigint NOT NULL,
    CONSTRAINT api_keys_name_is_a_name CHECK (name ~ '^[A-Za-z0-9._-]{1,63}$'),
    CONSTRAINT api_keys_digest_is_sha256 CHECK (length(digest) = 32)
);
CREATE INDEX api_keys_by_revision ON api_keys (revision);
"""


def upgrade() -> None:
    for script in (_STATE, _ROUTES, _HISTORY, _OUTBOX, _KEYS):
        op.get_bind().exec_driver_sql(script.replace("%", "%%"))


def downgrade() -> None:
    for table in ("api_keys", "routes_outbox", "routes_history", "routes", "gateway_state"):
        op.execute(f"DROP TABLE {table}")
