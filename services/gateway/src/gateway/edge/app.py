"""The ASGI application: every request comes in and goes out here, observed from end to end."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from chassis import context
from chassis.errors import CONTENT_TYPE, NotFound, Problem, Unavailable, problem_bytes
from chassis.logging import Batch, batch_requests
from gateway.edge import callers
from gateway.edge.access import Forbidden, Unauthorized, required, required_of_registry
from gateway.edge.body import Body, Receive, Send
from gateway.edge.fetched import CLOSE, SERVER, Truncated
from gateway.edge.headers import Header
from gateway.edge.local import HTML, JSON, Endpoint
from gateway.edge.quick import Quick
from gateway.edge.request import Request
from gateway.edge.routes import NOWHERE, TENANT, Place
from gateway.edge.uploads import Uploads
from gateway.registry import resolve

if TYPE_CHECKING:
    from chassis.lifecycle import Lifecycle
    from gateway.edge.access import Access
    from gateway.edge.cache import Cache
    from gateway.edge.headers import Peers
    from gateway.edge.limits import Limiter
    from gateway.edge.observe import Observer
    from gateway.edge.routes import Router
    from gateway.edge.target import Target
    from gateway.edge.upstream import Upstreams
    from gateway.registry.feed import Feed
    from gateway.registry.keys import ApiKey
    from gateway.registry.mount import Mounted
    from gateway.registry.relay import EventRelay
    from gateway.registry.resolve import Resolver
    from gateway.settings import Settings

log = logging.getLogger(__name__)

ABANDONED = 499
"""What metrics and logs call a request whose client left before the answer; nobody ever receives it."""
TICK_S = 1.0
"""How often idle connections are looked over and gauges set."""
REGISTRY = "/api/v1/routes"
REGISTRY_DOCS = ("/gateway/docs", "/gateway/openapi.json")
_MOST_REMEMBERED = 4096
_LONGEST_REMEMBERED = 256
"""Paths whose checks and prefix are remembered: how many, and up to how many bytes."""
_PAGE_HEADERS: tuple[Header, ...] = (
    (b"content-security-policy", b"default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
)
_NO_STORE: Header = (b"cache-control", b"no-store")


class Edge:
    """The gateway's edge, made of the parts that `gateway.create_app` gives it. Nothing is opened before the server's
    lifespan begins.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        lifecycle: Lifecycle,
        peers: Peers,
        endpoints: Mapping[str, Endpoint],
        resolver: Resolver,
        registry: Mounted,
        router: Router,
        access: Access,
        limiter: Limiter,
        cache: Cache,
        upstreams: Upstreams,
        observer: Observer,
        feed: Feed,
        relay: EventRelay,
    ) -> None:
        self.settings = settings
        self.cache = cache
        self.quick = Quick(
            peers=peers, router=router, limiter=limiter, cache=cache, observer=observer,
            limit_ms=settings.request_timeout_ms,
        )  # fmt: skip
        self.extensions = {"lifecycle": lifecycle}
        self._peers = peers
        self._endpoints = endpoints
        self._resolver = resolver
        self._registry = registry
        self._router = router
        self._access = access
        self._limiter = limiter
        self._upstreams = upstreams
        self._observer = observer
        self._feed = feed
        self._relay = relay
        self._uploads = Uploads()
        self._in_flight = 0
        self._places: dict[bytes, Place] = {}

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """ASGI."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:
            raise RuntimeError(f"{scope['type']} is not served here")

    # --- requests --------------------------------------------------------------------------------------------------

    async def _http(self, scope: Any, receive: Receive, send: Send) -> None:
        began_s = time.perf_counter()
        request = Request(scope, self._peers)
        request.context = context.begin(
            request.text(b"x-request-id"),
            request.text(b"traceparent"),
            request.text(b"x-request-timeout-ms"),
            self.settings.request_timeout_ms,
        )
        token = context.bind(request.context)
        status = ABANDONED
        try:
            status = await self._serve(request, receive, send)
        finally:
            self._observer.request(request, status, time.perf_counter() - began_s)
            context.unbind(token)
            if request.body is not None and status == ABANDONED:
                request.body.close()
        if request.body is not None:
            await request.body.discard()

    async def _serve(self, request: Request, receive: Receive, send: Send) -> int:
        """Answer, whatever happens; returns the status."""
        try:
            request.check()
            place = self._places.get(request.raw_path)
            if place is None:
                request.check_path()
            length = request.body_length()
            if length != 0:
                limit = self.settings.max_body_bytes
                request.body = Body(receive, length=length, limit=limit, expected=b"expect" in request.headers)
            if place is not None:
                return await self._forward(request, place, send)
            path = request.path
            local = self._endpoints.get(path)
            if local is not None:
                return await self._answer(request, local, send)
            if path.startswith(REGISTRY) and path[len(REGISTRY) : len(REGISTRY) + 1] in ("", "/"):
                return await self._register(request, send)
            if path.startswith(REGISTRY_DOCS):
                return await self._document(request, send)
            place = self._router.place(request)
            if place.name != TENANT and len(request.raw_path) <= _LONGEST_REMEMBERED:
                if len(self._places) >= _MOST_REMEMBERED:
                    self._places.clear()
                self._places[request.raw_path] = place
            return await self._forward(request, place, send)
        except Problem as problem:
            return await self._refuse(request, problem, send)
        except Truncated as truncated:  # gunicorn closes the connection of an answer that has no end
            return truncated.status
        except Exception as error:
            log.exception("Unexpected %s", type(error).__name__)
            self._observer.error(type(error).__name__)
            return await self._refuse(request, Problem("Something went wrong on our side"), send)

    async def _admit(self, request: Request, needed: str | None, *, in_form: str | None = None) -> ApiKey | None:
        """Let a request through to what needs the scope `needed` (None: nothing).

        Args:
            in_form: the key that came in a form; one in a header counts before it.

        Effects: sets `request.said`, what the answer says of its rate limit.

        Raises:
            Problem: 400, 401, 403 or 429.
        """
        access, limiter, client, endpoint = self._access, self._limiter, request.client, request.endpoint
        text = access.text_of(request) or in_form
        key = access.find(request, text) if text is not None else None
        if text is not None and key is None:
            access.count_unknown()
            await limiter.failed(client, endpoint)
        said = limiter.take(client, endpoint, key)
        request.said = await limiter.ask(client, endpoint, key) if said is None else said
        access.authorize(key, needed, presented=text is not None)
        return key

    async def _forward(self, request: Request, place: Place, send: Send) -> int:
        """Answer with what a service behind says, or has said."""
        request.endpoint = place.name
        needed = required(place.tenant, place.service, place.path, request.method)
        request.personal = needed is not None
        await self._admit_to(place, request, needed)
        target = self._router.target(request, place)
        body = request.body
        streams = body is not None and await self._uploads.admit(body, request.context.remaining_s())
        try:
            return await self._ask(request, place, target, send, needed)
        finally:
            if streams and body is not None:
                body.when_sent(self._uploads.release)

    async def _ask(self, request: Request, place: Place, target: Target, send: Send, needed: str | None) -> int:
        """Answer with what a service behind says, or has said, as one of so many requests at a time."""
        if self._in_flight >= self.settings.max_in_flight:
            raise Unavailable("The gateway is busy")
        self._in_flight += 1
        status = ABANDONED
        try:
            status = await self.cache.answer(request, target, send)
            if request.cached and needed is None and place.name != TENANT:
                self.quick.learn(request, place, target)
            return status
        except Problem as problem:
            status = problem.status
            raise
        except Truncated:
            status = 502  # what the client got was no answer
            raise
        finally:
            self._in_flight -= 1
            if target.chosen is not None:
                self._observer.routed(target.chosen, status, cached=request.cached)

    async def _admit_to(self, place: Place, request: Request, needed: str | None) -> None:
        """Let a request through to a service.

        Effects: sets `request.said` and `request.caller`.

        Raises:
            Problem: 400, 401, 403 or 429.
        """
        if not callers.is_form(place, request):
            key = await self._admit(request, needed)
            if callers.is_told(place):
                request.caller = callers.lines(key)
            return
        in_form = await callers.take_key(request)
        try:
            request.caller = callers.lines(await self._admit(request, needed, in_form=in_form))
        except (Unauthorized, Forbidden) as problem:
            request.caller = callers.refused(problem.status)

    async def _register(self, request: Request, send: Send) -> int:
        """Answer with the registry: from memory if that is all it takes, else by its Flask application."""
        resolving = request.path == resolve.PATH and request.method == "GET"
        request.endpoint = "resolve" if resolving else "routes"
        request.own = True
        key = await self._admit(request, required_of_registry(request.method))
        if resolving:
            resolved = self._resolver.answer(request.query)
            if resolved is not None:
                await _send(request, send, resolved.status, JSON, resolved.body, [_NO_STORE])
                return resolved.status
        return await self._mounted(request, send, actor=key.name if key is not None else "")

    async def _document(self, request: Request, send: Send) -> int:
        request.endpoint = "docs"
        request.own = True
        await self._admit(request, None)
        return await self._mounted(request, send, actor="")

    async def _mounted(self, request: Request, send: Send, *, actor: str) -> int:
        body = await request.body.whole(request.context.remaining_s()) if request.body is not None else b""
        answer = await self._registry(request, body, actor=actor)
        if request.endpoint == "routes" and answer.endpoint != "unmatched":
            request.endpoint = answer.endpoint
        headers = [*answer.headers, *request.said, (b"x-request-id", request.context.request_id.encode()), SERVER]
        await send({"type": "http.response.start", "status": answer.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer.body})
        return answer.status

    async def _answer(self, request: Request, endpoint: Endpoint, send: Send) -> int:
        """Answer with one of the gateway's own endpoints."""
        if endpoint.internal and not self._peers.is_internal(request.peer):
            raise NotFound(NOWHERE)
        request.endpoint = endpoint.name
        request.own = True
        if request.method not in ("GET", "HEAD"):
            raise Problem("This address does not take that method", status=405, headers={"Allow": "GET, HEAD"})
        if endpoint.internal:
            self.flush()  # of this worker nothing is missing in what operators see
        status, content_type, body = await endpoint.answer(request)
        headers = [_NO_STORE]
        if content_type == HTML:
            headers += _PAGE_HEADERS
        await _send(request, send, status, content_type, body, headers)
        return status

    async def _refuse(self, request: Request, problem: Problem, send: Send) -> int:
        """Answer with a problem."""
        if problem.status >= 500:
            self._observer.error(problem.slug or type(problem).__name__)
        body = problem_bytes(problem.status, problem.detail, slug=problem.slug, errors=problem.errors)
        headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
        await _send(request, send, problem.status, CONTENT_TYPE, body, headers)
        return problem.status

    def malformed(self, peer: str, status: int, detail: str) -> tuple[bytes, str]:
        """For what the server could not read as a request: count and log it. Returns the answer's body and id."""
        return self._observer.malformed(peer, status, detail, limit_ms=self.settings.request_timeout_ms)

    # --- life ------------------------------------------------------------------------------------------------------

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        """Until the server says stop, look after the pools; by then every request has been answered or given up."""
        await receive()
        loop = asyncio.get_running_loop()
        batch = Batch(loop.call_soon)
        batch_requests(batch)
        self._feed.start(loop)
        self._relay.start()
        ticker = asyncio.create_task(self._tick())
        await send({"type": "lifespan.startup.complete"})
        await receive()
        ticker.cancel()
        self.cache.close()
        self.flush()
        batch.flush()
        batch_requests(None)
        self._upstreams.close()
        await self._limiter.close()
        await asyncio.gather(*map(asyncio.to_thread, (self._feed.stop, self._relay.stop, self._registry.close)))
        await send({"type": "lifespan.shutdown.complete"})

    def flush(self) -> None:
        """Take over into the metrics what was counted in memory."""
        self._observer.flush()
        self.cache.sample()

    async def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                self._upstreams.tick(loop.time())
                self.flush()
            except Exception:  # the next turn may do better, and without any the pools would fill up
                log.exception("Looking after the pools failed")
            await asyncio.sleep(TICK_S)


async def _send(
    request: Request, send: Send, status: int, content_type: str, body: bytes, headers: list[Header]
) -> None:
    """One whole answer of our own."""
    headers += (
        *request.said,
        (b"content-type", content_type.encode()),
        (b"content-length", b"%d" % len(body)),
        (b"x-request-id", request.context.request_id.encode()),
        SERVER,
    )
    if request.body is not None and request.body.unread:
        headers.append(CLOSE)
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if request.method == "HEAD" else body})
