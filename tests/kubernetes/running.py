"""A service as a process, with what the manifests give to its pod."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from tests.kubernetes.objects import environment, files, objects
from tests.kubernetes.settings import write

Secrets = Mapping[str, Mapping[str, str]]


def given(
    service: str, overlay: str, *, root: Path, secret: Secrets, database_url: str, redis_url: str
) -> dict[str, str]:
    """The environment of a pod of a service, its files written below `root`, which is / of the pod.

    Its stores are those of a test, given in the place where the pod has them.
    """
    found = objects(overlay)
    pod = found.pod(service)
    store = urlsplit(database_url)
    ours = {"redis_url": redis_url, "db_password": str(store.password)}
    replaced = {name: {key: ours.get(key, value) for key, value in each.items()} for name, each in secret.items()}
    app = write(files(found, pod, replaced), root)
    env = {
        name: str(root) + value if value.startswith("/app/") else value
        for name, value in environment(found, pod).items()
    }
    own = {"DB_HOST": str(store.hostname), "DB_PORT": str(store.port), "DB_USER": str(store.username)}
    return env | own | {"DB_NAME": store.path.strip("/"), "DB_SSLMODE": "prefer", "CONFIG_DIR": str(app)}


def module_of(service: str) -> str:
    """Where its application is."""
    return "asgi" if service == "gateway" else "wsgi"
