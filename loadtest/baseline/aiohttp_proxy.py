"""The least that a proxy in ASGI and aiohttp does: bodies streamed, hop-by-hop headers dropped, nothing observed.

PORT=9002 WORKER_CLASS=asgi UPSTREAM=http://127.0.0.1:9001 \
    gunicorn -c python:loadtest.baseline.gunicorn_conf loadtest.baseline.aiohttp_proxy:app
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from loadtest.baseline.kit import HOP_BY_HOP

if TYPE_CHECKING:
    from loadtest.baseline.kit import Receive, Scope, Send

_HOP_BY_HOP = frozenset(name.encode() for name in HOP_BY_HOP)
_DROPPED_FROM_REQUEST = _HOP_BY_HOP | {b"host", b"content-length"}
_CHUNK_BYTES = 64 * 1024
_TIMEOUT = aiohttp.ClientTimeout(total=10, connect=1)


class _Proxy:
    """Forwards everything to UPSTREAM over kept connections."""

    def __init__(self) -> None:
        self._upstream = os.environ.get("UPSTREAM", "").rstrip("/")
        self._session: aiohttp.ClientSession | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._live(receive, send)
        elif scope["path"] == "/health/live":
            await _answer(send, 200, b'{"status":"alive"}')
        else:
            await self._forward(scope, receive, send)

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=50),
            timeout=_TIMEOUT,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
        )
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self._session.close()
        await send({"type": "lifespan.shutdown.complete"})

    async def _forward(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._session is None:
            raise RuntimeError("the lifespan has not begun")
        query = scope["query_string"]
        target = scope["raw_path"] + b"?" + query if query else scope["raw_path"]
        headers = []
        has_body = False
        for name, value in scope["headers"]:
            has_body = has_body or name in (b"content-length", b"transfer-encoding")
            if name not in _DROPPED_FROM_REQUEST:
                headers.append((name.decode("latin-1"), value.decode("latin-1")))
        try:
            async with self._session.request(
                scope["method"],
                URL(self._upstream + target.decode("latin-1"), encoded=True),
                headers=headers,
                data=_body(receive) if has_body else None,
                allow_redirects=False,
            ) as answer:
                kept = [(name, value) for name, value in answer.raw_headers if name.lower() not in _HOP_BY_HOP]
                await send({"type": "http.response.start", "status": answer.status, "headers": kept})
                if answer.content_length is not None and answer.content_length <= _CHUNK_BYTES:
                    await send({"type": "http.response.body", "body": await answer.read()})
                    return
                async for piece in answer.content.iter_chunked(_CHUNK_BYTES):
                    await send({"type": "http.response.body", "body": piece, "more_body": True})
                await send({"type": "http.response.body"})
        except TimeoutError:
            await _answer(send, 504, b'{"error":"upstream timed out"}')
        except aiohttp.ClientConnectorError:
            await _answer(send, 503, b'{"error":"upstream is away"}')


async def _body(receive: Receive) -> AsyncIterator[bytes]:
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return
        if message.get("body"):
            yield message["body"]
        if not message.get("more_body"):
            return


async def _answer(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


app = _Proxy()
