"""Links as JSON, and their addresses."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

PATH = "/api/v1/links"
_FIELDS = ("code", "url", "short_url", "qr_url", "clicks", "created_at", "expires_at", "disabled")


class Addresses:
    """The addresses of links.

    Args:
        public_url: where the world reaches the storefront, without a slash at its end.
    """

    def __init__(self, public_url: str) -> None:
        self._base = public_url

    def short_url(self, code: str) -> str:
        """What is given to people."""
        return f"{self._base}/s/{code}"

    def qr_url(self, code: str) -> str:
        """Its QR code."""
        return f"{self._base}/qr/{code}.svg"

    def one(self, link: Mapping[str, Any]) -> bytes:
        """A link as JSON."""
        return orjson.dumps(self._body(link))

    def page(self, links: Iterable[Mapping[str, Any]], *, per_page: int) -> bytes:
        """A page of links as JSON."""
        return orjson.dumps({"links": [self._body(link) for link in links], "per_page": per_page})

    def _body(self, link: Mapping[str, Any]) -> dict[str, Any]:
        code = link["code"]
        whole = {**link, "short_url": self.short_url(code), "qr_url": self.qr_url(code)}
        return {field: whole[field] for field in _FIELDS}
