"""The users as the review found them: all of them in every answer, a new PostgreSQL connection for it, and no cache.

Run it with one `sync` worker, as it was: one request at a time, and a new HTTP connection for each.

DATABASE_URL=… WORKER_CLASS=sync gunicorn -c python:loadtest.baseline.gunicorn_conf
    'loadtest.baseline.users_as_was:create_app()'
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg2
from flask import Flask, jsonify
from psycopg2.extras import RealDictCursor

from loadtest.baseline.kit import connect_seconds, observe_flask
from loadtest.baseline.users_page import COLUMNS, page_answer

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


def create_app() -> Flask:
    """All users at `GET /api/v1/users`, whatever page is asked for; the database is the one that DATABASE_URL names."""
    app = Flask(__name__, static_folder=None)
    observe_flask(app, service="users_as_was")
    dsn = os.environ["DATABASE_URL"]
    connecting = connect_seconds()

    @app.get("/api/v1/users")
    def users() -> ResponseReturnValue:
        with connecting.time():
            opened = psycopg2.connect(dsn)
        with closing(opened) as connection, connection.cursor(cursor_factory=RealDictCursor) as cursor:
            cursor.execute("SELECT * FROM users ORDER BY id")
            rows = [[row[name] for name in COLUMNS] for row in cursor.fetchall()]
        return jsonify(page_answer(rows, page=1, per_page=max(len(rows), 1), total=len(rows)))

    return app
