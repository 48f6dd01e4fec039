"""What the load test asks for. These are the only names that its statistics may have.

A URL with an id in it must never become a name: each would be an entry of its own, in memory and in every report.
"""

from __future__ import annotations

from enum import StrEnum


class Endpoint(StrEnum):
    """`<method> <name>`, as in slo.yml and as locust reports it."""

    HOME = "GET /"
    PRODUCTS = "GET /api/products"
    SEARCH = "GET /api/products?q="
    PRODUCT = "GET /api/products/[id]"
    PRODUCT_AGAIN = "GET /api/products/[id] If-None-Match"

    SIGN_UP = "POST /api/v1/users"
    PROFILE = "GET /api/v1/users/[id]"
    EDIT_PROFILE = "PATCH /api/v1/users/[id]"
    CLOSE_ACCOUNT = "DELETE /api/v1/users/[id]"
    USERS = "GET /api/v1/users?after="

    SHORTEN = "POST /api/v1/links"
    FOLLOW = "GET /s/[code]"
    LINK = "GET /api/v1/links/[code]"
    REMOVE_LINK = "DELETE /api/v1/links/[code]"

    RESOLVE = "GET /api/v1/routes/resolve"
    ADD_ROUTE = "POST /api/v1/routes"
    MOVE_CANARY = "PATCH /api/v1/routes/[id]"
    REMOVE_ROUTE = "DELETE /api/v1/routes/[id]"
    CANARY = "GET /t/load-test/[service]/api/products"

    @property
    def method(self) -> str:
        """The request's method."""
        return self.value.partition(" ")[0]

    @property
    def label(self) -> str:
        """The name in locust's statistics, which keep the method apart."""
        return self.value.partition(" ")[2]
