"""What stands between a request and what it asks for: its key, its limit, its scope, in that order.

So every request counts, also one that is refused for want of a key; and wrong keys have a limit of their own.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from chassis.errors import Problem

if TYPE_CHECKING:
    from gateway.edge.access import Access
    from gateway.edge.limits import Headers, Limiter
    from gateway.edge.request import Request
    from gateway.registry.keys import ApiKey


class Admission(NamedTuple):
    """`key`: whose request it is, None for nobody's; `headers`: for its answer."""

    key: ApiKey | None
    headers: Headers


class Guard:
    """Lets requests through, or raises the problem to answer.

    Use it as `guard.admit(…) or await guard.ask(…)`: the second is needed once in a lease only.
    """

    def __init__(self, access: Access, limiter: Limiter) -> None:
        self._access = access
        self._limiter = limiter

    def admit(self, request: Request, endpoint: str, needed: str | None) -> Admission | None:
        """Let a request through, None if that takes asking.

        Args:
            endpoint: the route's name in metrics and in `RATE_LIMITS`.
            needed: as `access.required` says.

        Raises:
            Problem: 400, 401, 403 or 429.
        """
        access = self._access
        text = access.text_of(request)
        key = None
        if text is not None:
            key = access.find(request, text)
            if key is None:
                return None
        headers = self._limiter.take(request.client, endpoint, key)
        if headers is None:
            return None
        if needed is not None:
            self._authorize(key, needed, headers, presented=text is not None)
        return Admission(key, headers)

    async def ask(self, request: Request, endpoint: str, needed: str | None) -> Admission:
        """The same for a request of which `admit` did not know.

        Raises:
            Problem: 400, 401, 403 or 429.
        """
        access, limiter = self._access, self._limiter
        text = access.text_of(request)
        key = access.find(request, text) if text is not None else None
        if text is not None and key is None:
            access.count_unknown()
            await limiter.failed(request.client, endpoint)
        headers = limiter.take(request.client, endpoint, key)
        if headers is None:
            headers = await limiter.ask(request.client, endpoint, key)
        self._authorize(key, needed, headers, presented=text is not None)
        return Admission(key, headers)

    def _authorize(self, key: ApiKey | None, needed: str | None, headers: Headers, *, presented: bool) -> None:
        try:
            self._access.authorize(key, needed, presented=presented)
        except Problem as problem:
            problem.headers.update((name.decode(), value.decode()) for name, value in headers)
            raise
