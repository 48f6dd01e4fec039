"""What the catalogue reports of itself next to the chassis' own: three gauges and the health of its database."""

from __future__ import annotations

from typing import TYPE_CHECKING

from catalogue.sources import FallbackSource
from chassis.health import Result

if TYPE_CHECKING:
    from catalogue.sources import Source
    from chassis.database import Database
    from chassis.metrics import Metrics

SOURCES = ("json", "db", "json-fallback")


def watch(metrics: Metrics, source: Source) -> None:
    """Report `catalogue_products_total`, `catalogue_db_connection_status` and `catalogue_data_source{source}`.

    All three are set now and with every sample, the last two also when `source` changes.
    """
    products = metrics.gauge("catalogue_products_total", "Products in the catalogue", over_workers="livemostrecent")
    connected = metrics.gauge(
        "catalogue_db_connection_status",
        "1: every worker reads from the database; 0: one has lost it, or none uses it",
        over_workers="livemin",
    )
    active = metrics.gauge(
        "catalogue_data_source", "1 for what a worker reads products from", ("source",), over_workers="livemax"
    )

    def show_source() -> None:
        name = source.name
        connected.set(name == "db")
        for each in SOURCES:
            active.labels(each).set(each == name)

    def sample() -> None:
        products.set(source.count())
        show_source()  # after the count, which may find the database lost

    if isinstance(source, FallbackSource):
        source.on_change(show_source)
    metrics.sampler(sample)
    sample()


def database_check(database: Database, source: FallbackSource, limit_s: float) -> Result:
    """The health of the database: can it be reached, and do products come from it."""
    result = database.check(limit_s)
    if result.status == "healthy" and source.error is not None:
        message = "Database is accessible, but products come from the JSON file"
        return Result("degraded", message, error=source.error, details=result.details)
    return result
