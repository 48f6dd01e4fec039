"""Short links: PostgreSQL holds them, Redis remembers where they lead and counts who follows them."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from flask import Flask

from chassis import openapi, service
from chassis.cache import Cache
from chassis.database import Database, install_wait_callback
from links import ahead
from links.clicks import FLUSH_INTERVAL_S, Clicks
from links.endpoints import Destinations, Endpoints
from links.page import Page
from links.pictures import Pictures
from links.redirects import Redirects
from links.rendering import Addresses
from links.repository import Links
from links.stores import Bucket, Directory, Store
from links_lookup.lookup import CODE

if TYPE_CHECKING:
    from chassis.service import Chassis
    from links.settings import Settings

TELL_INTERVAL_S = 0.5
SWEEP_INTERVAL_S = 3600.0


def create_app(settings: Settings) -> Flask:
    """The application; every call makes a new one, with threads and connections of its own."""
    app = Flask(__name__, static_folder=None)

    # First what everything else hangs on: metrics, errors, health, life cycle.
    function_url = settings.cloud_function_url if settings.use_cloud_function_redirect else None
    chassis = service.mount(
        app, settings, service="links", features=_features(settings), stores=("database", "gcs")
    )  # fmt: skip

    # Then the stores. The database is required, the cache and the bucket are not.
    install_wait_callback()
    database = Database(settings.db, application="links", metrics=chassis.metrics)
    cache = Cache(settings.redis, metrics=chassis.metrics)
    chassis.health.add("database", database.check, required=True)
    if cache.configured:
        chassis.health.add("cache", cache.check, required=False)
    store = _store(settings, chassis)

    # Then what is made of them, each of those above it.
    links = Links(database)
    clicks = Clicks(cache, links)
    ask_ms = 2 * settings.db.operation_timeout_ms + 1000
    redirects = Redirects(cache, links, clicks, ttl_s=settings.links_cache_ttl_seconds, ask_ms=ask_ms)
    addresses = Addresses(settings.public_url)
    views = Endpoints(
        links=links,
        redirects=redirects,
        clicks=clicks,
        pictures=Pictures(store, metrics=chassis.metrics),
        addresses=addresses,
        allowed=Destinations(public_url=settings.public_url, function_url=settings.cloud_function_url),
        function_url=function_url,
    )
    views.init_app(app)
    Page(api=views, redirects=redirects, addresses=addresses).init_app(app)

    # What Redis knows takes no way through Flask, unless headers of CORS would be missing from it.
    if not settings.cors_origins:

        def send_on(code: str, *, counts: bool) -> str | None:  # noqa: ARG001 - the function counts
            return f"{function_url}/{code}" if CODE.fullmatch(code) else None

        ahead.init_app(app, redirects.peek if function_url is None else send_on, endpoint=views.redirect.__name__)

    # The threads, which end before the last clicks are stored and the stores close.
    chassis.lifecycle.on_stop(database.close)
    chassis.lifecycle.on_stop(cache.close)
    chassis.lifecycle.on_stop(clicks.close)
    chassis.lifecycle.background("clicks-flush", clicks.settle, interval_s=FLUSH_INTERVAL_S)
    chassis.lifecycle.background("cache-tell", redirects.tell, interval_s=TELL_INTERVAL_S)
    chassis.lifecycle.background("batches-sweep", clicks.sweep, interval_s=SWEEP_INTERVAL_S)

    # Last the document, which describes all of the above.
    openapi.init_app(
        app, title="Links", version=settings.app_version, description="Short links: make them, follow them, count."
    )
    return app


def _features(settings: Settings) -> list[str]:
    chosen = {
        "cache": settings.redis.url is not None,
        "cloud-function-redirect": settings.use_cloud_function_redirect,
        "gcs": settings.gcs_bucket is not None,
    }
    return ["qr", *(name for name, is_on in chosen.items() if is_on)]


def _store(settings: Settings, chassis: Chassis) -> Store:
    if settings.gcs_bucket is not None:
        bucket = Bucket(settings.gcs_bucket, timeout_s=settings.gcs_timeout_ms / 1000)
        chassis.health.add("gcs", bucket.check, required=False)
        chassis.lifecycle.on_stop(bucket.close)
        return bucket
    if settings.qr_dir is not None:
        return Directory(settings.qr_dir)
    temporary = tempfile.TemporaryDirectory(prefix="links-qr-")
    chassis.lifecycle.on_stop(temporary.cleanup)
    return Directory(Path(temporary.name))
