"""Applications in the process of the test, built as `wsgi.py` builds them: from variables."""

from collections.abc import Callable, Iterator

import psycopg2.extensions
import pytest
from flask import Flask

from chassis.settings import S, load, variables

MakeApp = Callable[..., Flask]


def app_maker(create_app: Callable[[S], Flask], model: type[S], monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeApp]:
    """What a fixture `make_app` yields from: `make_app(NAME="value", …)` builds an application with these variables.

    It has exactly them, whatever the shell has set. All are stopped after the test, and psycopg2 waits as before.
    """
    apps: list[Flask] = []

    def make(**env: str) -> Flask:
        for variable in variables(model):
            monkeypatch.delenv(variable.name, raising=False)
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        apps.append(create_app(load(model)))
        return apps[-1]

    yield make
    for app in apps:
        app.extensions["lifecycle"].stop()
    psycopg2.extensions.set_wait_callback(None)
