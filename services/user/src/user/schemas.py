"""What the API takes and gives, as pydantic models; the OpenAPI document is made of them."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Annotated, Any

from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, WithJsonSchema, model_validator

from chassis.http import Strict, Text

DEFAULT_PER_PAGE = 50
MAX_PER_PAGE = 100
MAX_OFFSET = 100_000
"""Page mode ends this many rows deep: what OFFSET passes over is read all the same (contract, section 4)."""

MAX_ID = 2**63 - 1
_NAME = re.compile(r"[A-Za-z0-9._-]{3,50}", re.ASCII)


# --- a user -------------------------------------------------------------------------------------------------------


def _strip(value: object) -> object:
    return value.strip() if isinstance(value, str) else value


def _username(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 3 to 50 letters (a-z, A-Z), digits, dots, underscores or hyphens")
    return value


def _email(value: str) -> str:
    """The address with its domain in lower case and all of it in Unicode's composed form.

    `.test` addresses are taken, so that test systems can have some. Whether mail arrives there is not asked.
    """
    try:
        return validate_email(value, check_deliverability=False, test_environment=True).normalized
    except EmailNotValidError:
        raise ValueError("must be a valid e-mail address") from None


def _findable(value: str) -> str:
    """An address as `_email` would have stored it; what is no address stays as it is, and is nobody's."""
    try:
        return _email(value.strip())
    except ValueError:
        return value


def _empty_is_none(value: object) -> object:
    return None if value == "" else value


Username = Annotated[
    str,
    BeforeValidator(_strip),
    AfterValidator(_username),
    WithJsonSchema({"type": "string", "pattern": r"^[A-Za-z0-9._-]{3,50}$", "examples": ["ada.lovelace"]}),
]
"""White space around it is taken off, as clients of the former service expect. Upper and lower case differ."""

Email = Annotated[
    Text,
    BeforeValidator(_strip),
    Field(max_length=255),
    AfterValidator(_email),
    WithJsonSchema({"type": "string", "format": "email", "maxLength": 255, "examples": ["ada@example.com"]}),
]
FullName = Annotated[
    Annotated[Text, Field(max_length=200)] | None, BeforeValidator(_empty_is_none), BeforeValidator(_strip)
]


def _absent() -> Any:
    """The value of an optional field that was not sent; a plain None in the schema would say that null may be sent."""
    return None


class NewUser(Strict):
    """The body of POST and PUT: all of a user that a client decides."""

    username: Username
    email: Email
    full_name: FullName = Field(None, description="empty is the same as null")


class UserChanges(Strict):
    """The body of PATCH: what is to change, at least one field."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    username: Username = Field(default_factory=_absent)
    email: Email = Field(default_factory=_absent)
    full_name: FullName = Field(None, description="null takes it away")

    @model_validator(mode="after")
    def _not_empty(self) -> UserChanges:
        if not self.model_fields_set:
            raise ValueError("must have at least one field")
        return self


class UserBody(BaseModel):
    """A user."""

    id: int
    username: str
    email: str
    full_name: str | None
    created_at: datetime = Field(description="ISO 8601 with UTC offset")
    updated_at: datetime = Field(description="ISO 8601 with UTC offset")


# --- pages of users -----------------------------------------------------------------------------------------------


def _digits(value: object) -> object:
    """Only plain digits are a number here; pydantic alone would also take ` 1_000 `, `+1` and `1.0`."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("must be a whole number written in digits")
    return value[:30] if isinstance(value, str) else value  # far above every limit, and cheap to read


Number = Annotated[int, BeforeValidator(_digits)]


class ListParameters(Strict):
    """The query of `GET /api/v1/users`."""

    page: Number = Field(
        default_factory=_absent,
        ge=1,
        description=f"page number, from 1; pages end {MAX_OFFSET:,} users deep: use `after`",
    )
    per_page: Number = Field(
        DEFAULT_PER_PAGE, ge=1, description=f"users on a page; more than {MAX_PER_PAGE} means {MAX_PER_PAGE}"
    )
    after: Number = Field(
        default_factory=_absent, ge=0, le=MAX_ID, description="only users with a greater id: follow `next` in `Link`"
    )
    username: Text = Field(default_factory=_absent, max_length=255, description="exactly this user name")
    email: Annotated[Text, Field(max_length=255), AfterValidator(_findable)] = Field(
        default_factory=_absent,
        description="exactly this e-mail address; upper and lower case are the same",
    )


class UserPage(BaseModel):
    """A page of users, in the order of their ids."""

    users: list[UserBody]
    page: int | None = Field(description="number of this page; null when it was asked for by `after`")
    per_page: int
    total: int = Field(description="how many users there are, or match")
    pages: int = Field(description="total divided by per_page, rounded up")
