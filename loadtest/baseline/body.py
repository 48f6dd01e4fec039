"""The ready body that the bare servers answer with."""

from __future__ import annotations

import json
import os
from pathlib import Path


def ready_body() -> bytes:
    """The bytes of the file that BODY_FILE names: the bench puts a real answer of the catalogue there.

    Without BODY_FILE: twelve products of about the usual size, so that a bare server can be tried by hand.
    """
    named = os.environ.get("BODY_FILE")
    if named:
        return Path(named).read_bytes()
    return json.dumps([_product(number) for number in range(1, 13)]).encode()


def _product(number: int) -> dict[str, object]:
    return {
        "id": number,
        "name": f"Sample product {number}",
        "description": "A product that stands in for one of the catalogue's, with a sentence of the usual length.",
        "image_url": f"/static/products/{number}.svg",
        "price": {"amount": "12.50", "currency": "EUR"},
        "category": "samples",
        "tags": ["sample", "bench"],
        "stock": 10,
        "created_at": "2025-01-01T00:00:00+00:00",
    }
