"""Health: a short loop over registered checks. Liveness touches nothing; readiness obeys only what is required."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import orjson
from flask import Flask, Response

from chassis import lifecycle

log = logging.getLogger(__name__)

State = Literal["healthy", "degraded", "unhealthy"]
CACHE_S = 1.0
"""Results are this old at the most, so that polling cannot exhaust a pool (contract, section 2)."""

LIMIT_S = 1.0
"""Each check has this long."""


@dataclass(frozen=True)
class Result:
    """What a check found: its state, a line for people, the class name of an error, and further fields."""

    status: State
    message: str
    error: str | None = None
    details: dict[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """The shape of one entry of `checks`; the error's name is for `/health` alone."""
        return {"status": self.status, "message": self.message, **self.details}


_NOTHING = Result("unhealthy", "not checked yet")


class Check:
    """One registered check, cached for `CACHE_S`; one caller at a time runs it, the others get the last result."""

    def __init__(self, name: str, run: Callable[[float], Result], *, required: bool) -> None:
        self.name = name
        self.required = required
        self._run = run
        self._lock = threading.Lock()
        self._result: Result | None = None
        self._fresh_until = 0.0

    def result(self) -> Result:
        """The result, at most `CACHE_S` old or as old as the check now running. Never raises."""
        last = self._result
        if last is not None and (time.monotonic() < self._fresh_until or not self._lock.acquire(blocking=False)):
            return last
        if last is None:
            self._lock.acquire()  # the very first callers have nothing older to be given
        try:
            if self._result is None or time.monotonic() >= self._fresh_until:
                self._refresh(self._result)
            return self._result or _NOTHING
        finally:
            self._lock.release()

    def _refresh(self, before: Result | None) -> None:
        try:
            result = self._run(LIMIT_S)
        except Exception as error:  # noqa: BLE001 - whatever a check raises means that what it checks is not well
            result = Result("unhealthy", f"{self.name} cannot be checked", error=type(error).__name__)
        self._result, self._fresh_until = result, time.monotonic() + CACHE_S
        if result.status != "healthy" and (before is None or before.status != result.status):
            log.warning("Health check %s is %s: %s (%s)", self.name, result.status, result.message, result.error or "-")


class Health:
    """The checks of one application.

    Args:
        service, version: what `/health` reports.
        features: names of what is switched on, for `/health`.
        stores: names of checks whose state `/health` reports in fields of those names.
    """

    def __init__(
        self, *, service: str, version: str, features: Sequence[str] = (), stores: Sequence[str] = ("database",)
    ) -> None:
        self._stores = tuple(stores)
        self._service = service
        self._version = version
        self._features = list(features)
        self._checks: list[Check] = []

    def add(self, name: str, check: Callable[[float], Result], *, required: bool) -> None:
        """Register `check`: it takes its limit in seconds and returns a Result, or raises.

        A `required` one that is unhealthy makes the service unready; any other only makes it degraded.
        """
        self._checks.append(Check(name, check, required=required))

    def live(self) -> tuple[int, dict[str, Any]]:
        """Status and body of `/health/live`."""
        return 200, {"status": "alive"}

    def ready(self) -> tuple[int, dict[str, Any]]:
        """Status and body of `/health/ready`. While draining it is 503 whatever the checks say."""
        results = [(check, check.result()) for check in self._checks]
        ok = not lifecycle.draining() and not any(c.required and r.status == "unhealthy" for c, r in results)
        checks = {check.name: result.as_dict() for check, result in results}
        return (200, {"status": "ready", "checks": checks}) if ok else (503, {"status": "not_ready", "checks": checks})

    def summary(self) -> tuple[int, dict[str, Any]]:
        """Status and body of `/health`."""
        results = [(check, check.result()) for check in self._checks]
        failed = any(check.required and result.status == "unhealthy" for check, result in results)
        degraded = any(result.status != "healthy" for _, result in results)
        states = {check.name: _CONNECTED.get(result.status, "connected") for check, result in results}
        body: dict[str, Any] = {
            "status": "unhealthy" if failed else "degraded" if degraded else "healthy",
            "service": self._service,
            "version": self._version,
            "features": self._features,
            **{store: states.get(store, "not_configured") for store in self._stores},
        }
        if error := next((result.error for _, result in results if result.error), None):
            body["error"] = error
        return (503 if failed else 200), body


_CONNECTED = {"unhealthy": "disconnected"}

PROBE_ENDPOINTS = frozenset({"health", "health_live", "health_ready", "metrics"})
"""Endpoint names whose requests are logged at DEBUG."""


def init_app(app: Flask, health: Health) -> None:
    """Add `/health`, `/health/live` and `/health/ready` to a Flask application."""

    def answer(result: tuple[int, dict[str, Any]]) -> Response:
        status, body = result
        return Response(orjson.dumps(body), status, {"Cache-Control": "no-store"}, content_type="application/json")

    app.add_url_rule("/health", "health", lambda: answer(health.summary()))
    app.add_url_rule("/health/live", "health_live", lambda: answer(health.live()))
    app.add_url_rule("/health/ready", "health_ready", lambda: answer(health.ready()))
