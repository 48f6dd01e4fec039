"""Who asks, and whether they may: API keys and scopes.

A key comes as `Authorization: Bearer <key>` or as `X-API-Key: <key>`. It is looked up anew for every request, so a
revoked one is nobody's from the moment that the keyring knows. It never reaches a service, a log line or a metric.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from chassis.errors import BadRequest, Problem
from gateway.registry.house import TENANT as HOUSE
from gateway.registry.keys import ADMIN, PREFIX, ApiKey, Keyring

if TYPE_CHECKING:
    from chassis.metrics import Metrics
    from gateway.edge.request import Request

ANY = "any"
"""Any valid key will do."""
CHALLENGE = 'Bearer realm="storefront"'
_READS = frozenset({"GET", "HEAD"})
_BEARER = b"bearer "
_OPEN = {
    "catalogue": frozenset({"/", "/api/products", "/static", "/docs", "/openapi.json"}),
    "user": frozenset({"/docs", "/openapi.json"}),
    "links": frozenset({"/s", "/qr", "/docs", "/openapi.json"}),
}
_OPEN_BELOW = {
    "catalogue": ("/api/products/", "/static/", "/docs/"),
    "user": ("/docs/",),
    "links": ("/s/", "/qr/", "/docs/"),
}
_USERS = "/api/v1/users"
_LINKS = "/api/v1/links"
_LINKS_PAGES = frozenset({"/", "/links"})


class Unauthorized(Problem):
    """401: there is no valid key, and one is needed."""

    status = 401


class Forbidden(Problem):
    """403: the key is valid, and not for this."""

    status = 403


def required(tenant: str, service: str, path: str, method: str) -> str | None:
    """What a request to a service needs: a scope, `ANY` key, or nothing (None).

    Args:
        path: as the service will see it, decoded, without a prefix that the edge strips. So it makes no difference
            by which of the edge's paths a request comes.
    """
    if tenant != HOUSE:
        return ANY
    if service in _OPEN and (path in _OPEN[service] or path.startswith(_OPEN_BELOW[service])):
        return None
    if service == "user" and _is_below(path, _USERS):
        if method == "OPTIONS" or (method == "POST" and path == _USERS):  # a CORS preflight has no key; sign-up
            return None
        return "users:read" if method in _READS else "users:write"
    if service == "links":
        if path in _LINKS_PAGES or _is_below(path, "/links"):  # to look at; a form that is sent makes a link
            return None if method in _READS or method == "OPTIONS" else "links:write"
        if _is_below(path, _LINKS):
            return None if method == "OPTIONS" else "links:write"
    return ADMIN  # health, metrics, and whatever else a service has: nothing that shoppers are shown


def required_of_registry(method: str) -> str | None:
    """The same for the registry's own API, `/api/v1/routes` and below."""
    if method == "OPTIONS":
        return None
    return "routes:read" if method in _READS else "routes:write"


def _is_below(path: str, prefix: str) -> bool:
    """Whether `path` is `prefix` or below it, by whole segments."""
    return path.startswith(prefix) and path[len(prefix) : len(prefix) + 1] in ("", "/")


def _is_bearer(authorization: bytes) -> bool:
    return authorization[: len(_BEARER)].lower() == _BEARER


def _times(request: Request, name: bytes) -> int:
    return sum(line[0] == name for line in request.lines)


class Access:
    """Finds out whose key a request carries, and refuses what it does not cover.

    Args:
        metrics: gets `gateway_auth_failures_total{reason}`: `missing`, `unknown` (or revoked), `ambiguous`, `scope`.
    """

    def __init__(self, keyring: Keyring, *, metrics: Metrics) -> None:
        self._keyring = keyring
        self._failures = metrics.counter(
            "gateway_auth_failures_total", "Requests without a key that covers them, by reason", ("reason",)
        )
        for reason in ("missing", "unknown", "ambiguous", "scope"):
            self._failures.labels(reason)

    def text_of(self, request: Request) -> str | None:
        """What the request carries as a key, None if it carries none.

        Raises:
            BadRequest: there are two that differ, or two `Authorization`: a service could believe another one than
                we do, and would get the one that we do not know of.
        """
        own = request.headers.get(b"x-api-key")
        authorization = request.headers.get(b"authorization")
        if authorization is not None and b"," in authorization and _times(request, b"authorization") > 1:
            self._failures.labels("ambiguous").inc()
            raise BadRequest("Authorization is there twice")
        if authorization is not None and _is_bearer(authorization):
            bearer = authorization[len(_BEARER) :].strip(b" \t")
            if own is not None and own != bearer:
                self._failures.labels("ambiguous").inc()
                raise BadRequest("Authorization and X-API-Key hold different keys")
            own = bearer
        return None if own is None else own.decode("latin-1")

    def find(self, request: Request, text: str) -> ApiKey | None:
        """The key with this text, None if there is none, or no longer.

        Effects: a key of ours in `Authorization` will not be forwarded, nor one that looks like ours.
        """
        key = self._keyring.find(text)
        if (key is not None or text.startswith(PREFIX)) and _is_bearer(request.headers.get(b"authorization", b"")):
            request.strip_authorization = True
        return key

    def count_unknown(self) -> None:
        """Count a key that there is not."""
        self._failures.labels("unknown").inc()

    def authorize(self, key: ApiKey | None, needed: str | None, *, presented: bool) -> None:
        """Let through who may do what needs `needed`.

        Args:
            presented: whether there was something that could have been a key.

        Raises:
            Unauthorized: a key is needed, and `key` is None.
            Forbidden: it lacks the scope.
        """
        if needed is None:
            return
        if key is None:
            if presented:
                challenge = f'{CHALLENGE}, error="invalid_token"'
                raise Unauthorized("The API key is not valid", headers={"WWW-Authenticate": challenge})
            self._failures.labels("missing").inc()
            raise Unauthorized("An API key is needed here", headers={"WWW-Authenticate": CHALLENGE})
        if needed != ANY and not key.allows(needed):
            self._failures.labels("scope").inc()
            challenge = f'{CHALLENGE}, error="insufficient_scope", scope="{needed}"'
            raise Forbidden(f"This needs a key with the scope {needed}", headers={"WWW-Authenticate": challenge})
