"""gunicorn settings of the peers; every figure is the one our services run with (see `chassis.gunicorn`).

Taken from the environment: PORT, WEB_CONCURRENCY, THREADS, WORKER_CLASS.
"""

import os

bind = f"127.0.0.1:{os.environ['PORT']}"
workers = int(os.environ.get("WEB_CONCURRENCY", "1"))
worker_class = os.environ.get("WORKER_CLASS", "gthread")
# The ASGI worker warns about threads it does not use.
threads = int(os.environ.get("THREADS", "8")) if worker_class == "gthread" else 1
keepalive = 75
# As ours: the heartbeat files are not on a disk.
worker_tmp_dir = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None  # noqa: S108
# A control socket needs a writable directory and nobody here talks to it.
control_socket_disable = True
errorlog = "-"
loglevel = "warning"
