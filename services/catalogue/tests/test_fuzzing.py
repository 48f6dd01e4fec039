"""The running service keeps the promises of its document, whatever requests can be made from it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from chassis.testing.contract import fuzz
from chassis.testing.gunicorn import GunicornProcess


@pytest.mark.slow
@pytest.mark.parametrize("data_source", ["json", "db"])
def test_no_5xx_and_no_undocumented_answer(
    catalogue: Callable[..., GunicornProcess], data_source: str, database_url: str
) -> None:
    """schemathesis, all checks and all phases: statuses, media types, headers, schemas, bad input refused."""
    service = catalogue(DATA_SOURCE=data_source, DATABASE_URL=database_url, LOG_LEVEL="WARNING")
    fuzz(service.url)
    assert '"level":"ERROR"' not in service.text()
