"""The floor under the edge: a ready body over ASGI. Also the upstream that both proxies are measured in front of.

PORT=9001 WORKER_CLASS=asgi gunicorn -c python:loadtest.baseline.gunicorn_conf loadtest.baseline.bare_asgi:app
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from loadtest.baseline.body import ready_body

if TYPE_CHECKING:
    from loadtest.baseline.kit import Receive, Scope, Send

_BODY = ready_body()
_START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(_BODY)).encode())],
}
_END = {"type": "http.response.body", "body": _BODY}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer any HTTP request with the ready body; take part in lifespan."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": message["type"] + ".complete"})
            if message["type"] == "lifespan.shutdown":
                return
    await send(_START)
    await send(_END)
