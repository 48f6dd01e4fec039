"""The users of the storefront: PostgreSQL holds them, Redis holds pages of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from flask import Flask

from chassis import openapi, service, shortcut
from chassis.cache import Cache
from chassis.database import Database, install_wait_callback
from user import rendering
from user.endpoints import Endpoints
from user.generation import Generation
from user.idempotency import SWEEP_INTERVAL_S, Idempotency
from user.pages import Pages, Wanted
from user.repository import Users

if TYPE_CHECKING:
    from user.settings import Settings

WATCH_INTERVAL_S = 0.5
"""How old a worker's knowledge of the cache's epoch may be: ADR 0021 says what that bounds."""


def create_app(settings: Settings) -> Flask:
    """The application; every call makes a new one, with threads and connections of its own."""
    app = Flask(__name__)

    # First what everything else hangs on: metrics, errors, health, life cycle.
    features = ["pagination", "idempotency"] + (["cache"] if settings.redis.url else [])
    chassis = service.mount(app, settings, service="user", features=features)

    # Then the stores. The database is required, the cache is not.
    install_wait_callback()
    database = Database(settings.db, application="user", metrics=chassis.metrics)
    cache = Cache(settings.redis, metrics=chassis.metrics)
    chassis.health.add("database", database.check, required=True)
    if cache.configured:
        chassis.health.add("cache", cache.check, required=False)

    # Then what is made of them, each of those above it.
    users = Users(database)
    generation = Generation(cache, users)
    idempotency = Idempotency(database, users, kept_h=settings.user_idempotency_hours)

    def make_page(wanted: Wanted) -> tuple[bytes, str]:
        if wanted.page is None:
            rows = users.page_after(wanted.after, wanted.per_page)
        else:
            rows = users.page_at((wanted.page - 1) * wanted.per_page, wanted.per_page)
        body = rendering.page_body(rows, page=wanted.page, per_page=wanted.per_page)
        return body, rendering.page_link(rows, wanted)

    pages = Pages(cache, generation, make=make_page, ttl_s=settings.user_cache_ttl_seconds)
    app.extensions["pages"] = pages
    views = Endpoints(users=users, pages=pages, idempotency=idempotency, cache=cache, announce=generation.announce)
    views.init_app(app)

    # Hits take no way through Flask, unless headers of CORS would be missing from them.
    if cache.configured and not settings.cors_origins:
        at_hand = shortcut.AtHand(views.list_users.__name__, views.page_at_hand)
        shortcut.init_app(app, {rendering.PATH: at_hand})

    # The threads, which end in the reverse order before the stores close.
    chassis.lifecycle.on_stop(database.close)
    chassis.lifecycle.on_stop(cache.close)
    chassis.lifecycle.on_stop(generation.close)
    chassis.lifecycle.background("cache-watch", generation.watch, interval_s=WATCH_INTERVAL_S)
    chassis.lifecycle.background("idempotency-sweep", idempotency.sweep, interval_s=SWEEP_INTERVAL_S)

    # Last the document, which describes all of the above.
    openapi.init_app(
        app, title="Users", version=settings.app_version, description="Users: create, find, change, walk through them."
    )
    return app
