"""The four services' settings as a pod would read them: from a manifest, and nothing of this machine."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import pytest

from catalogue.settings import Settings as Catalogue
from chassis.settings import DatabaseServiceSettings, load, variables
from gateway.settings import Settings as Gateway
from links.settings import Settings as Links
from user.settings import Settings as User

CLASSES: Mapping[str, type[DatabaseServiceSettings]] = {
    "catalogue": Catalogue,
    "gateway": Gateway,
    "links": Links,
    "user": User,
}


def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No variable of this machine is one of a service."""
    known = {variable.name for each in CLASSES.values() for variable in variables(each)} | {"CONFIG_DIR"}
    for name in known & set(os.environ):
        monkeypatch.delenv(name)


def write(files: Mapping[str, str], root: Path) -> Path:
    """Put the files of a container under `root`. Returns what is /app in there."""
    for name, text in files.items():
        path = root / name.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    (root / "app").mkdir(exist_ok=True)
    return root / "app"


def read(
    service: str, *, environment: Mapping[str, str], directory: Path, monkeypatch: pytest.MonkeyPatch
) -> DatabaseServiceSettings:
    """What a service would be configured by. Raises SettingsError as it would."""
    bare(monkeypatch)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("CONFIG_DIR", str(directory))
    return load(CLASSES[service])
