"""The storefront that the tests of this process share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from chassis.servers import PostgresServer, ValkeyServer
from tests.hostile.operations import Shop
from tests.hostile.stage import Stage, running


@pytest.fixture(scope="session")
def stage(
    tmp_path_factory: pytest.TempPathFactory, postgres_server: PostgresServer, valkey_server: ValkeyServer
) -> Iterator[Stage]:
    """A whole storefront. Whoever breaks it on purpose starts one of their own."""
    with running(tmp_path_factory.mktemp("stage"), postgres_server, valkey_server) as stage:
        yield stage


@pytest.fixture(scope="module")
def shop(stage: Stage) -> Iterator[Shop]:
    """The stage's operations."""
    shop = Shop(stage)
    yield shop
    shop.close()
