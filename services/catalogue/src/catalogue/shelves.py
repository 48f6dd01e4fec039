"""Products in memory, laid out so that a page costs what is on it, not what there is in all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from catalogue import products as product_forms
from catalogue.folding import fold
from catalogue.products import Product
from catalogue.queries import ProductQuery


class Entry:
    """A product with all that is worked out once: its JSON and its folded texts."""

    __slots__ = ("body", "name_key", "product", "search_text")

    def __init__(self, product: Product) -> None:
        self.product = product
        self.body = product_forms.to_json(product)
        self.name_key = fold(product.name)
        self.search_text = fold("\n".join((product.name, product.description, *product.tags)))


_SORTS: dict[str, tuple[Callable[[Entry], Any], bool]] = {
    "name": (lambda entry: entry.name_key, False),
    "-name": (lambda entry: entry.name_key, True),
    "price": (lambda entry: entry.product.price, False),
    "-price": (lambda entry: entry.product.price, True),
    "newest": (lambda entry: entry.product.created_at, True),
    "-newest": (lambda entry: entry.product.created_at, False),
}


class Shelf:
    """Some of the products, in every order that was ever asked for: each is sorted once, and is a list of references.

    Args:
        entries: ordered by id.
    """

    def __init__(self, entries: list[Entry]) -> None:
        self._orders: dict[str | None, list[Entry]] = {None: entries}

    def __len__(self) -> int:
        return len(self._orders[None])

    def ordered(self, sort: str | None) -> Sequence[Entry]:
        """All of them in that order; by id without one."""
        found = self._orders.get(sort)
        if found is None:
            key, reverse = _SORTS[sort or ""]
            # stable, also in reverse: equals stay in the order of their ids
            found = self._orders[sort] = sorted(self._orders[None], key=key, reverse=reverse)
        return found


class Shelves:
    """All products, and those of each category and each tag.

    Args:
        products: in any order, with distinct ids.
    """

    def __init__(self, products: Iterable[Product]) -> None:
        self.entries = [Entry(product) for product in sorted(products, key=lambda product: product.id)]
        categories: dict[str, list[Entry]] = {}
        tags: dict[str, list[Entry]] = {}
        for entry in self.entries:
            categories.setdefault(entry.product.category, []).append(entry)
            for tag in set(entry.product.tags):
                tags.setdefault(tag, []).append(entry)
        self._all = Shelf(self.entries)
        self._none = Shelf([])
        self._categories = {name: Shelf(entries) for name, entries in categories.items()}
        self._tags = {name: Shelf(entries) for name, entries in tags.items()}

    def find(self, query: ProductQuery) -> Sequence[Entry]:
        """What matches, in the order that is wanted: the shelf itself if that is all that is asked for.

        Words, prices and stock are looked for on the smallest shelf, product by product: a word may stand within
        another, and the total has to be known, so no search can end before the last.
        """
        shelves = []
        if query.category is not None:
            shelves.append(self._categories.get(query.category, self._none))
        if query.tag is not None:
            shelves.append(self._tags.get(query.tag, self._none))
        shelf = min(shelves, key=len, default=self._all)
        found = shelf.ordered(query.sort)
        for word in query.words:
            found = [entry for entry in found if word in entry.search_text]
        if len(shelves) > 1:
            category, tag = query.category, query.tag
            found = [entry for entry in found if entry.product.category == category and tag in entry.product.tags]
        lowest, highest, in_stock = query.lowest, query.highest, query.in_stock
        if lowest is not None:
            found = [entry for entry in found if entry.product.price >= lowest]
        if highest is not None:
            found = [entry for entry in found if entry.product.price <= highest]
        if in_stock is not None:
            found = [entry for entry in found if (entry.product.stock > 0) == in_stock]
        return found
