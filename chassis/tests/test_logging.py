"""chassis.logging: one line a record, nothing secret in it."""

from __future__ import annotations

import json
import logging
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
        ("GET /api/v1/users/grace.hopper%40navy.mil", "grace.hopper"),
        ("GET /api/v1/users/grace.hopper%252540navy.mil", "grace.hopper"),
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
    for unseen in "\x7f\x85\u202e\u2066\u200f":  # each by itself: DEL is ASCII, which JSON need not escape
        assert unseen not in formatter.format(record(f"a{unseen}b"))


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


PATHS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"])),
    st.sampled_from(
        ["/a%b%%", '/"', "/\\", "/\x85\u2028", "/mail/ada@example.com", "/\x1f@b", "http://a:b@c/", "/" + "x" * 300]
    ),
)


@given(PATHS, st.sampled_from(["GET", "POST"]), st.integers(100, 599), st.floats(0, 1000))
def test_request_lines_are_like_all_others(path: str, method: str, status: int, duration_s: float) -> None:
    """Put together from a template, a line says the same as one made from a record: escaped, and without secrets."""
    formatter = JsonFormatter(service="catalogue", version="1.2")
    ctx = context.begin("abc", None, None, 1000)
    fields = {
        "method": method,
        "path": path,
        "route": "r",
        "status": status,
        "duration_ms": round(duration_s * 1000, 3),
    }
    message = f'"{method} {path} HTTP/1.1" {status}'
    token = context.bind(ctx)
    try:
        expected = formatter.line(1.5, "INFO", "access", message, {**fields, "remote_addr": "127.0.0.1"})
    finally:
        context.unbind(token)
    kind = ("INFO", method, path, "HTTP/1.1", "r", status, "127.0.0.1")
    for _ in range(2):
        line = formatter.request_line(1.5, duration_s, ctx, kind)
        assert b"\n" not in line
        assert json.loads(line) == json.loads(expected)
        assert list(json.loads(line)) == list(json.loads(expected))


def request_line(path: str) -> bytes:
    """The line of a request for `path` with the longest id."""
    ctx = context.begin("i" * 128, None, None, 1000)
    kind = ("INFO", "GET", path, "HTTP/1.1", "unmatched", 404, "127.0.0.1")
    return JsonFormatter(service="catalogue", version="1.2").request_line(1.5, 0.01, ctx, kind)


def test_a_request_line_is_written_in_one_piece() -> None:
    """Whatever the path: a longer line than a pipe takes at once could be mixed with those of other workers."""
    for letter in ("a", '"', "\x01", "\x80", "\u202e", "\U0001f98a", "%", "@", "a@"):
        line = request_line("/" + letter * 4000)
        assert len(line) < 4096
        assert json.loads(line)["path"].startswith("/" + (letter if "@" not in letter else ""))
    whole = "/" + "a" * 1500
    assert json.loads(request_line(whole))["path"] == whole
