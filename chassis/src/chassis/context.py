"""What belongs to the request in hand: its id, its trace, its deadline. Bound once, read by logs, pools and proxies."""

from __future__ import annotations

import random
import re
import time
from contextvars import ContextVar, Token

_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")
_VERSION_00_CHARS = 55
"""Only later versions may say more."""
_NO_TRACE, _NO_SPAN = "0" * 32, "0" * 16


class RequestContext:
    """One request: `request_id`, `trace_id`, the caller's trace `flags`, `deadline_s` (seconds, monotonic clock)."""

    __slots__ = ("deadline_s", "flags", "request_id", "trace_id")

    def __init__(self, request_id: str, trace_id: str, flags: str, deadline_s: float) -> None:
        self.request_id = request_id
        self.trace_id = trace_id
        self.flags = flags
        self.deadline_s = deadline_s

    def remaining_s(self) -> float:
        """Seconds until the deadline; negative once it has passed."""
        return self.deadline_s - time.monotonic()

    def child_traceparent(self) -> str:
        """A W3C `traceparent` that continues this trace with a new span as the parent."""
        return f"00-{self.trace_id}-{random.getrandbits(64) or 1:016x}-{self.flags}"


_current: ContextVar[RequestContext | None] = ContextVar("request", default=None)


def begin(request_id: str | None, traceparent: str | None, timeout_ms: str | None, limit_ms: int) -> RequestContext:
    """The context of an arriving request, from its header values (None: absent).

    An id that does not match `[A-Za-z0-9._-]{1,128}` is replaced, a `traceparent` that is not W3C's starts a new
    trace, and a time-out can shorten `limit_ms` but never lengthen it.
    """
    made = ""
    if request_id is None or not _REQUEST_ID.fullmatch(request_id):
        made = f"{random.getrandbits(256):064x}"  # both ids at once: that is most of what this function costs
        request_id = made[:32]
    trace_id, flags = "", "00"
    if (
        traceparent is not None
        and (match := _TRACEPARENT.fullmatch(traceparent))
        and (not traceparent.startswith("00") or len(traceparent) == _VERSION_00_CHARS)
    ):
        trace_id, parent, flags = match.groups()
        if trace_id == _NO_TRACE or parent == _NO_SPAN:
            trace_id, flags = "", "00"
    if not trace_id:
        trace_id = made[32:]
        if trace_id in ("", _NO_TRACE):
            trace_id = f"{random.getrandbits(128) or 1:032x}"
    if timeout_ms is not None and timeout_ms.isascii() and timeout_ms.isdigit() and len(timeout_ms) <= 9:
        limit_ms = min(limit_ms, int(timeout_ms))
    return RequestContext(request_id, trace_id, flags, time.monotonic() + limit_ms / 1000)


def bind(context: RequestContext) -> Token[RequestContext | None]:
    """Make `context` the current one of this thread or task; give the token to `unbind`."""
    return _current.set(context)


def unbind(token: Token[RequestContext | None]) -> None:
    """Undo `bind`."""
    _current.reset(token)


def current() -> RequestContext | None:
    """The context of the request in hand, None outside a request."""
    return _current.get()


def deadline_within(limit_s: float) -> float:
    """The earlier of the request's deadline and `limit_s` from now, on the monotonic clock."""
    limit = time.monotonic() + limit_s
    context = _current.get()
    return limit if context is None or context.deadline_s > limit else context.deadline_s
