"""A product as the service holds it: from a row or from a file, and to JSON."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from pydantic import ValidationError

from catalogue.schemas import ProductBody

PACKAGED = Path(str(resources.files("catalogue") / "data" / "products.json"))
"""The products that come with the package."""


class Product(NamedTuple):
    """One product; the fields are the table's columns in their order."""

    id: int
    name: str
    description: str
    image_url: str
    price: Decimal
    currency: str
    category: str
    tags: Sequence[str]
    stock: int
    created_at: datetime


class BadProducts(ValueError):
    """A file of products that cannot be used; the message names the product and the field."""


def as_dict(product: Product) -> dict[str, Any]:
    """`product` in the shape of the API, ready for orjson."""
    return {
        "id": product.id,
        "name": product.name,
        "description": product.description,
        "image_url": product.image_url,
        "price": {"amount": f"{product.price:.2f}", "currency": product.currency},
        "category": product.category,
        "tags": product.tags,
        "stock": product.stock,
        "created_at": product.created_at,
    }


def to_json(product: Product) -> bytes:
    """`product` as the API answers it."""
    return orjson.dumps(as_dict(product))


def to_json_array(products: Iterable[Product]) -> bytes:
    """Many of them as one JSON array."""
    return orjson.dumps([as_dict(product) for product in products])


def read_file(path: Path) -> list[Product]:
    """The products of a JSON file, ordered by id.

    Raises:
        BadProducts: the file cannot be read, or a product in it is not as `ProductBody` wants it.
    """
    try:
        found = orjson.loads(path.read_bytes())
    except OSError as error:
        raise BadProducts(f"a readable file ({error.strerror})") from error
    except orjson.JSONDecodeError as error:
        raise BadProducts(f"JSON ({error})") from error
    if not isinstance(found, list):
        raise BadProducts("a JSON array of products")
    products: dict[int, Product] = {}
    for position, entry in enumerate(found, start=1):
        product = _read(entry, position)
        if product.id in products:
            raise BadProducts(f"an id of its own for {_name(entry, position)}")
        products[product.id] = product
    return [products[number] for number in sorted(products)]


def _read(entry: object, position: int) -> Product:
    try:
        body = ProductBody.model_validate_json(orjson.dumps(entry))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"]))
        wants = first["msg"].removeprefix("Value error, ")
        raise BadProducts(f"good products: {_name(entry, position)}, {field or 'all of it'}: {wants}") from None
    return Product(
        body.id, body.name, body.description, body.image_url, body.price.amount, body.price.currency, body.category,
        body.tags, body.stock, body.created_at,
    )  # fmt: skip


def _name(entry: object, position: int) -> str:
    number = entry.get("id") if isinstance(entry, dict) else None
    return f"product {position}" + (f" (id {number})" if isinstance(number, int) else "")
