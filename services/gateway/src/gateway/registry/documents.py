"""What the OpenAPI document says of the endpoints that the edge answers by itself, and of keys."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

from pydantic import BaseModel

from chassis.openapi import OPERATORS, Answer, Beside, for_operators


class ServiceStatusBody(BaseModel):
    """Each service behind the gateway."""

    services: dict[str, Literal["up", "down"]]


_INTERNAL = "For the internal networks only; for others there is nothing at this address."
_STATUS = for_operators(
    "The state of the services, for people",
    _INTERNAL,
    {200: Answer(text="a page", media="text/html")},
)
_SERVICE_STATUS = for_operators(
    "The state of the services",
    "At most a second old.",
    {200: Answer(text="up or down", model=ServiceStatusBody)},
)

BESIDE = Beside(
    operations={
        "/api/service-status": ("service_status", _SERVICE_STATUS),
        "/health": ("health", OPERATORS["health"]),
        "/health/live": ("health_live", OPERATORS["health_live"]),
        "/health/ready": ("health_ready", OPERATORS["health_ready"]),
        "/metrics": ("metrics", replace(OPERATORS["metrics"], description=_INTERNAL, problems=(404,))),
        "/status": ("status", replace(_STATUS, problems=(404,))),
    },
    security={
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `Authorization: Bearer sf_…`"},
        "key": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same key, by itself"},
    },
    server="..",  # the document is at /gateway/openapi.json
)
