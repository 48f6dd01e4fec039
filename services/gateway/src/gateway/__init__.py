"""The gateway: one door for every service of the storefront."""

from gateway.edge.app import Edge
from gateway.settings import Settings


def create_app(settings: Settings) -> Edge:
    """The ASGI application for `settings`. It opens nothing until the server's lifespan begins."""
    return Edge(settings)
