"""The shared cache of answers (RFC 9111), one in each worker."""

from gateway.edge.cache.cache import Cache

__all__ = ["Cache"]
