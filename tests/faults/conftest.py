"""One stage for all tests of a run. It is whole before each of them, and after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.signals import Watch, watching
from tests.faults.stage import Stage, running


@pytest.fixture(scope="session")
def _stage(servers_directory: Path) -> Iterator[Stage]:
    with running(servers_directory) as stage:
        yield stage


@pytest.fixture
def stage(_stage: Stage) -> Iterator[Stage]:
    """The storefront to do something to."""
    _stage.wait_whole()
    yield _stage
    _stage.wait_whole()


@pytest.fixture(scope="session")
def watch(_stage: Stage) -> Iterator[Watch]:
    """The Prometheus beside it."""
    with watching(_stage) as watch:
        yield watch
