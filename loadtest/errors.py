"""What stops a measurement."""

from __future__ import annotations


class BenchError(Exception):
    """A measurement that cannot start or cannot be trusted; the text says why and what to do."""
