"""Asking an instance, out of turn, whether it is there."""

from __future__ import annotations

import time

from gateway.edge.exchange import UpstreamError
from gateway.edge.instance import Instance
from gateway.edge.upstream import Upstream

LIMIT_S = 1.0
"""A service has this long to answer."""


async def status_of(instance: Instance, request_line: bytes, *, limit_s: float = LIMIT_S) -> int:
    """What an instance answers to `request_line` (with its Host field), on a connection of its own: that it still
    accepts one is part of the answer.

    Raises:
        UpstreamError: nothing, in time.
    """
    deadline_s = time.monotonic() + limit_s
    connection = await instance.connect(limit_s)
    exchange = connection.begin(request_line + b"Connection: close\r\n\r\n", head_only=False, whole=True)
    timer = connection.loop.call_later(max(deadline_s - time.monotonic(), 0.0), exchange.expire)
    try:
        await exchange.head()
        return exchange.status
    finally:
        timer.cancel()
        exchange.abandon()


def live_line(upstream: Upstream) -> bytes:
    """The request for `/health/live` of a service of the house."""
    return b"GET " + upstream.base + b"/health/live" + upstream.request_line_end


async def is_up(upstream: Upstream, *, limit_s: float = LIMIT_S) -> bool:
    """Whether any instance of a service of the house says that it is alive."""
    try:
        await upstream.find(limit_s)
    except UpstreamError:
        return False
    for instance in upstream.instances:
        try:
            if await status_of(instance, live_line(upstream), limit_s=limit_s) == 200:
                return True
        except UpstreamError:
            continue
    return False


async def accepts(instance: Instance) -> bool:
    """Whether a connection can be made to an instance of which nothing else is known."""
    connection = await instance.connect(LIMIT_S)
    connection.abort()
    return True
