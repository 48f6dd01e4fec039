"""Answers to product requests as ready bytes, and a bounded memory for them."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

from catalogue.queries import ProductQuery
from chassis.http import Ready, ready

PATH = "/api/products"
_ENTRY_OVERHEAD_BYTES = 1000
"""About what one remembered answer takes besides its body: key, headers, dictionary entry."""


class Caching:
    """The headers that every product answer of one source has.

    Args:
        source: the value of `X-Data-Source`.
        cache_control: the value of `Cache-Control`.
    """

    def __init__(self, *, source: str, cache_control: str) -> None:
        self.source = source
        self.headers = (("Cache-Control", cache_control), ("X-Data-Source", source))

    def page(self, body: bytes, query: ProductQuery, *, total: int, max_unpaginated: int) -> Ready:
        """A page of the `total` products that match `query`, as the JSON array `body`."""
        page, per_page, _ = query.window(total, max_unpaginated=max_unpaginated)
        headers = [*self.headers, ("X-Total-Count", str(total))]
        if query.page is not None or query.per_page is not None or total > max_unpaginated:
            headers.append(("Link", link(query, page=page, per_page=per_page, total=total)))
        return ready(body, *headers)

    def product(self, body: bytes) -> Ready:
        """One product."""
        return ready(body, *self.headers)


def link(query: ProductQuery, *, page: int, per_page: int, total: int) -> str:
    """The `Link` header (RFC 8288) of page `page`; the other parameters of `query` are kept.

    Beyond the last page there is no next one, and the one before is the last.
    """
    last = max(1, -(-total // per_page))
    pages = {"first": 1}
    if page > 1:
        pages["prev"] = min(page - 1, last)
    if page < last:
        pages["next"] = page + 1
    pages["last"] = last
    return ", ".join(f'<{query.url(PATH, number, per_page)}>; rel="{name}"' for name, number in pages.items())


class AnswerCache:
    """The most recently used answers, as many as fit into a budget of bytes."""

    def __init__(self, *, max_bytes: int) -> None:
        self._budget = max_bytes
        self._bytes = 0
        self._answers: OrderedDict[Hashable, Ready] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Ready | None:
        """The answer kept under `key`, if it still is."""
        with self._lock:
            answer = self._answers.get(key)
            if answer is not None:
                self._answers.move_to_end(key)
            return answer

    def put(self, key: Hashable, answer: Ready) -> None:
        """Keep `answer`, and forget what was used least recently.

        One that takes more than an eighth of the budget is not kept: a few of those would drive out all others.
        """
        size = _size(answer)
        if size > self._budget // 8:
            return
        with self._lock:
            if key in self._answers:
                return
            self._answers[key] = answer
            self._bytes += size
            while self._bytes > self._budget:
                _, forgotten = self._answers.popitem(last=False)
                self._bytes -= _size(forgotten)

    def __len__(self) -> int:
        return len(self._answers)


def _size(answer: Ready) -> int:
    return len(answer.body) + _ENTRY_OVERHEAD_BYTES
