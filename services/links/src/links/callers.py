"""Who asks, as far as the gateway says: it checks keys, and tells whose it was.

    X-Caller: shop                    the name of the key
    X-Caller-Scopes: links:write      what it may do, separated by spaces

The gateway takes both away from what clients send. Who reaches this service past the gateway is inside: nobody asks
them for a key, and they may see and change every link.
"""

from __future__ import annotations

import re

from flask import request

ADMIN = "admin"
WRITE = "links:write"
_NAME = re.compile(r"[A-Za-z0-9._-]{1,63}")


def name() -> str:
    """To whom a new link belongs; "" if nobody is named."""
    found = request.headers.get("X-Caller", "")
    return found if _NAME.fullmatch(found) else ""


def scopes() -> frozenset[str]:
    """What the caller may do."""
    return frozenset(request.headers.get("X-Caller-Scopes", "").split())


def owner() -> str | None:
    """Whose links are to be seen; None: everybody's."""
    return name() if "X-Caller" in request.headers and ADMIN not in scopes() else None
