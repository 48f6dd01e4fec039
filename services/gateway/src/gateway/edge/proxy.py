"""The proxy: one request to an instance of its service, again where that is safe, and the answer back in time."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from chassis.errors import DeadlineExceeded, Problem, Unavailable
from gateway.edge.admission import Saturated
from gateway.edge.body import BodyRefused, Send
from gateway.edge.exchange import ConnectionDied, Exchange, OutOfTime, UpstreamError
from gateway.edge.fetched import Fetched
from gateway.edge.headers import Header, Peers
from gateway.edge.instance import Instance, Unreachable
from gateway.edge.lanes import Lane, Lanes
from gateway.edge.message import message

if TYPE_CHECKING:
    from chassis.metrics import Metrics
    from gateway.edge.request import Request
    from gateway.edge.target import Target
    from gateway.edge.upstream import Upstreams
    from gateway.registry.route import Route

REPEATABLE = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
WORTH_A_RETRY = frozenset({502, 503, 504})
MAX_UNREACHABLE = 3
"""So many instances in a row that cannot be reached, and the request is given up."""
RETRY_WAIT_S = (0.01, 0.05)
SOON_S = 0.25
"""An error that took longer to say came of waiting for something, a database that hangs most likely. Another instance
would wait for it as well, and the client for both.
"""
ABANDONED = "abandoned"
"""By the client: it left, or its body was too large or too slow."""
_BLAME_SHARE = 0.9
"""A time-out speaks against an instance only if it had at least this share of the gateway's own time."""


class LeftAlone(UpstreamError):
    """Every instance that could answer is being left alone."""

    outcome = "open"

    def __init__(self) -> None:
        super().__init__("no instance is in use")


class ClosedWhileIdle(ConnectionDied):
    """A kept connection was closed as a request came that must not be sent twice."""

    def __init__(self) -> None:
        super().__init__(unheard=True)


class _Call:
    """One request on its way, over all its tries. `lane` and `instance` are those of the last one."""

    __slots__ = (
        "avoided", "fields", "has_full_time", "instance", "lane", "piece", "repeatable", "request", "target", "tried",
        "whole", "without",
    )  # fmt: skip

    instance: Instance

    def __init__(
        self,
        request: Request,
        target: Target,
        lane: Lane,
        piece: bytes,
        fields: Sequence[Header],
        without: Collection[bytes],
    ) -> None:
        self.request = request
        self.target = target
        self.piece = piece
        self.fields = fields
        self.without = without
        self.whole = request.body is None or not request.body.unread
        self.repeatable = self.whole and request.method in REPEATABLE
        self.has_full_time = False
        self.lane = lane
        self.tried: list[Instance] = []
        self.avoided: Instance | None = None


