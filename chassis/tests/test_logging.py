"""chassis.logging: one line a record, nothing secret in it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest

from chassis import context
from chassis.logging import JsonFormatter, TextFormatter


def record(message: str, *args: Any, **extra: Any) -> logging.LogRecord:
    """A record as a logger would make it."""
    made = logging.LogRecord("shop", logging.INFO, "", 0, message, args, None)
    made.__dict__.update(extra)
    return made


def as_json(made: logging.LogRecord) -> dict[str, Any]:
    """The line that the formatter makes, parsed."""
    line = JsonFormatter(service="catalogue", version="1.2").format(made)
    assert "\n" not in line
    parsed = json.loads(line)
    assert isinstance(parsed, dict)
    return parsed


def test_a_record_has_the_fields_of_the_contract() -> None:
    """Time in ISO 8601 and UTC, level, logger, message, service, version, ids, and what `extra` gave."""
    ctx = context.begin("abc", None, None, 1000)
    token = context.bind(ctx)
    try:
        line = as_json(record("sold %d", 3, product=7))
    finally:
        context.unbind(token)
    assert line["timestamp"].endswith("+00:00")
    del line["timestamp"]
    assert line == {
        "level": "INFO", "logger": "shop", "message": "sold 3", "service": "catalogue", "version": "1.2",
        "request_id": "abc", "trace_id": ctx.trace_id, "product": 7,
    }  # fmt: skip


@pytest.mark.parametrize("formatter", [JsonFormatter(service="s", version="1"), TextFormatter()])
@pytest.mark.parametrize(
    ("message", "secret"),
    [
        ("cannot reach postgresql://shop:hunter2@db:5432/shop", "hunter2"),
        ("redis://:s3cr3t@cache", "s3cr3t"),
        ("Key (email)=(ada@example.com) already exists", "ada@example"),
        ("GET /api/v1/users/grace.hopper@navy.mil", "grace.hopper"),
    ],
)
def test_credentials_and_addresses_do_not_reach_the_log(
    formatter: logging.Formatter, message: str, secret: str
) -> None:
    """Passwords in URLs and e-mail addresses are replaced, whoever logs them."""
    line = formatter.format(record(message))
    assert secret not in line
    assert "***" in line


@pytest.mark.parametrize("formatter", [JsonFormatter(service="s", version="1"), TextFormatter()])
def test_a_message_cannot_forge_a_line(formatter: logging.Formatter) -> None:
    """Control characters are escaped in both formats."""
    line = formatter.format(record("one\n2026 - root - INFO - two\x1b[31m\r\u2028"))
    assert len(line.splitlines()) == 1
    assert "\x1b" not in line


def test_an_exception_comes_with_its_record() -> None:
    """`exc_info` is one JSON string beside the message."""
    made = record("failed")
    try:
        raise ValueError("no")
    except ValueError as error:
        made.exc_info = (type(error), error, error.__traceback__)
    line = as_json(made)
    assert line["message"] == "failed"
    assert "ValueError: no" in line["exc_info"]
