"""CORS by flask-cors, for the origins in `CORS_ORIGINS`; without any, nothing is added to any request."""

from __future__ import annotations

from collections.abc import Sequence

from flask import Flask
from flask_cors import CORS

EXPOSED = ("ETag", "Link", "Location", "Retry-After", "X-Cache", "X-Data-Source", "X-Request-ID", "X-Total-Count")


def init_app(app: Flask, *, origins: Sequence[str]) -> None:
    """Let browsers on `origins` call the API and read its headers."""
    if origins:
        CORS(app, origins=list(origins), expose_headers=list(EXPOSED), max_age=600)
