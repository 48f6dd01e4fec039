"""Where products come from. Three sources with one interface; `create_app` chooses.

`JsonSource` holds a file in memory, `DatabaseSource` asks PostgreSQL, and `FallbackSource` asks the second as long as
it can and the first when it cannot.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol, TypeVar

from catalogue import products as product_forms
from catalogue.answers import AnswerCache, Caching
from catalogue.products import Product
from catalogue.queries import EVERYTHING, ProductQuery
from catalogue.shelves import Shelves
from chassis.http import Ready

if TYPE_CHECKING:
    from catalogue.repository import ProductRepository

log = logging.getLogger(__name__)
T = TypeVar("T")

CACHE_BYTES = 4 * 1024 * 1024
"""Remembered answers of a JSON source: two workers must fit into 128 MiB."""


class Source(Protocol):
    """Products, as ready answers."""

    @property
    def name(self) -> str:
        """`json`, `db` or `json-fallback`: what `X-Data-Source` says now."""

    def products(self, query: ProductQuery) -> Ready:
        """The answer to `query`: a JSON array, with its total, its page's links and its caching headers."""

    def product(self, product_id: int) -> Ready | None:
        """The answer with one product, None if there is no such id."""

    def count(self) -> int:
        """How many products there are."""


class JsonSource:
    """Products in memory. A product is a dictionary look-up, and so is a query that was asked before; of others, those
    without words, prices and stock cost what is on the page (`catalogue.shelves`).

    Args:
        products: in any order, with distinct ids.
        caching: the headers of every answer; the source has the name that they give.
    """

    def __init__(self, products: Sequence[Product], *, caching: Caching, max_unpaginated: int) -> None:
        self.name = caching.source
        self._caching = caching
        self._max_unpaginated = max_unpaginated
        self._cache = AnswerCache(max_bytes=CACHE_BYTES)
        self._shelves = Shelves(products)
        self.by_id = {entry.product.id: caching.product(entry.body) for entry in self._shelves.entries}
        self._everything = self._find(EVERYTHING)

    def products(self, query: ProductQuery) -> Ready:
        if query is EVERYTHING:
            return self._everything
        answer = self._cache.get(query)
        if answer is None:
            answer = self._find(query)
            self._cache.put(query, answer)
        return answer

    def product(self, product_id: int) -> Ready | None:
        return self.by_id.get(product_id)

    def count(self) -> int:
        return len(self._shelves.entries)

    def _find(self, query: ProductQuery) -> Ready:
        found = self._shelves.find(query)
        _, per_page, offset = query.window(len(found), max_unpaginated=self._max_unpaginated)
        body = b"[" + b",".join(entry.body for entry in found[offset : offset + per_page]) + b"]"
        return self._caching.page(body, query, total=len(found), max_unpaginated=self._max_unpaginated)


class DatabaseSource:
    """Products in PostgreSQL. Nothing is remembered: a changed row is seen by the next request.

    Raises (all methods): what `chassis.database.Database` raises.
    """

    def __init__(self, repository: ProductRepository, *, caching: Caching, max_unpaginated: int) -> None:
        self.name = caching.source
        self._repository = repository
        self._caching = caching
        self._max_unpaginated = max_unpaginated

    def products(self, query: ProductQuery) -> Ready:
        found, total = self._repository.page(query)
        body = product_forms.to_json_array(found)
        return self._caching.page(body, query, total=total, max_unpaginated=self._max_unpaginated)

    def product(self, product_id: int) -> Ready | None:
        product = self._repository.product(product_id)
        return None if product is None else self._caching.product(product_forms.to_json(product))

    def count(self) -> int:
        return self._repository.count()

    def probe(self) -> None:
        """Return if products can be read, else raise."""
        self._repository.probe()


class FallbackSource:
    """The database as long as it answers, else the JSON file.

    Every request that the database fails is answered from the file. When it fails one and has answered none since
    that one began, it is lost: from then on requests do not wait for it at all. A busy machine, where one call in a
    thousand takes too long, is not taken for that. `probe`, called once a second by a background thread, finds out
    when the database is back, and notices a loss when nobody asks for products.

    Args:
        errors: the exceptions that mean that the database failed. A request's own deadline is none of them.
        count_fallback: called for each read that the file answers.
    """

    def __init__(
        self,
        *,
        database: DatabaseSource,
        fallback: JsonSource,
        errors: tuple[type[Exception], ...],
        count_fallback: Callable[[], None],
    ) -> None:
        self._database = database
        self._fallback = fallback
        self._errors = errors
        self._count_fallback = count_fallback
        self._tell: Callable[[], None] = _nobody
        self._lock = threading.Lock()
        self._error: str | None = None
        self._announced = False
        self._answered_s = 0.0

    @property
    def name(self) -> str:
        return self._database.name if self._error is None else self._fallback.name

    @property
    def error(self) -> str | None:
        """The class name of what the database was lost with, None while it is used."""
        return self._error

    def products(self, query: ProductQuery) -> Ready:
        return self._ask(lambda source: source.products(query))

    def product(self, product_id: int) -> Ready | None:
        return self._ask(lambda source: source.product(product_id))

    def count(self) -> int:
        return self._ask(lambda source: source.count())

    def probe(self) -> None:
        """Ask the database whether it serves, and switch accordingly. Never raises what is in `errors`."""
        began_s = time.monotonic()
        try:
            self._database.probe()
        except self._errors as error:
            if self._answered_s < began_s:
                self._failed(_cause(error))
        else:
            self._answered_s = time.monotonic()
            self._recovered()

    def on_change(self, callback: Callable[[], None]) -> None:
        """Call `callback` after each change between the two."""
        self._tell = callback

    def _ask(self, question: Callable[[Source], T]) -> T:
        if self._error is None:
            began_s = time.monotonic()
            try:
                answer = question(self._database)
            except self._errors as error:
                cause = _cause(error)
                # A statement that was cancelled in good order is a slow one; the next may well be quick.
                if self._answered_s < began_s and cause != "QueryCanceled":
                    self._failed(cause)
            else:
                self._answered_s = time.monotonic()
                return answer
        self._count_fallback()
        return question(self._fallback)

    def _failed(self, error: str) -> None:
        with self._lock:
            changed = self._error is None
            self._error = error
            self._announced = True
        if changed:
            log.error("Database error: %s", error)
            log.info("Falling back to JSON data source")
            self._tell()

    def _recovered(self) -> None:
        if self._error is None and self._announced:
            return
        with self._lock:
            changed = self._error is not None or not self._announced
            self._error = None
            self._announced = True
        if changed:
            log.info("Using database as data source")
            self._tell()


def _nobody() -> None:
    """Whom a source tells of changes until somebody asks for it."""


def _cause(error: BaseException) -> str:
    """The class name of what is behind `error`: of the driver's exception, if that was one."""
    while error.__cause__ is not None:
        error = error.__cause__
    return next(kind.__name__ for kind in type(error).__mro__ if not kind.__name__.startswith("_"))
