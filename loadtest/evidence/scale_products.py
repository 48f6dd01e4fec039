"""How a request to the catalogue, in JSON mode, grows with the number of products: a service for each size."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path

import orjson

from loadtest import memory
from loadtest.evidence.sizes import Grown, Kind, measure_rounds
from loadtest.evidence.stage import Stage, rounds
from loadtest.openloop import get
from loadtest.subjects import service

SIZES = (10, 100, 1_000, 10_000, 100_000)
QUICK_SIZES = (10, 1_000, 10_000)
_CATEGORIES = 10
_WORD = "xylophone"
_SORTS = ("name", "-name", "price", "-price", "newest", "-newest")
_PER_PAGE = range(11, 101)
_PATH = "/api/products"
_MIB = 2**20
_READY_S = 120.0
_START_S, _START_S_PER_10000 = 0.6, 0.7

SEARCH_WHY = (
    "Every product is looked at: words are found anywhere within words, and X-Total-Count counts every match, so no "
    "index of whole words would do and no search can end early. An answer is remembered: the second time costs nothing."
)
PRICE_WHY = (
    "Every product is looked at: the answer is in another order than that of prices, and X-Total-Count counts every "
    "match. An answer is remembered: the second time costs nothing."
)


def sizes(quick: bool) -> tuple[int, ...]:
    """The numbers of products."""
    return QUICK_SIZES if quick else SIZES


def batch_s(quick: bool) -> float:
    """Seconds of one kind of request in one round, at the most."""
    return 0.08 if quick else 0.12


def expected_s(quick: bool) -> float:
    """Seconds that `measure` takes, about."""
    starts = sum(_START_S + _START_S_PER_10000 * size / 10_000 for size in sizes(quick))
    return starts + len(sizes(quick)) * rounds(quick) * 7 * batch_s(quick) * 0.7


def measure(stage: Stage) -> Grown:
    """Start a catalogue for each size, and ask them in turn.

    Raises:
        BenchError: one does not start, or an answer is not what it should be.
    """
    found = Grown()
    servers = {}
    for size in sizes(stage.quick):
        stage.say(f"scale: a catalogue of {size:,} products")
        file = write_products(stage.directory / f"products-{size}.json", size)
        began_s = time.monotonic()
        servers[size] = stage.fleet.run(service(f"catalogue-{size}", PRODUCTS_FILE=str(file)), ready_within_s=_READY_S)
        took_s = time.monotonic() - began_s
        stage.progress.advance(stage.task, took_s)
        held = memory.of_tree(servers[size].pid).once
        found.facts[size] = {"start_s": round(took_s, 2), "memory_mib": round(held / _MIB, 1)}
    stage.say("scale: products")
    measure_rounds(stage, found, kinds(), servers, seconds=batch_s(stage.quick), prefix="products", n="products")
    found.series["products-q"].why = SEARCH_WHY
    found.series["products-price"].why = PRICE_WHY
    for server in servers.values():
        server.stop()
    return found


def write_products(path: Path, count: int) -> Path:
    """A file of so many products, alike but for what they are looked for by."""
    dice = random.Random(count)
    products = [
        {
            "id": number,
            "name": f"{dice.choice('ABCDEFGHIJKLMNOPQRSTUVWXYZ')} product {number}",
            "description": f"A thing of the usual kind, {_WORD}{number:06d}, with a sentence of the usual length.",
            "image_url": f"/static/products/{number % 12 + 1}.svg",
            "price": {"amount": f"{dice.randint(100, 99_999) / 100:.2f}", "currency": "EUR"},
            "category": f"c{number % _CATEGORIES}",
            "tags": [f"t{number % 50}", "scale"],
            "stock": dice.randint(0, 20),
            "created_at": f"2025-{dice.randint(1, 12):02d}-{dice.randint(1, 28):02d}T00:00:00+00:00",
        }
        for number in range(1, count + 1)
    ]
    path.write_bytes(orjson.dumps(products))
    return path


def kinds() -> list[Kind]:
    """The requests. The service remembers answers, so no query but that of `again` is sent twice to one server."""
    return [
        Kind("first", "first page, for the first time", _first_pages, at_most=35),
        Kind("again", "first page, remembered", lambda _size: itertools.repeat(get(f"{_PATH}?per_page=50"))),
        Kind("id", "look-up by id", _by_id),
        Kind("category", "a category, for the first time", _categories, at_most=100),
        Kind("sort", "sorted, for the first time", _sorted, at_most=100),
        Kind("q", "search for a word, for the first time", _words, at_most=100),
        Kind("price", "from a price on, for the first time", _prices, at_most=100),
    ]


def _shuffled(queries: list[str]) -> Iterator[bytes]:
    random.Random(1).shuffle(queries)
    return (get(f"{_PATH}?{query}") for query in queries)


def _first_pages(_size: int) -> Iterator[bytes]:
    return _shuffled([f"{page}per_page={count}" for count in _PER_PAGE for page in ("", "page=1&") if count != 50])


def _by_id(size: int) -> Iterator[bytes]:
    dice = random.Random(size)
    while True:
        yield get(f"{_PATH}/{dice.randint(1, size)}")


def _categories(_size: int) -> Iterator[bytes]:
    return _shuffled([f"category=c{number}&per_page={count}" for number in range(_CATEGORIES) for count in _PER_PAGE])


def _sorted(_size: int) -> Iterator[bytes]:
    return _shuffled([f"sort={sort}&per_page={count}" for sort in _SORTS for count in _PER_PAGE])


def _words(size: int) -> Iterator[bytes]:
    """Words that one product has, each written in another way: case does not count, but makes it another query."""
    cases = itertools.product(*((letter, letter.upper()) for letter in _WORD))
    dice = random.Random(size)
    return (get(f"{_PATH}?q={''.join(word)}{dice.randint(1, size):06d}") for word in cases)


def _prices(_size: int) -> Iterator[bytes]:
    return _shuffled([f"min_price={cents / 100:.2f}&per_page=20" for cents in range(200, 1200)])
