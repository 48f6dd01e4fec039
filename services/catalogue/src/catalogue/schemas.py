"""What the API takes and gives, as pydantic models; the OpenAPI document is made of them."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from catalogue.queries import MAX_PAGE, MAX_PER_PAGE
from chassis.http import Strict, Text

SORTS = Literal["name", "-name", "price", "-price", "newest", "-newest"]
MAX_PRICE = Decimal("9999999999.99")
_AMOUNT = r"^[0-9]{1,10}(\.[0-9]{1,2})?$"


# --- products -----------------------------------------------------------------------------------------------------


def _in_utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a time with its UTC offset")
    try:
        return moment.astimezone(UTC)
    except OverflowError:
        raise ValueError("a time of the years 1 to 9999") from None


def _with_cents(amount: Decimal) -> Decimal:
    return amount.quantize(Decimal("0.01"))


def _no_float(amount: object) -> object:
    if isinstance(amount, float):
        raise ValueError('a string such as "12.50": binary fractions are not exact')  # noqa: TRY004 - pydantic's
    return amount


Amount = Annotated[
    Decimal,
    BeforeValidator(_no_float),
    Field(ge=0, le=MAX_PRICE, decimal_places=2),
    AfterValidator(_with_cents),
    PlainSerializer(lambda amount: f"{amount:.2f}", return_type=str),
    WithJsonSchema({"type": "string", "pattern": r"^[0-9]{1,10}\.[0-9]{2}$", "examples": ["12.50"]}),
]


class Price(BaseModel):
    """An amount of money; the amount is a string, so that nobody rounds it."""

    model_config = ConfigDict(extra="forbid")

    amount: Amount
    currency: str = Field(pattern=r"^[A-Z]{3}$", description="ISO 4217 code", examples=["EUR"])


class ProductBody(BaseModel):
    """A product, as the API answers it and as a file of products has it.

    A file may leave out what has a default: the table has the same ones. `created_at` is then the start of 1970.
    """

    model_config = ConfigDict(extra="forbid")

    id: int = Field(ge=1, le=2**31 - 1, strict=True)
    name: Text = Field(min_length=1, max_length=255)
    description: Text = ""
    image_url: Text = Field("", max_length=255, description="address of its picture, relative to this service")
    price: Price = Field(default_factory=lambda: Price(amount=Decimal(0), currency="EUR"))
    category: Text = Field("other", min_length=1, max_length=100)
    tags: list[Annotated[Text, Field(min_length=1, max_length=50)]] = Field(default_factory=list, max_length=50)
    stock: int = Field(0, ge=0, le=2**31 - 1, strict=True, description="pieces to be had; 0: sold out")
    created_at: Annotated[datetime, AfterValidator(_in_utc)] = Field(
        datetime(1970, 1, 1, tzinfo=UTC), description="ISO 8601, UTC"
    )


# --- queries ------------------------------------------------------------------------------------------------------


def _digits(value: object) -> object:
    """Only plain digits are a number here; pydantic alone would also take ` 1_000 `, `+1` and `1.0`."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit() and len(value) <= 10):
        raise ValueError("should be a number written in digits")
    return value


def _true_or_false(value: object) -> object:
    if value not in ("true", "false"):
        raise ValueError("should be true or false")
    return value == "true"


PageNumber = Annotated[int, Field(ge=1, le=MAX_PAGE), BeforeValidator(_digits)]
PageSize = Annotated[int, Field(ge=1, le=MAX_PER_PAGE), BeforeValidator(_digits)]
Money = Annotated[str, Field(pattern=_AMOUNT)]
Flag = Annotated[bool, BeforeValidator(_true_or_false)]


class ProductParameters(Strict):
    """The query of `GET /api/products`."""

    page: PageNumber | None = Field(None, description="page number, from 1")
    per_page: PageSize | None = Field(None, description="products on a page")
    q: Annotated[Text, Field(max_length=200)] | None = Field(
        None, description="words that must all occur in name, description or tags; case and accents do not count"
    )
    category: Annotated[Text, Field(max_length=100)] | None = Field(None, description="exact category")
    tag: Annotated[Text, Field(max_length=50)] | None = Field(None, description="a tag the product must have")
    min_price: Money | None = Field(None, description="lowest price amount, inclusive")
    max_price: Money | None = Field(None, description="highest price amount, inclusive")
    in_stock: Flag | None = Field(None, description="true: only what can be had; false: only what is sold out")
    sort: SORTS | None = Field(
        None,
        description="`newest` is the latest first; `-` in front reverses; equals, and all without it, go by id",
    )
