"""The user page as it was before the review: a new PostgreSQL connection for every request, and no cache.

It has the review's LIMIT and OFFSET, so that it answers the same page as our service; otherwise it would lose by the
size of its answer and not by its connections.

DATABASE_URL=… gunicorn -c python:loadtest.baseline.gunicorn_conf 'loadtest.baseline.users_unpooled:create_app()'
"""

from __future__ import annotations

import os
from contextlib import closing
from typing import TYPE_CHECKING

import psycopg2
from flask import Flask, jsonify, request

from loadtest.baseline.kit import connect_seconds, observe_flask
from loadtest.baseline.users_page import asked_page, page_answer, read_page

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue


def create_app() -> Flask:
    """The page at `GET /api/v1/users`; the database is the one that DATABASE_URL names."""
    app = Flask(__name__, static_folder=None)
    observe_flask(app, service="users_unpooled")
    dsn = os.environ["DATABASE_URL"]
    connecting = connect_seconds()

    @app.get("/api/v1/users")
    def users() -> ResponseReturnValue:
        asked = asked_page(request.args)
        if asked is None:
            return {"error": "page and per_page start at 1"}, 400
        page, per_page = asked
        with connecting.time():
            opened = psycopg2.connect(dsn)
        with closing(opened) as connection, connection.cursor() as cursor:
            rows, total = read_page(cursor, page, per_page)
        return jsonify(page_answer(rows, page=page, per_page=per_page, total=total))

    return app
