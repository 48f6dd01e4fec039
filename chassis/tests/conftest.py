"""Fixtures of the chassis' own tests: the sample service, in process and under gunicorn."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from flask import Flask

from chassis import settings as chassis_settings
from chassis.testing.gunicorn import GunicornProcess
from chassis.testing.plugin import StartGunicorn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from sample_service import create_app  # noqa: E402 - found through the line above
from sample_service.settings import Settings  # noqa: E402


@pytest.fixture
def make_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Flask]]:
    """`make_app(PORT="1", …)` builds the sample application with exactly these variables."""
    apps: list[Flask] = []

    def make(**env: str) -> Flask:
        for variable in chassis_settings.variables(Settings):
            monkeypatch.delenv(variable.name, raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        app = create_app(chassis_settings.load(Settings))
        apps.append(app)
        return app

    yield make
    for app in apps:
        app.extensions["lifecycle"].stop()


@pytest.fixture
def sample(gunicorn: StartGunicorn) -> Callable[..., GunicornProcess]:
    """`sample(**env)` is the sample service under gunicorn, alive."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))

    def start(*, wait: bool = True, **env: str) -> GunicornProcess:
        return gunicorn("sample_service", wait=wait, **{"PYTHONPATH": path, "DRAIN_SECONDS": "0", **env})

    return start
