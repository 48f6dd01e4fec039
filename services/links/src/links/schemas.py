"""What the API takes and gives, as pydantic models; the OpenAPI document is made of them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    model_validator,
)

from chassis.http import Strict
from links import codes, destinations

DEFAULT_PER_PAGE = 50
MAX_PER_PAGE = 100
MAX_ID = 2**63 - 1

Destination = Annotated[
    str,
    AfterValidator(destinations.normalize),
    WithJsonSchema(
        {"type": "string", "format": "uri", "maxLength": destinations.MAX_CHARS, "examples": ["https://example.com/a"]}
    ),
]
OwnCode = Annotated[
    str,
    AfterValidator(codes.check),
    WithJsonSchema({"type": "string", "pattern": r"^[A-Za-z0-9_-]{3,32}$", "examples": ["spring-sale"]}),
]


def _written(value: object) -> object:
    """Only what is written as a date and a time; pydantic alone would also take seconds since 1970."""
    if not isinstance(value, str | datetime) or (isinstance(value, str) and "T" not in value.upper()):
        raise ValueError("must be a date and time with UTC offset, as in 2030-01-31T12:00:00Z")
    return value


def _in_future(value: datetime) -> datetime:
    """The moment in UTC: PostgreSQL refuses offsets of 16 hours and more, which ISO 8601 can write."""
    try:
        moment = value.astimezone(UTC)
    except OverflowError:
        raise ValueError("must be before the year 10000") from None
    if moment <= datetime.now(UTC):
        raise ValueError("must be in the future")
    return moment


Expiry = Annotated[AwareDatetime, BeforeValidator(_written), AfterValidator(_in_future)]


def _absent() -> Any:
    """The value of an optional field that was not sent; a plain None in the schema would say that null may be sent."""
    return None


class NewLink(Strict):
    """The body of POST."""

    url: Destination = Field(description="where it leads: http or https, without credentials")
    code: OwnCode | None = Field(None, description="a code of one's own; without it one is made up")
    expires_at: Expiry | None = Field(None, description="when it stops working, with UTC offset; null: never")


class LinkChanges(Strict):
    """The body of PATCH: what is to change, at least one field."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    disabled: bool = Field(default_factory=_absent, strict=True, description="true switches it off, false on again")
    expires_at: Expiry | None = Field(None, description="null: never")

    @model_validator(mode="after")
    def _not_empty(self) -> LinkChanges:
        if not self.model_fields_set:
            raise ValueError("must have at least one field")
        return self


class LinkBody(BaseModel):
    """A short link."""

    code: str
    url: str = Field(description="where it leads, as browsers will see it: hosts in other scripts as `xn--…`")
    short_url: str
    qr_url: str = Field(description="the QR code of `short_url` as SVG; with `.png` at its end, as PNG")
    clicks: int = Field(description="how often it was followed")
    created_at: datetime = Field(description="ISO 8601 with UTC offset")
    expires_at: datetime | None = Field(description="ISO 8601 with UTC offset")
    disabled: bool


def _digits(value: object) -> object:
    """Only plain digits are a number here; pydantic alone would also take ` 1_000 `, `+1` and `1.0`."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("must be a whole number written in digits")
    return value[:30] if isinstance(value, str) else value


Number = Annotated[int, BeforeValidator(_digits)]


class ListParameters(Strict):
    """The query of `GET /api/v1/links`."""

    per_page: Number = Field(
        DEFAULT_PER_PAGE, ge=1, description=f"links on a page; more than {MAX_PER_PAGE} means {MAX_PER_PAGE}"
    )
    before: Number = Field(MAX_ID, ge=1, le=MAX_ID, description="only older links: follow `next` in `Link`")


class LinkPage(BaseModel):
    """One's links, the newest first."""

    links: list[LinkBody]
    per_page: int
