"""The product catalogue: products from a JSON file, or from PostgreSQL with that file as the fallback."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from flask import Flask

from catalogue import assets, endpoints, facts, telemetry
from catalogue.answers import Caching
from catalogue.home import HomePage
from catalogue.products import read_file
from catalogue.sources import DatabaseSource, FallbackSource, JsonSource
from chassis import openapi, service, shortcut
from chassis.errors import Unavailable

if TYPE_CHECKING:
    from catalogue.settings import Settings
    from catalogue.sources import Source

PROBE_INTERVAL_S = 1.0
"""Between two looks at the database; the contract allows 5 s from its return to ours."""

FALLBACK_CACHE_CONTROL = "public, max-age=1"
"""Short: through caches, too, the database's return must be seen within 5 s, and it takes a second to notice it."""
STALE_IF_ERROR_S = 86_400
"""A cache may sell from the window for a day while the shop is closed."""


def create_app(settings: Settings) -> Flask:
    """The application; every call makes a new one, with threads and connections of its own."""
    app = Flask(__name__, static_folder=None)

    # First what everything else hangs on: metrics, errors, health, life cycle.
    chassis = service.mount(app, settings, service="catalogue", features=_features(settings))

    # Then the products. In database mode the first look at the database is part of this, so that not even the first
    # request waits for one that is not there.
    source: Source
    source = _fallback_source(settings, chassis) if settings.data_source == "db" else _json_source(settings)
    telemetry.watch(chassis.metrics, source)

    # Then what answers with them.
    files = assets.load()
    page = HomePage(source, facts=facts.gather(), version=settings.app_version)
    endpoints.init_app(app, source=source, home_page=page, files=files)

    # Where the products cannot change and no answer depends on who asks, the fixed ones are given without Flask.
    if isinstance(source, JsonSource) and not settings.cors_origins:
        with app.app_context():
            shortcut.init_app(app, endpoints.fixed(source=source, home_page=page, files=files))

    # Last the document, which describes all of the above.
    openapi.init_app(
        app, title="Catalogue", version=settings.app_version, description="Products: search, filter, sort, pages."
    )
    return app


def _features(settings: Settings) -> list[str]:
    return ["search", "database", "json-fallback"] if settings.data_source == "db" else ["search"]


def _json_source(settings: Settings) -> JsonSource:
    caching = Caching(source="json", cache_control=_cache_control(settings))
    return JsonSource(
        read_file(settings.products_file), caching=caching, max_unpaginated=settings.catalogue_max_unpaginated
    )


def _fallback_source(settings: Settings, chassis: service.Chassis) -> FallbackSource:
    # Imported here because JSON mode does without them, and two of its workers must fit into 128 MiB.
    import psycopg2

    from catalogue.repository import ProductRepository
    from chassis.database import Database, install_wait_callback

    most = settings.catalogue_max_unpaginated
    install_wait_callback()
    database = Database(settings.db, application="catalogue", metrics=chassis.metrics)
    source = FallbackSource(
        database=DatabaseSource(
            ProductRepository(database, max_unpaginated=most),
            caching=Caching(source="db", cache_control=_cache_control(settings)),
            max_unpaginated=most,
        ),
        fallback=JsonSource(
            read_file(settings.products_file),
            caching=Caching(source="json-fallback", cache_control=FALLBACK_CACHE_CONTROL),
            max_unpaginated=most,
        ),
        errors=(Unavailable, psycopg2.Error),
        count_fallback=chassis.metrics.counter(
            "catalogue_fallback_answers_total", "Reads that the JSON file answered instead of the database"
        ).inc,
    )
    source.probe()
    chassis.lifecycle.on_stop(database.close)
    chassis.lifecycle.background("database-probe", source.probe, interval_s=PROBE_INTERVAL_S)
    chassis.health.add("database", partial(telemetry.database_check, database, source), required=False)
    return source


def _cache_control(settings: Settings) -> str:
    age_s = settings.catalogue_max_age_seconds
    return f"public, max-age={age_s}, stale-while-revalidate={6 * age_s}, stale-if-error={STALE_IF_ERROR_S}"
