"""The smallest service on the chassis: what the chassis' own tests run under gunicorn."""

from __future__ import annotations

import time
from typing import Any

from flask import Flask, Response
from pydantic import Field

from chassis import cache, database, http, openapi, service
from chassis.errors import Conflict
from chassis.openapi import Answer, operation
from sample_service.settings import Settings


class Note(http.Strict):
    """What is sent in."""

    text: http.Text = Field(min_length=1, max_length=20)
    stars: int = Field(0, ge=0, le=5)


class NoteQuery(http.Strict):
    """What is asked for."""

    stars: int = Field(0, ge=0, le=5)


def create_app(settings: Settings) -> Flask:
    """A Flask application with one of everything."""
    app = Flask(__name__)
    chassis = service.mount(app, settings, service="sample_service", features=["notes"])
    store = database.Database(settings.db, application="sample", metrics=chassis.metrics)
    redis = cache.Cache(settings.redis, metrics=chassis.metrics)
    database.install_wait_callback()
    chassis.health.add("database", store.check, required=True)
    chassis.health.add("cache", redis.check, required=False)
    chassis.lifecycle.on_stop(store.close)
    chassis.lifecycle.on_stop(redis.close)
    app.extensions.update(store=store, redis=redis, chassis=chassis)

    @app.get("/notes")
    @operation("List notes", tag="notes", query=NoteQuery, answers={200: Answer(text="notes", model=Note, many=True)})
    def list_notes() -> Response:
        return http.send(http.ready(b'[{"text":"x","stars":%d}]' % http.parse_query(NoteQuery).stars))

    @app.post("/notes")
    @operation(
        "Keep a note", tag="notes", body=Note, answers={201: Answer(text="kept", model=Note)}, problems=(400, 413, 415)
    )
    def keep_note() -> Response:
        note, _ = http.parse_body(Note)
        return Response(note.model_dump_json(), 201, content_type=http.JSON)

    @app.get("/notes/<note_id>")
    def get_note(note_id: str) -> dict[str, Any]:
        return {"id": http.parse_id(note_id, what="note")}

    @app.get("/now")
    def now() -> dict[str, Any]:
        return {"now": str(store.fetch("SELECT now()")[0][0])}

    @app.get("/slow/<float:seconds>")
    def slow(seconds: float) -> dict[str, Any]:
        time.sleep(seconds)
        return {"slept": seconds}

    @app.get("/conflict")
    def conflict() -> Response:
        raise Conflict("It is there already")

    @app.get("/boom")
    def boom() -> Response:
        raise ZeroDivisionError("secret detail of somebody@example.com")

    openapi.init_app(app, title="Sample", version=settings.app_version, description="For tests")
    return app
