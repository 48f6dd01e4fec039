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

from loadtest.baseline.kit import observe_flask
from loadtest.baseline.users_page import COLUMNS, DEFAULT_PER_PAGE, MAX_PER_PAGE, TOTAL_SQL, page_answer

if TYPE_CHECKING:
    from flask.typing import ResponseReturnValue

_PAGE_SQL = f"SELECT {', '.join(COLUMNS)} FROM users ORDER BY id LIMIT %s OFFSET %s"


def create_app() -> Flask:
    """The page at `GET /api/v1/users`; the database is the one that DATABASE_URL names."""
    app = Flask(__name__, static_folder=None)
    observe_flask(app, service="users_unpooled")
    dsn = os.environ["DATABASE_URL"]

    @app.get("/api/v1/users")
    def users() -> ResponseReturnValue:
        page = request.args.get("page", 1, type=int)
        per_page = min(request.args.get("per_page", DEFAULT_PER_PAGE, type=int), MAX_PER_PAGE)
        if page < 1 or per_page < 1:
            return {"error": "page and per_page start at 1"}, 400
        with closing(psycopg2.connect(dsn)) as connection, connection.cursor() as cursor:
            cursor.execute(_PAGE_SQL, (per_page, (page - 1) * per_page))
            rows = cursor.fetchall()
            cursor.execute(TOTAL_SQL)
            (total,) = cursor.fetchone() or (0,)
        return jsonify(page_answer(rows, page=page, per_page=per_page, total=total))

    return app
