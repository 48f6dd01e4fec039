"""A Flask application beside the edge: what it gets to see, what comes back, and that it cannot be flooded."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from flask import Flask, Response, request

from chassis import context
from chassis.errors import DeadlineExceeded, Unavailable
from gateway.edge.headers import Peers
from gateway.edge.request import Request
from gateway.registry.endpoints import ACTOR
from gateway.registry.mount import Mounted, MountedAnswer


def incoming(
    method: str = "GET", target: str = "/", headers: dict[str, str] | None = None, *, timeout_ms: int = 5000
) -> Request:
    """A request as the edge has it."""
    path, _, query = target.partition("?")
    scope = {
        "method": method,
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "scheme": "http",
        "http_version": "1.1",
        "client": ("192.0.2.1", 1234),
        "headers": [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()],
    }
    made = Request(scope, Peers(trusted=(), internal=()))
    made.context = context.begin("an-id", None, None, timeout_ms)
    return made


@pytest.fixture
def mount() -> Iterator[Callable[..., Mounted]]:
    """`mount(app, threads=…)` is `app` mounted; closed after the test."""
    made: list[Mounted] = []

    def mount(app: Flask, **options: int) -> Mounted:
        made.append(Mounted(app, **options))
        return made[-1]

    yield mount
    for mounted in made:
        mounted.close()


def test_a_request_goes_in_and_its_answer_comes_back(mount: Callable[..., Mounted]) -> None:
    """Method, path, query, fields, body and actor arrive; status, fields, body and the view's name come back."""
    app = Flask("sample", static_folder=None)
    seen: dict[str, Any] = {}

    def view(name: str) -> Response:
        seen.update(name=name, query=request.query_string, body=request.get_data(), type=request.mimetype)
        seen.update(actor=request.environ[ACTOR], condition=request.headers["If-Match"], peer=request.remote_addr)
        return Response(b"made", 201, headers={"X-Thing": "yes"})

    app.add_url_rule("/things/<name>", "make_thing", view, methods=["POST"])
    headers = {"If-Match": '"1"', "Content-Type": "text/plain", "Content-Length": "4", "Host": "shop"}
    asked = mount(app)(incoming("POST", "/things/caf%C3%A9?a=b%20c", headers), b"body", actor="ann")
    answer = asyncio.run(asked)
    assert (answer.status, answer.body, answer.endpoint) == (201, b"made", "make_thing")
    assert dict(answer.headers)[b"x-thing"] == b"yes"
    assert dict(answer.headers)[b"content-length"] == b"4"
    assert seen == {
        "name": "café", "query": b"a=b%20c", "body": b"body", "type": "text/plain",
        "actor": "ann", "condition": '"1"', "peer": "192.0.2.1",
    }  # fmt: skip


def test_what_the_application_must_not_see_stays_outside(mount: Callable[..., Mounted]) -> None:
    """No keys, and no field whose name a WSGI server takes for another's."""
    app = Flask("sample", static_folder=None)
    app.add_url_rule("/", "show", lambda: "\n".join(name for name in request.environ if name.startswith("HTTP_")))
    headers = {"Authorization": "Bearer x", "X-API-Key": "x", "If_Match": "x", "Transfer-Encoding": "chunked", "A": "1"}
    assert asyncio.run(mount(app)(incoming(headers=headers), b"", actor="")).body == b"HTTP_A"


def test_the_documents_stand_below_a_prefix(mount: Callable[..., Mounted]) -> None:
    """`/gateway/docs` is the application's `/docs`; `/gatewaydocs` is nothing of the kind; HEAD has no body."""
    app = Flask("sample", static_folder=None)
    app.add_url_rule("/docs", "docs", lambda: request.script_root)
    mounted = mount(app)
    assert asyncio.run(mounted(incoming(target="/gateway/docs"), b"", actor="")).body == b"/gateway"
    nothing = asyncio.run(mounted(incoming(target="/gatewaydocs"), b"", actor=""))
    assert (nothing.status, nothing.endpoint) == (404, "unmatched")
    head = asyncio.run(mounted(incoming("HEAD", "/gateway/docs"), b"", actor=""))
    assert (head.body, dict(head.headers)[b"content-length"]) == (b"", b"8")


def test_the_context_goes_along(mount: Callable[..., Mounted]) -> None:
    """Logs and database calls of the thread know the request."""
    app = Flask("sample", static_folder=None)
    app.add_url_rule("/", "show", lambda: ctx.request_id if (ctx := context.current()) else "none")

    async def ask() -> MountedAnswer:
        asked = incoming()
        context.bind(asked.context)
        return await mounted(asked, b"", actor="")

    mounted = mount(app)
    assert asyncio.run(ask()).body == b"an-id"


def test_more_than_can_wait_are_refused(mount: Callable[..., Mounted]) -> None:
    """One at work, one waiting, the third is 503 at once; a place is free again when one has been answered."""
    app = Flask("sample", static_folder=None)
    begun, go_on = threading.Event(), threading.Event()

    def slow() -> str:
        begun.set()
        assert go_on.wait(10)
        return "done"

    app.add_url_rule("/", "slow", slow)
    mounted = mount(app, threads=1, max_waiting=1)

    async def ask() -> None:
        first = asyncio.create_task(mounted(incoming(), b"", actor=""))
        second = asyncio.create_task(mounted(incoming(), b"", actor=""))
        await asyncio.to_thread(begun.wait, 10)
        with pytest.raises(Unavailable):
            await mounted(incoming(), b"", actor="")
        second.cancel()  # a client that left: what it waited for is not done
        await asyncio.gather(second, return_exceptions=True)
        third = asyncio.create_task(mounted(incoming(), b"", actor=""))
        go_on.set()
        assert [answer.body for answer in await asyncio.gather(first, third)] == [b"done", b"done"]

    asyncio.run(ask())


def test_a_deadline_ends_the_wait(mount: Callable[..., Mounted]) -> None:
    """504, whatever the thread is still doing."""
    app = Flask("sample", static_folder=None)
    go_on = threading.Event()
    app.add_url_rule("/", "slow", lambda: str(go_on.wait(10)))
    mounted = mount(app)
    try:
        with pytest.raises(DeadlineExceeded):
            asyncio.run(mounted(incoming(timeout_ms=20), b"", actor=""))
    finally:
        go_on.set()
