"""Fixtures of the chassis' own tests: the sample service, in process and under gunicorn."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from chassis.testing.apps import MakeApp, app_maker
from chassis.testing.gunicorn import GunicornProcess
from chassis.testing.plugin import StartGunicorn

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

from sample_service import create_app  # noqa: E402 - found through the line above
from sample_service.settings import Settings  # noqa: E402


@pytest.fixture
def make_app(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeApp]:
    """`make_app(PORT="1", …)` builds the sample application with exactly these variables."""
    yield from app_maker(create_app, Settings, monkeypatch)


@pytest.fixture
def sample(gunicorn: StartGunicorn) -> Callable[..., GunicornProcess]:
    """`sample(**env)` is the sample service under gunicorn, alive."""
    path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))

    def start(*, wait: bool = True, **env: str) -> GunicornProcess:
        return gunicorn("sample_service", wait=wait, **{"PYTHONPATH": path, "DRAIN_SECONDS": "0", **env})

    return start
