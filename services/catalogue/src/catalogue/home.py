"""The home page: rendered once for each version of the products, then sent ready-made."""

from __future__ import annotations

import orjson
from flask import render_template

from catalogue.facts import Facts
from catalogue.queries import EVERYTHING
from catalogue.sources import Source
from chassis.http import Ready, ready

HTML = "text/html; charset=utf-8"
CONTENT_SECURITY_POLICY = "default-src 'none'; img-src *; style-src 'self'; base-uri 'none'; frame-ancestors 'none'"
"""Pictures may come from anywhere: a product's `image_url` may name another host."""


class HomePage:
    """The page for the products of `source`.

    Args:
        facts, version: what the page says about this server.
    """

    def __init__(self, source: Source, *, facts: Facts, version: str) -> None:
        self._source = source
        self._facts = facts
        self._version = version
        self._made: tuple[str, Ready] | None = None

    def answer(self) -> Ready:
        """The page with the first products; it is made anew only if they changed, or where they come from."""
        products = self._source.products(EVERYTHING)
        made = self._made
        if made is None or made[0] != products.etag:
            made = (products.etag, self._render(products))
            self._made = made
        return made[1]

    def _render(self, products: Ready) -> Ready:
        headers = dict(products.headers)
        page = render_template(
            "home.html",
            products=orjson.loads(products.body),
            facts=self._facts,
            version=self._version,
            data_source=headers["X-Data-Source"],
        )
        return ready(
            page.encode(),
            ("Cache-Control", headers["Cache-Control"]),
            ("X-Data-Source", headers["X-Data-Source"]),
            ("Content-Security-Policy", CONTENT_SECURITY_POLICY),
            ("X-Content-Type-Options", "nosniff"),
            content_type=HTML,
        )
