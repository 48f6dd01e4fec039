"""A search for products: what is wanted, in one normal form, so that equal wishes are equal keys of a cache."""

from __future__ import annotations

from decimal import Decimal
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlencode

from catalogue.folding import fold

if TYPE_CHECKING:
    from catalogue.schemas import ProductParameters

MAX_PAGE = 1_000_000
MAX_PER_PAGE = 100
DEFAULT_PER_PAGE = 50


class ProductQuery(NamedTuple):
    """`page` and `per_page` None: the client did not ask for pages. Prices are amounts, whatever the currency."""

    page: int | None = None
    per_page: int | None = None
    q: str | None = None
    category: str | None = None
    tag: str | None = None
    min_price: str | None = None
    max_price: str | None = None
    in_stock: bool | None = None
    sort: str | None = None

    @property
    def words(self) -> list[str]:
        """The folded words to be found; none of them holds white space."""
        return fold(self.q).split() if self.q else []

    @property
    def lowest(self) -> Decimal | None:
        """`min_price` as a number."""
        return None if self.min_price is None else Decimal(self.min_price)

    @property
    def highest(self) -> Decimal | None:
        """`max_price` as a number."""
        return None if self.max_price is None else Decimal(self.max_price)

    def window(self, total: int, *, max_unpaginated: int) -> tuple[int, int, int]:
        """Page, products per page and offset that this query has of `total` matches.

        Without `page` and `per_page` that is all of them, as long as they are no more than `max_unpaginated`.
        """
        if self.page is None and self.per_page is None:
            if total <= max_unpaginated:
                return 1, max_unpaginated, 0
            return 1, DEFAULT_PER_PAGE, 0
        page, per_page = self.page or 1, self.per_page or DEFAULT_PER_PAGE
        return page, per_page, (page - 1) * per_page

    def url(self, path: str, page: int, per_page: int) -> str:
        """`path` with this query, but with that page."""
        fields = {name: value for name, value in self._asdict().items() if value is not None}
        if self.in_stock is not None:
            fields["in_stock"] = "true" if self.in_stock else "false"
        return f"{path}?{urlencode({**fields, 'page': page, 'per_page': per_page})}"


EVERYTHING = ProductQuery()
"""The query of a request without parameters."""


def query_of(parameters: ProductParameters) -> ProductQuery:
    """The normal form of validated `parameters`."""
    text = " ".join(parameters.q.split()) if parameters.q else None
    return ProductQuery(
        page=parameters.page,
        per_page=parameters.per_page,
        q=text or None,
        category=parameters.category,
        tag=parameters.tag,
        min_price=_amount(parameters.min_price),
        max_price=_amount(parameters.max_price),
        in_stock=parameters.in_stock,
        sort=parameters.sort,
    )


def _amount(text: str | None) -> str | None:
    return None if text is None else f"{Decimal(text):.2f}"
