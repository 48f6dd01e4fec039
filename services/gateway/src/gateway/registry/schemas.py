"""What the registry's API takes and gives, as pydantic models; the OpenAPI document is made of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from chassis.http import Strict, Text

DEFAULT_PER_PAGE = 50
MAX_PER_PAGE = 100
MAX_ID = 2**63 - 1
MAX_URL_CHARS = 2048

Name = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,63}$")]
Version = Annotated[str, Field(pattern=r"^[A-Za-z0-9._-]{1,63}$")]
Weight = Annotated[
    int,
    Field(
        strict=True,
        ge=0,
        le=1000,
        description="share of the traffic beside the other active versions' weights; 0: only what names this version",
    ),
]
Active = Annotated[bool, Field(strict=True, description="whether it takes traffic at all")]
Url = Annotated[
    Text,
    Field(
        min_length=1,
        max_length=MAX_URL_CHARS,
        description="where it is: `http(s)://host[:port][/path]`, one of the gateway's allowed upstreams",
        examples=["http://127.0.0.1:9000"],
    ),
]


def _absent() -> Any:
    """The value of an optional field that was not sent; a plain None in the schema would say that null may be sent."""
    return None


# --- a route ------------------------------------------------------------------------------------------------------


class RouteName(Strict):
    """Which route: one version of a service of a tenant in an environment."""

    tenant: Name
    service: Name
    env: Name
    version: Version


class NewRoute(RouteName):
    """A route to be. A careful canary gives its weight: without one it takes its share of the traffic at once."""

    url: Url
    weight: Weight = 100
    active: Active = True


class RouteChanges(Strict):
    """Fields to change; at least one."""

    model_config = ConfigDict(json_schema_extra={"minProperties": 1})

    url: Url = Field(default_factory=_absent)
    weight: Weight = Field(default_factory=_absent)
    active: Active = Field(default_factory=_absent)

    @model_validator(mode="after")
    def _not_empty(self) -> RouteChanges:
        if not self.model_fields_set:
            raise ValueError("must have at least one field")
        return self


class RouteBody(BaseModel):
    """A route."""

    id: int
    tenant: str
    service: str
    env: str
    version: str
    url: str
    active: bool
    weight: int
    created_at: datetime = Field(description="ISO 8601 with UTC offset")
    updated_at: datetime = Field(description="ISO 8601 with UTC offset")
    revision: int = Field(description="the registry's revision that made it what it is")


class RoutePage(BaseModel):
    """A page of routes, in the order of their ids."""

    routes: list[RouteBody]
    per_page: int
    total: int = Field(description="how many routes match")


class EventBody(BaseModel):
    """One change of a route."""

    revision: int
    action: Literal["created", "updated", "activated", "deactivated", "deleted"]
    actor: str = Field(description="name of the API key that did it; `bootstrap`: the first start")
    at: datetime = Field(description="ISO 8601 with UTC offset")
    before: RouteBody | None = Field(description="null: there was none")
    after: RouteBody | None = Field(description="null: it was deleted")


class HistoryPage(BaseModel):
    """A page of a route's history, newest first."""

    events: list[EventBody]
    per_page: int


class ResolvedBody(BaseModel):
    """Where a service is."""

    url: str
    tenant: str
    service: str
    env: str
    version: str
    weight: int


# --- queries ------------------------------------------------------------------------------------------------------


def _digits(value: object) -> object:
    """Only plain digits are a number here; pydantic alone would also take ` 1_000 `, `+1` and `1.0`."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        raise ValueError("must be a whole number written in digits")
    return value[:30] if isinstance(value, str) else value  # far above every limit, and cheap to read


def _flag(value: object) -> object:
    if isinstance(value, str) and value not in ("true", "false"):
        raise ValueError("must be true or false")
    return value


Number = Annotated[int, BeforeValidator(_digits)]
PerPage = Annotated[
    Number, Field(ge=1, description=f"entries on a page; more than {MAX_PER_PAGE} means {MAX_PER_PAGE}")
]


class ResolveParameters(Strict):
    """The query of `GET /api/v1/routes/resolve`."""

    tenant: Name
    service: Name
    env: Name = Field(default_factory=_absent, description="the gateway's own environment unless said")
    version: Version = Field(default_factory=_absent, description="one of the active versions, by weight, unless said")


class ListParameters(Strict):
    """The query of `GET /api/v1/routes`."""

    after: Number = Field(0, ge=0, le=MAX_ID, description="only routes with a greater id: follow `next` in `Link`")
    per_page: PerPage = DEFAULT_PER_PAGE
    tenant: Name = Field(default_factory=_absent, description="only this tenant's")
    service: Name = Field(default_factory=_absent, description="only of this service")
    env: Name = Field(default_factory=_absent, description="only in this environment")
    version: Version = Field(default_factory=_absent, description="only this version")
    active: Annotated[bool, BeforeValidator(_flag)] = Field(default_factory=_absent, description="only such routes")


class HistoryParameters(Strict):
    """The query of `GET /api/v1/routes/<id>/history`."""

    before: Number = Field(
        MAX_ID, ge=1, le=MAX_ID, description="only changes with a smaller revision: follow `next` in `Link`"
    )
    per_page: PerPage = DEFAULT_PER_PAGE
