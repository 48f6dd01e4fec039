"""Looks around the shop. Has no key, as nobody has who only looks."""

from __future__ import annotations

from functools import partial
from urllib.parse import quote

from locust import tag, task

from loadtest.endpoints import Endpoint
from loadtest.scenarios import content
from loadtest.scenarios.visitor import Visitor

SEEN_AGAIN = 0.5
"""The share of looks at a product that are at one which was looked at before."""


class Shopper(Visitor):
    """Browses, searches, and looks at products, at some again: then its browser has an ETag to send."""

    weight = 14

    def on_start(self) -> None:
        """Know nothing yet."""
        self.products: dict[int, str] = {}
        self.etags: dict[int, str] = {}

    @tag("catalogue", "browse")
    @task(3)
    def browse(self) -> None:
        """The home page, then the list."""
        self.ask(Endpoint.HOME, "/", content.home)
        self.think()
        self.products = self.ask(Endpoint.PRODUCTS, "/api/products", content.products) or self.products

    @tag("catalogue", "search")
    @task(2)
    def search(self) -> None:
        """A word of some product's name."""
        if not self.products:
            self.browse()
            return
        word = self.random.choice(self.random.choice(list(self.products.values())).split())
        path = f"/api/products?q={quote(word)}&sort={self.random.choice(('name', 'price', '-price', 'newest'))}"
        self.ask(Endpoint.SEARCH, path, partial(content.matches, word=word))

    @tag("catalogue", "product")
    @task(5)
    def look(self) -> None:
        """A product's page, with the ETag that it had the last time."""
        if not self.products:
            self.browse()
            return
        seen_again = self.etags and self.random.random() < SEEN_AGAIN
        product_id = self.random.choice(list(self.etags if seen_again else self.products))
        path, etag = f"/api/products/{product_id}", self.etags.get(product_id)
        if etag is None:
            new = self.ask(Endpoint.PRODUCT, path, partial(content.product, product_id=product_id))
        else:
            new = self.ask(
                Endpoint.PRODUCT_AGAIN,
                path,
                partial(content.unchanged, product_id=product_id, etag=etag),
                wanted=(304, 200),
                headers={"If-None-Match": etag},
            )
        if new:
            self.etags[product_id] = new
