"""gunicorn's configuration: `gunicorn -c python:gateway.gunicorn_conf gateway.asgi:app`."""

import sys

from chassis.gunicorn import configure
from chassis.settings import SettingsError
from gateway.registry.keys import read_admin_key
from gateway.settings import Settings


def check_admin_key(settings: Settings) -> None:
    """Once, before any worker: one that could not read the key would only be started again and again."""
    try:
        read_admin_key(settings.gateway_admin_key_file)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None


globals().update(
    configure(Settings, service="gateway", worker_class="gateway.worker.EdgeWorker", before_start=check_admin_key)
)

wsgi_app = "gateway.asgi:app"
threads = 1  # the worker is one event loop
asgi_loop = "uvloop"
asgi_lifespan = "on"
asgi_disconnect_grace_period = 0  # a client that leaves ends its request at once, and the upstream's work with it
