"""What is counted from 0, before its first event: a counter that appears as 1 has no increase, so no rate would show
the first error of a route.

Bounded: the gateway's own endpoints, and the storefront's own services. What the registry adds is counted as it comes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import TYPE_CHECKING

from chassis.health import PROBE_ENDPOINTS
from chassis.http import name_of
from gateway.edge.routes import PREFIXES, TENANT

if TYPE_CHECKING:
    from flask import Flask

    from gateway.edge.limits import Limiter
    from gateway.edge.observe import Observer

_WRITTEN_TO = {
    "users": ("POST", "PUT", "PATCH", "DELETE"),
    "links": ("POST", "PATCH", "DELETE"),
    "links_page": ("POST",),
    TENANT: ("POST",),
}


def expect(
    observer: Observer, limiter: Limiter, *, services: Collection[str], local: Iterable[str], registry: Flask
) -> None:
    """Count from 0.

    Args:
        services: the storefront's services that there are.
        local: names of the gateway's own endpoints outside the registry.
    """
    forwarded = {prefix.name for prefix in PREFIXES if prefix.service in services} | {TENANT}
    for endpoint in sorted(forwarded):
        limiter.expect(endpoint)
        for method in ("GET", *_WRITTEN_TO.get(endpoint, ())):
            observer.expect(method, endpoint)
    own = {("GET", name) for name in local if name not in PROBE_ENDPOINTS} | {("GET", "resolve")}
    for rule in registry.url_map.iter_rules():
        own |= {(method, name_of(rule)) for method in (rule.methods or set()) & {"GET", "POST", "PATCH", "DELETE"}}
    for method, endpoint in sorted(own):
        observer.expect(method, endpoint, own=True)
