"""What the catalogue is configured by, next to what every service is."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from catalogue.products import PACKAGED, read_file
from chassis.settings import DatabaseServiceSettings, DatabaseSettings


def _holds_products(path: Path) -> Path:
    """A bad file must stop the boot, not the first request."""
    read_file(path)
    return path


class CatalogueDatabaseSettings(DatabaseSettings):
    """Times are shorter than elsewhere: there is a fallback, and a dead or hung server may cost 250 ms (contract)."""

    name: str = Field("catalogue", description="database name")
    user: str = Field("devops", description="database role")
    pool_wait_ms: int = Field(100, ge=1, le=10_000, description="longest wait for a free connection, ms")
    connect_timeout_ms: int = Field(150, ge=10, le=10_000, description="longest wait for a new connection, ms")
    operation_timeout_ms: int = Field(
        200, ge=10, le=60_000, description="longest database operation, pool wait, connect and retries included, ms"
    )


class Settings(DatabaseServiceSettings):
    """All settings of the catalogue."""

    port: int = Field(5000, ge=1, le=65535, description="port to listen on")
    db: CatalogueDatabaseSettings = Field(default_factory=CatalogueDatabaseSettings)
    data_source: Literal["json", "db"] = Field(
        "json", description="`db`: PostgreSQL, with the JSON file as the fallback; `json`: the file alone"
    )
    products_file: Annotated[Path, AfterValidator(_holds_products)] = Field(
        PACKAGED, description="the JSON file of products; by default the packaged one"
    )
    catalogue_max_unpaginated: int = Field(
        1000, ge=1, le=10_000, description="most products in an answer to a request that asks for no page"
    )
    catalogue_max_age_seconds: int = Field(
        10, ge=0, le=86_400, description="how long clients and proxies may keep product answers, s"
    )
