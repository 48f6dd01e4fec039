"""gunicorn's configuration: `gunicorn -c python:gateway.gunicorn_conf gateway.asgi:app`."""

from chassis.gunicorn import configure
from gateway.settings import Settings

globals().update(configure(Settings, service="gateway", worker_class="gateway.worker.EdgeWorker"))

threads = 1  # the worker is one event loop
http_parser = "python"  # what the tests have tried; the optional C parser is another one
asgi_loop = "uvloop"
asgi_lifespan = "on"
asgi_disconnect_grace_period = 0  # a client that leaves ends its request at once, and the upstream's work with it
forwarded_allow_ips = ""  # whom to believe is the edge's own affair (TRUSTED_PROXIES)
header_map = "drop"  # X_Forwarded_For and its like reach no WSGI environment
