"""The part of `create_app` that is the same in every Flask service, in the order that matters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from flask import Flask

from chassis import cors, errors, health, http
from chassis.health import Health
from chassis.lifecycle import Lifecycle
from chassis.metrics import Metrics
from chassis.settings import ServiceSettings


@dataclass(frozen=True)
class Chassis:
    """What a service's own parts are given to hang on to."""

    metrics: Metrics
    health: Health
    lifecycle: Lifecycle


def mount(
    app: Flask,
    settings: ServiceSettings,
    *,
    service: str,
    features: Sequence[str] = (),
    stores: Sequence[str] = ("database",),
) -> Chassis:
    """Give `app` its metrics, errors, ids, deadlines, health and CORS. Logging is the process's, not the app's."""
    app.debug = settings.flask_env == "development"
    life = Lifecycle()
    app.extensions["lifecycle"] = life
    metrics = Metrics(service=service, version=settings.app_version, commit=settings.commit)
    checks = Health(service=service, version=settings.app_version, features=features, stores=stores)
    app.extensions["health"] = checks
    errors.init_app(app, metrics=metrics)
    cors.init_app(app, origins=settings.cors_origins)
    health.init_app(app, checks)
    http.init_app(  # last: its middleware must see what all the others answer
        app, metrics=metrics, timeout_ms=settings.request_timeout_ms, max_body_bytes=settings.max_body_bytes
    )
    life.background("metrics-sampler", metrics.sample, interval_s=settings.metrics_sample_seconds)
    return Chassis(metrics=metrics, health=checks, lifecycle=life)
