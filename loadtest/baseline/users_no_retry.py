"""The user page with a pool and nothing else: what `users_unpooled` is without its connections, and our service without
its retries. A lost connection is thrown away and costs whoever had it a 503; no cache.

DATABASE_URL=… gunicorn -c python:loadtest.baseline.gunicorn_conf 'loadtest.baseline.users_no_retry:create_app()'
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING, Any

import psycopg2
from flask import Flask, jsonify, request
from sqlalchemy.pool import QueuePool

from loadtest.baseline.kit import observe_flask
from loadtest.baseline.users_page import asked_page, page_answer, read_page

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

_POOL_SIZE = 8
"""As our service's, and as many as it has threads: nobody waits."""


def create_app() -> Flask:
    """The page at `GET /api/v1/users`; the database is the one that DATABASE_URL names."""
    app = Flask(__name__, static_folder=None)
    observe_flask(app, service="users_no_retry")
    dsn = os.environ["DATABASE_URL"]

    def connect() -> Any:
        connection = psycopg2.connect(dsn)
        connection.autocommit = True  # as ours: no BEGIN before a statement, and no ROLLBACK after it
        return connection

    pool = QueuePool(connect, pool_size=_POOL_SIZE, max_overflow=0, use_lifo=True, reset_on_return=None)

    @app.get("/api/v1/users")
    def users() -> ResponseReturnValue:
        asked = asked_page(request.args)
        if asked is None:
            return {"error": "page and per_page start at 1"}, 400
        page, per_page = asked
        try:
            pooled = pool.connect()
        except psycopg2.Error:
            return {"error": "The database cannot be reached"}, 503
        try:
            with closing(pooled.cursor()) as cursor:
                rows, total = read_page(cursor, page, per_page)
        except psycopg2.Error:
            pooled.invalidate()
            return {"error": "The database cannot be reached"}, 503
        finally:
            pooled.close()
        return jsonify(page_answer(rows, page=page, per_page=per_page, total=total))

    return app
