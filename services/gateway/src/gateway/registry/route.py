"""What a route is, in the registry and on the edge alike."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Route:
    """Where one version of a service of a tenant in an environment is reached, and how much of the traffic it gets.

    Attributes:
        url: `http(s)://host[:port][/path]`, without a slash at its end.
        weight: its share of the traffic beside the other active versions', 0 to 1000; 0 gets what names it alone.
        revision: the registry's revision that made it what it is; 0 for what comes from the settings.
    """

    id: int
    tenant: str
    service: str
    env: str
    version: str
    url: str
    active: bool
    weight: int
    created_at: datetime
    updated_at: datetime
    revision: int = 0

    @property
    def name(self) -> str:
        """`tenant/service/env/version`: how logs, metrics and pages call it."""
        return f"{self.tenant}/{self.service}/{self.env}/{self.version}"