class Proxy:
    """Sends requests to upstreams and counts what comes of them.

    Args:
        env: the gateway's own environment.
        timeout_s: the gateway's own deadline for a request.
        services: the storefront's own, which are counted from 0.
    """

    def __init__(
        self,
        upstreams: Upstreams,
        *,
        peers: Peers,
        metrics: Metrics,
        env: str,
        timeout_s: float,
        services: Sequence[str] = (),
    ) -> None:
        self._lanes = Lanes(upstreams, env=env, metrics=metrics, services=services)
        self._peers = peers
        self._blame_after_s = timeout_s * _BLAME_SHARE
        self._shed = metrics.counter(
            "gateway_shed_total", "Requests turned away because an upstream or the gateway had enough", ("upstream",)
        )
        self._retries = metrics.counter(
            "gateway_retries_total", "Requests sent again by what came of it", ("upstream", "outcome")
        )
        for service in services:
            self._shed.labels(service)
            for outcome in ("answered", "failed", "over_budget"):
                self._retries.labels(service, outcome)

    def shed(self, target: Target) -> None:
        """Count a request that was turned away before anybody was asked, under the upstream that it was for."""
        route = target.choose()
        if route is not None:
            self._shed.labels(self._lanes.of(route).label).inc()

    async def forward(
        self, request: Request, target: Target, route: Route, send: Send, headers: Sequence[Header] = ()
    ) -> int:
        """Answer `request` with what is fetched from `route`, and further `headers`; returns the status.

        Raises:
            Problem: there is no answer to pass on; nothing has been sent to the client.
            Truncated: the answer broke off after it had begun.
        """
        fetched = await self.fetch(request, target, route)
        try:
            return await fetched.relay(request, send, headers)
        finally:
            fetched.close()

    async def fetch(
        self,
        request: Request,
        target: Target,
        route: Route,
        *,
        fields: Sequence[Header] = (),
        without: Collection[bytes] = (),
    ) -> Fetched:
        """Send `request` to `route`, or to another of the target's if nobody is there; returns when the head of the
        answer is here, of a small answer all of it. The caller closes it.

        Args:
            fields: fields added to the request, names in lower case; the request's own of those names are left out.
            without: names of fields of the request that are left out.

        Raises:
            Problem: there is no answer: 503, 504, or what is wrong with the request's body.
        """
        lane = self._lanes.of(route)
        context, body = request.context, request.body
        try:
            if context.remaining_s() <= 0:
                lane.count(OutOfTime.outcome)
                raise OutOfTime("the request came with no time left")
            piece = await body.first(context.remaining_s()) if body is not None else b""
            call = _Call(request, target, lane, piece, fields, without)
            call.has_full_time = call.whole and context.remaining_s() >= self._blame_after_s
            lane.upstream.budget.deposit()
            return await self._with_retry(call, lane)
        except UpstreamError as error:
            raise _problem(route, error) from None

    async def _with_retry(self, call: _Call, lane: Lane) -> Fetched:
        """A try; and for what may be repeated and is worth it another one, if budget and time allow.

        Raises:
            UpstreamError: there is no answer.
        """
        first: Fetched | None = None
        began_s = time.monotonic()
        try:
            first = await self._reach(call, lane)
            if first.status not in WORTH_A_RETRY or time.monotonic() - began_s > SOON_S or not self._may_retry(call):
                return first
        except ConnectionDied:
            if not self._may_retry(call):
                raise
        outcome = "failed"
        try:
            await asyncio.sleep(random.uniform(*RETRY_WAIT_S))  # noqa: S311 - jitter
            second = await self._reach(call, call.lane)
            if second.status not in WORTH_A_RETRY:
                outcome = "answered"
        except UpstreamError:
            if first is None:
                raise
            second, first = first, None
        finally:
            self._count_retry(call, outcome)
            if first is not None:
                first.close()
        return second

    def _may_retry(self, call: _Call) -> bool:
        """Whether the request may be sent again, after the try that `call` speaks of; another instance is preferred."""
        if not call.repeatable or call.request.context.remaining_s() <= RETRY_WAIT_S[1]:
            return False
        if not call.lane.upstream.budget.take():
            self._count_retry(call, "over_budget")
            return False
        call.avoided = call.instance
        return True

    def _count_retry(self, call: _Call, outcome: str) -> None:
        self._retries.labels(call.lane.label, outcome).inc()

    async def _reach(self, call: _Call, lane: Lane) -> Fetched:
        """One try that reaches an instance. Where nobody can be reached nothing is sent, so the next one is tried at
        once, whatever the method.

        Raises:
            UpstreamError: there is no answer.
        """
        error: UpstreamError | None = None
        for _ in range(MAX_UNREACHABLE):
            try:
                lane, instance = await self._find(call, lane)
            except UpstreamError as nobody:
                if error is None:
                    lane.count(nobody.outcome)
                raise error or nobody from None
            try:
                return await self._send(call, lane, instance)
            except Unreachable as unreachable:
                error = unreachable
                call.tried.append(instance)
        raise error or LeftAlone()

    async def _find(self, call: _Call, lane: Lane) -> tuple[Lane, Instance]:
        """The instance for the next try: a fine one of the lane, else of another version, else the least bad.

        Raises:
            UpstreamError: there is none.
        """
        if call.avoided is None:
            instance = lane.upstream.pick(call.tried, trial=call.repeatable)
            return (lane, instance) if instance is not None else await self._look_further(call, lane)
        call.tried.append(call.avoided)
        try:
            return await self._look_further(call, lane)
        except UpstreamError:
            call.tried.remove(call.avoided)
            return await self._look_further(call, lane)
        finally:
            call.avoided = None

    async def _look_further(self, call: _Call, lane: Lane) -> tuple[Lane, Instance]:
        error: UpstreamError | None = None
        lanes: list[Lane] = []
        excluded: list[int] = []
        while len(excluded) < MAX_UNREACHABLE:
            excluded.append(lane.route.id)
            upstream = lane.upstream
            try:
                if not upstream.instances:
                    await upstream.find(call.request.context.remaining_s())
                instance = upstream.pick(call.tried, trial=call.repeatable)
                if instance is not None:
                    return lane, instance
                lanes.append(lane)
            except UpstreamError as nowhere:
                error = nowhere
            route = call.target.choose(excluded)
            if route is None:
                break
            lane = self._lanes.of(route)
        for lane in lanes:
            instance = lane.upstream.last_resort(call.tried)
            if instance is not None:
                return lane, instance
        for lane in lanes:
            instance = await lane.upstream.knock(call.tried)
            if instance is not None:
                return lane, instance
        raise error or LeftAlone()

    async def _send(self, call: _Call, lane: Lane, instance: Instance) -> Fetched:
        """Send the request to `instance`; returns when the answer's head is here.

        A request that is the same sent twice, and whose kept connection turns out to have been closed before the
        first byte of an answer, is sent once more on a new one.

        Raises:
            UpstreamError: there is no answer.
        """
        call.lane, call.instance = lane, instance
        admission, context = lane.upstream.admission, call.request.context
        began_s = time.monotonic()
        try:
            mark = admission.enter(context.deadline_s - began_s, began_s)
        except Saturated as error:
            instance.released()
            lane.count(error.outcome)
            self._shed.labels(lane.label).inc()
            raise
        instance.waiting += 1
        instance.requests += 1
        try:
            exchange = await self._exchange(call, lane, instance)
        except OutOfTime as error:
            admission.answered(began_s, time.monotonic(), mark, late=True)
            self._failed(error, lane, instance, blame=call.has_full_time)
            raise
        except UpstreamError as error:
            admission.unanswered()
            self._failed(error, lane, instance, blame=not isinstance(error, (BodyRefused, ClosedWhileIdle)))
            raise
        except BaseException:
            admission.given_up(began_s, time.monotonic())
            admission.leave()
            instance.released()
            lane.count(ABANDONED)
            raise
        finally:
            instance.waiting -= 1
        admission.answered(began_s, time.monotonic(), mark)
        return Fetched(lane, instance, exchange, context)

    def _failed(self, error: UpstreamError, lane: Lane, instance: Instance, *, blame: bool) -> None:
        """A request to `instance` was not answered; `blame` says whether that is its doing."""
        admission = lane.upstream.admission
        admission.leave()
        lane.count(error.outcome)
        if not blame:
            instance.released()
        elif instance.failed(error):
            admission.forgive()

    async def _exchange(self, call: _Call, lane: Lane, instance: Instance) -> Exchange:
        request, whole, repeatable = call.request, call.whole, call.repeatable
        context, body = request.context, request.body
        data = message(
            request, call.target, lane.upstream, self._peers,
            piece=call.piece, whole=whole, fields=call.fields, without=call.without,
        )  # fmt: skip
        connection = instance.take_idle(probe=not repeatable)
        while True:
            if connection is None:
                connection = await instance.connect(context.remaining_s())
            reused = connection.used
            exchange = connection.begin(data, head_only=request.method == "HEAD", whole=whole)
            timer = connection.loop.call_later(max(context.remaining_s(), 0.0), _expire, request, exchange)
            if body is not None and not whole:
                body.start(exchange)
            try:
                await exchange.head()
                return exchange
            except ConnectionDied as error:
                if not (error.unheard and reused):
                    raise
                if not repeatable:
                    raise ClosedWhileIdle from None
                lane.count(error.outcome)
                connection = None
            finally:
                timer.cancel()
                if not exchange.streaming:
                    exchange.abandon()


def _expire(request: Request, exchange: Exchange) -> None:
    """The deadline has passed: it is the client's fault if its body is what is missing."""
    body = request.body
    if body is not None and body.unread and not exchange.connection.write_paused:
        exchange.fail(body.late())
    else:
        exchange.expire()


def _problem(route: Route, error: UpstreamError) -> Problem:
    """What a client is told: never a driver's text, and where something is lost or full, when to come back."""
    if isinstance(error, BodyRefused):
        return error.problem
    if isinstance(error, OutOfTime):
        return DeadlineExceeded(f"The {route.service} service did not answer in time")
    if isinstance(error, Saturated):
        return Unavailable(f"The {route.service} service is busy")
    return Unavailable(f"The {route.service} service is not available")
