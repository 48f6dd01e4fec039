"""The gunicorn configuration that every service shares.

A service's `gunicorn_conf.py` is `globals().update(configure(Settings))`; gunicorn runs it in the master before any
application is imported, which is when bad settings must stop the process and the metrics directory must be set.
"""

from __future__ import annotations

import gc
import importlib
import os
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gunicorn.glogging

from chassis import lifecycle, logging
from chassis.process import MASTER_PID_VARIABLE, limit_malloc_arenas
from chassis.settings import ServiceSettings, SettingsError, load

KEEPALIVE_S = 75
"""Longer than the gateway keeps a connection idle (50 s), or resets appear under load (TRAPS: ingress-nginx#11244)."""


class Logger(gunicorn.glogging.Logger):
    """gunicorn's messages through our one pipeline; request lines are the application's to log."""

    def setup(self, cfg: Any) -> None:
        """Keep the handlers that `configure` set; only follow the configuration."""
        self.cfg = cfg
        self._access_log_enabled = False
        self.error_log.propagate = self.access_log.propagate = True


def settings_or_exit(model: type[ServiceSettings]) -> Any:
    """The service's settings; a bad value ends the process with one line each on stderr and status 1."""
    try:
        return load(model)
    except SettingsError as error:
        sys.stderr.write(f"{error}\n")
        raise SystemExit(1) from None


def configure(
    model: type[ServiceSettings],
    *,
    service: str,
    worker_class: str = "chassis.worker.Worker",
    before_start: Callable[[Any], None] | None = None,
) -> dict[str, Any]:
    """gunicorn settings from `model`, for the package `service`.

    `before_start(settings)` runs once, in the master, before it listens; it may raise SystemExit.

    Effects: configures logging, creates and empties the metrics directory, and sets `PROMETHEUS_MULTIPROC_DIR`.
    """
    settings = settings_or_exit(model)
    configure_logging(settings, service)
    metrics_dir = _metrics_directory(settings.metrics_dir, service)

    def on_starting(_server: Any) -> None:
        os.environ[MASTER_PID_VARIABLE] = str(os.getpid())
        limit_malloc_arenas()
        # The code is imported once, before fork: workers share its memory and start at once. The application itself,
        # with its threads and connections, is made in each worker. Frozen objects are left alone by the collector,
        # whose marks would unshare their pages.
        importlib.import_module(service)
        if before_start is not None:
            try:
                before_start(settings)
            except BaseException:
                on_exit(_server)
                raise
        lifecycle.hold_stop_signals_over_fork()
        gc.collect()
        gc.freeze()

    def when_ready(server: Any) -> None:
        lifecycle.install_drain(server, settings.drain_seconds)

    def child_exit(_server: Any, worker: Any) -> None:
        from prometheus_client import multiprocess

        multiprocess.mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]

    def worker_exit(_server: Any, worker: Any) -> None:
        application = getattr(worker, "wsgi", None) or getattr(worker, "asgi", None)
        life = getattr(application, "extensions", {}).get("lifecycle")
        if life is not None:
            life.stop()

    def on_exit(_server: Any) -> None:
        if settings.metrics_dir is None:
            shutil.rmtree(metrics_dir, ignore_errors=True)

    return {
        "wsgi_app": f"{service}.wsgi:app",
        "bind": f"{settings.listen_host}:{settings.port}",
        "workers": settings.web_concurrency,
        "threads": settings.threads,
        "worker_class": worker_class,
        "keepalive": KEEPALIVE_S,
        "timeout": 30,
        "graceful_timeout": settings.stop_timeout_seconds,
        "backlog": 1024,
        "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108 - heartbeat files
        "logger_class": Logger,
        "accesslog": None,
        "control_socket_disable": True,
        # gunicorn would let a peer on this machine, the gateway with whatever a stranger sent it, choose a request's
        # path by a field `SCRIPT_NAME`, and its scheme by `X-Forwarded-Proto`.
        "forwarded_allow_ips": "",
        "header_map": "drop",
        "http_parser": "python",  # what the tests have tried; the optional C parser is another one
        "proc_name": service,
        "on_starting": on_starting,
        "when_ready": when_ready,
        "child_exit": child_exit,
        "worker_exit": worker_exit,
        "on_exit": on_exit,
    }


def configure_logging(settings: ServiceSettings, service: str) -> None:
    """`chassis.logging` as `settings` want it."""
    logging.configure(
        service=service, version=settings.app_version, level=settings.log_level, log_format=settings.log_format
    )


def _metrics_directory(wanted: Path | None, service: str) -> Path:
    """An existing, empty directory for the metric files, announced to prometheus_client."""
    if wanted is None:
        directory = Path(tempfile.mkdtemp(prefix=f"{service}-metrics-"))
    else:
        directory = wanted
        directory.mkdir(parents=True, exist_ok=True)
        for path in directory.glob("*.db"):  # of the run before: pids come again
            path.unlink(missing_ok=True)
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory)
    return directory
