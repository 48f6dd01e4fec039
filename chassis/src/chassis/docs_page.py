"""`GET /docs`: Swagger UI over the service's own `/openapi.json`, with nothing from the internet.

Swagger UI's files come from the wheel `flask-openapi3-swagger`, of which nothing is imported; ADR 0011 says why.
Every address in the page is relative, so it also works where a gateway strips a prefix.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from flask import Flask, Response, send_file
from werkzeug.exceptions import NotFound

MAX_AGE_S = 3600
CONTENT_SECURITY_POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self' data:",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)


def init_app(app: Flask, document: Callable[[], Mapping[str, Any]]) -> None:
    """Add `GET /docs` (endpoint `docs`) and the files it needs below it (endpoint `docs_asset`).

    Args:
        document: gives the OpenAPI document; called once per page, for its `info.title` and `info.version`.
            The operations are read by the browser from `openapi.json` beside the page.

    Raises:
        ModuleNotFoundError: Swagger UI's files are not installed.
    """
    assets = _assets()
    template = app.jinja_env.from_string(_ours("templates/docs.html").read_text("utf-8"))

    def docs() -> Response:
        page = Response(template.render(info=document()["info"]), content_type="text/html; charset=utf-8")
        page.headers["Cache-Control"] = "no-cache"
        return _guarded(page)

    def docs_asset(name: str) -> Response:
        if name not in assets:
            raise NotFound
        return _guarded(send_file(assets[name], max_age=MAX_AGE_S))

    app.add_url_rule("/docs", "docs", docs)
    app.add_url_rule("/docs/assets/<name>", "docs_asset", docs_asset)


def _guarded(answer: Response) -> Response:
    answer.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY
    answer.headers["X-Content-Type-Options"] = "nosniff"
    answer.headers["Referrer-Policy"] = "no-referrer"
    return answer


def _assets() -> dict[str, Path]:
    swagger = resources.files("flask_openapi3_swagger") / "templates" / "swagger"
    files = (
        swagger / "css" / "swagger-ui.css",
        swagger / "js" / "swagger-ui-bundle.js",
        _ours("static/docs.css"),
        _ours("static/docs.js"),
    )
    return {file.name: Path(str(file)) for file in files}


def _ours(name: str) -> Traversable:
    return resources.files("chassis").joinpath(name)
