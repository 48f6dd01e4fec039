"""The storefront's own routes, as the settings have them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from gateway.registry.route import Route

if TYPE_CHECKING:
    from gateway.settings import Settings

TENANT = "storefront"
VERSION = "v1"


def house_routes(settings: Settings) -> list[Route]:
    """A route to each service that has a `*_URL`: what the first start creates, and all there is without a database.

    Their ids count from 1, their revision is 0.
    """
    now = datetime.now(UTC)
    urls = {"catalogue": settings.catalogue_url, "user": settings.user_url, "links": settings.links_url}
    named = [(service, url) for service, url in urls.items() if url is not None]
    return [
        Route(number, TENANT, service, settings.gateway_env, VERSION, url, True, 100, now, now)
        for number, (service, url) in enumerate(named, 1)
    ]
