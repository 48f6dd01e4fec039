"""The control plane: the registry of routes.

A Flask application over PostgreSQL, mounted beside the edge in the same process. It stores routes with an audit trail
and an outbox, and every worker of every gateway follows it (`feed`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import psycopg2.errors
from flask import Flask
from flask.typing import ResponseReturnValue

from chassis import cors, errors, openapi
from chassis.errors import Unavailable
from gateway.registry.documents import BESIDE
from gateway.registry.endpoints import Endpoints, UrlPolicy

if TYPE_CHECKING:
    from chassis.metrics import Metrics
    from gateway.registry.repository import Registry
    from gateway.registry.resolve import Resolver
    from gateway.registry.table import Change
    from gateway.settings import Settings


def create_app(
    settings: Settings,
    *,
    resolver: Resolver,
    registry: Registry | None,
    feed_announce: Callable[[Sequence[Change]], object],
    policy: UrlPolicy,
    metrics: Metrics,
) -> Flask:
    """The registry's API. Ids, deadlines, logs and metrics of requests are the edge's, which is in front of it.

    Args:
        registry: None where there is no database; all but `resolve` are 503 then.
        feed_announce: called with what a write changed after its commit, in the thread that answers.
    """
    app = Flask(__name__, static_folder=None)

    def no_tables(_error: Exception) -> ResponseReturnValue:
        return app.handle_user_exception(Unavailable("The registry has no tables yet: run gateway-db create"))

    app.config["MAX_CONTENT_LENGTH"] = settings.max_body_bytes
    app.url_map.merge_slashes = False
    errors.init_app(app, metrics=metrics)
    app.register_error_handler(psycopg2.errors.UndefinedTable, no_tables)
    cors.init_app(app, origins=settings.cors_origins)
    Endpoints(resolver=resolver, registry=registry, announce=feed_announce, policy=policy).init_app(app)
    openapi.init_app(  # last: it describes all of the above
        app,
        title="Gateway",
        version=settings.app_version,
        description="The registry of routes: which service is where, in which versions, and how traffic is divided.",
        beside=BESIDE,
    )
    return app
