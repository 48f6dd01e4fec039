"""PostgreSQL dies, hangs, is restarted, is full, slow or read-only, under traffic."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from chassis.servers import PostgresServer
from tests.faults.judge import prove
from tests.faults.stage import Stage
from tests.promises import Promise

pytestmark = pytest.mark.faults

BACK_S = 2.0
DOWN_S = 1.0
WITHOUT = ("product", "search", "follow", "resolve")
"""What needs no PostgreSQL: products are in a file, links that were followed before in Valkey, routes in memory."""


@contextmanager
def killed(postgres: PostgresServer) -> Iterator[None]:
    """kill -9, and a start."""
    postgres.kill()
    try:
        yield
    finally:
        postgres.start()


def test_killed(stage: Stage, promise: Promise) -> None:
    """kill -9 of PostgreSQL and all its processes, and a restart."""
    prove(
        stage, promise, "PostgreSQL: kill -9", lambda: killed(stage.postgres),
        seconds=2, back_s=BACK_S, unaffected=WITHOUT, within_s=DOWN_S,
    )  # fmt: skip
