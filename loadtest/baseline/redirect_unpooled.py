"""The redirect as a first version has it: a new PostgreSQL connection and a write for every click, and no cache.

It counts as our service does; otherwise it would have less to do.

DATABASE_URL=… gunicorn -c python:loadtest.baseline.gunicorn_conf 'loadtest.baseline.redirect_unpooled:create_app()'
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg2
from flask import Flask, redirect

from loadtest.baseline.kit import observe_flask

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


def create_app() -> Flask:
    """The redirect at `GET /s/<code>`; the database is the one that DATABASE_URL names."""
    app = Flask(__name__, static_folder=None)
    observe_flask(app, service="redirect_unpooled")
    dsn = os.environ["DATABASE_URL"]

    @app.get("/s/<code>")
    def follow(code: str) -> ResponseReturnValue:
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            cursor.execute("SELECT url FROM links WHERE code = %s AND disabled_at IS NULL", (code,))
            link = cursor.fetchone()
            if link is None:
                return {"error": "There is no such link"}, 404
            cursor.execute("UPDATE links SET clicks = clicks + 1 WHERE code = %s", (code,))
            connection.commit()
        return redirect(link[0])

    return app
