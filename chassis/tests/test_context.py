"""chassis.context: ids, traces and deadlines of requests."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chassis import context

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


@given(st.text(max_size=200))
def test_a_request_id_is_kept_only_if_it_is_harmless(given_id: str) -> None:
    """Whatever a client sends, the id matches `[A-Za-z0-9._-]{1,128}`, and a good one is kept."""
    got = context.begin(given_id, None, None, 1000).request_id
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,128}", got)
    if re.fullmatch(r"[A-Za-z0-9._-]{1,128}", given_id):
        assert got == given_id


def test_a_trace_is_continued() -> None:
    """A W3C traceparent gives the trace id and flags; the child has the same trace and a new span."""
    ctx = context.begin(None, f"00-{TRACE}-{SPAN}-01", None, 1000)
    assert (ctx.trace_id, ctx.flags) == (TRACE, "01")
    match = re.fullmatch(rf"00-{TRACE}-([0-9a-f]{{16}})-01", ctx.child_traceparent())
    assert match
    assert match[1] != SPAN


@pytest.mark.parametrize(
    "value",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE}-{SPAN}-01-",
    ],
)
def test_a_bad_traceparent_starts_a_new_trace(value: str) -> None:
    """What W3C calls invalid is ignored."""
    ctx = context.begin(None, value, None, 1000)
    assert re.fullmatch(r"[0-9a-f]{32}", ctx.trace_id)
    assert ctx.trace_id not in (TRACE, "0" * 32)


@pytest.mark.parametrize(
    ("header", "longest_s"),
    [(None, 10), ("250", 0.25), ("99999", 10), ("-5", 10), ("abc", 10), ("٣", 10), ("9" * 5000, 10)],
)
def test_a_client_may_shorten_its_deadline_never_lengthen_it(header: str | None, longest_s: float) -> None:
    """X-Request-Timeout-Ms counts only where it is a number below the limit."""
    assert longest_s - 0.2 < context.begin(None, None, header, 10_000).remaining_s() <= longest_s


def test_an_operation_gets_what_is_left_of_the_request() -> None:
    """deadline_within takes the earlier of the two ends."""
    ctx = context.begin(None, None, "100", 10_000)
    token = context.bind(ctx)
    try:
        assert context.deadline_within(5) == ctx.deadline_s
        assert context.deadline_within(0.01) < ctx.deadline_s
    finally:
        context.unbind(token)
    assert context.current() is None
