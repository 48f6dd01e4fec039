"""The gateway: one door for every service of the storefront."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from gateway.edge.app import Edge
    from gateway.settings import GatewaySettings


def create_app(settings: GatewaySettings) -> Edge:
    """The ASGI application for `settings`. It opens nothing until the server's lifespan begins."""
    from gateway.edge.app import Edge  # late: it imports the metrics, which gunicorn_conf has to prepare first

    return Edge(settings)
