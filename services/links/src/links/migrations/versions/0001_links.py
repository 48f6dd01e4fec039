"""Links, and the batches of clicks that have been added to them."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

# A deleted link leaves its code behind, so that nobody else's link is ever found where it was printed.
_LINKS = """
CREATE TABLE links (
    code text COLLATE "C" PRIMARY KEY,
    id bigint GENERATED ALWAYS AS IDENTITY UNIQUE,
    url text NOT NULL,
    owner text COLLATE "C" NOT NULL DEFAULT '',
    clicks bigint NOT NULL DEFAULT 0,
    created_at timestamptz NOT NULL DEFAULT now(),
    expires_at timestamptz,
    disabled_at timestamptz,
    deleted_at timestamptz,
    CONSTRAINT links_code_is_a_code CHECK (code ~ '^[A-Za-z0-9_-]{3,32}$'),
    CONSTRAINT links_url_is_a_url CHECK ((url ~ '^https?://[!-~]+$' AND length(url) <= 2048) OR deleted_at IS NOT NULL)
) WITH (fillfactor = 80);
CREATE INDEX links_by_owner ON links (owner, id) WHERE deleted_at IS NULL;
"""

_BATCHES = """
CREATE TABLE links_batches (
    id text COLLATE "C" PRIMARY KEY,
    applied_at timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX links_batches_by_age ON links_batches (applied_at);
"""


def upgrade() -> None:
    for script in (_LINKS, _BATCHES):
        op.get_bind().exec_driver_sql(script.replace("%", "%%"))


def downgrade() -> None:
    for table in ("links", "links_batches"):
        op.execute(f"DROP TABLE {table}")
