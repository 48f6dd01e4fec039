"""Notes."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the table."""
    op.create_table(
        "notes", sa.Column("id", sa.BigInteger, sa.Identity(), primary_key=True), sa.Column("text", sa.Text)
    )
