"""The registry behind the real edge, against its own document, by schemathesis."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path

import pytest

from chassis.testing.contract import fuzz
from chassis.testing.databases import migrate
from chassis.testing.gunicorn import GunicornProcess


@pytest.mark.slow
def test_no_5xx_and_no_undocumented_answer(
    start_gateway: Callable[..., GunicornProcess], database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """schemathesis, all phases: statuses, media types, headers, schemas, bad input refused, nothing without a key.

    One check is left out: that what fits the schema is taken. A schema cannot say which upstreams are allowed, which
    routes there are already, or in which state one is.
    """
    migrate("gateway", database_url)
    key = tmp_path / "key"
    key.write_text(text := f"sf_{secrets.token_urlsafe(32)}")
    gateway = start_gateway(
        DATABASE_URL=database_url, REDIS_URL=redis_url, GATEWAY_ADMIN_KEY_FILE=str(key), RATE_LIMITS="off",
        LOG_LEVEL="WARNING", WEB_CONCURRENCY="1",
    )  # fmt: skip
    fuzz(f"{gateway.url}/gateway", f"--header=X-API-Key: {text}", "--exclude-checks=positive_data_acceptance")
    assert '"level":"ERROR"' not in gateway.text()
