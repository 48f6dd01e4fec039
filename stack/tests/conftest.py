"""Runs of the stack, and stand-ins for the services, so that the supervisor is tested without them."""

import json
import os
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from chassis.servers import PostgresServer, ValkeyServer
from chassis.testing import free_port, wait_until

_CONF = """
import os
bind = f"127.0.0.1:{os.environ['PORT']}"
workers = 2
control_socket_disable = True
"""
_APP = """
import json, os
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [json.dumps(dict(os.environ)).encode()]
"""
_TOOL = """
import os, sys, psycopg2
def main():
    print(*sys.argv[1:])
    table = {"catalogue.db": "products", "user.db": "users"}.get(__name__)
    if table is None:
        return
    connection = psycopg2.connect(os.environ["DATABASE_URL"])
    with connection, connection.cursor() as cursor:
        if sys.argv[1] == "create":
            cursor.execute(f"CREATE TABLE IF NOT EXISTS {table} (id bigserial)")
        else:
            cursor.execute(f"INSERT INTO {table} SELECT FROM generate_series(1, 3)")
    connection.close()
"""


@pytest.fixture
def stand_ins(tmp_path: Path) -> Path:
    """A directory for PYTHONPATH in which the services answer every request with their environment."""
    directory = tmp_path / "stand-ins"
    for service, module in (("gateway", "asgi"), ("catalogue", "wsgi"), ("user", "wsgi"), ("links", "wsgi")):
        package = directory / service
        package.mkdir(parents=True)
        (package / "__init__.py").touch()
        (package / "gunicorn_conf.py").write_text(_CONF)
        (package / f"{module}.py").write_text(_APP)
        (package / "db.py").write_text(_TOOL)
    return directory


@pytest.fixture
def environment(free_ports: dict[str, str]) -> dict[str, str]:
    """What `make run` finds in a bare shell, with free ports."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": os.environ.get("HOME", "/"),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONDONTWRITEBYTECODE": "1",
        **free_ports,
    }


@pytest.fixture
def free_ports() -> dict[str, str]:
    """The port variables, each with a port on which nothing listens."""
    return {f"{service}_PORT": str(free_port()) for service in ("GATEWAY", "CATALOGUE", "USER", "LINKS")}


class Run:
    """A run of the stack: a process in `directory` whose output goes to a file."""

    def __init__(self, directory: Path, environment: dict[str, str]) -> None:
        directory.mkdir(exist_ok=True)
        self.directory = directory
        self._log = directory / f"output-{len(list(directory.glob('output-*')))}"
        self.url = f"http://127.0.0.1:{environment['GATEWAY_PORT']}"
        with self._log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stack"], cwd=directory, env=environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._family: set[psutil.Process] = set()

    @property
    def output(self) -> str:
        """All that it has written."""
        return self._log.read_text()

    def said(self, text: str, *, times: int) -> bool:
        """Whether it has written that, so often at least."""
        return self.output.count(text) >= times

    def wait_ready(self) -> "Run":
        """Wait for the screen."""
        wait_until(lambda: "Ctrl-C stops" in self.output or self.process.poll() is not None, timeout_s=60)
        assert self.process.poll() is None, self.output
        return self

    def children(self) -> list[psutil.Process]:
        """All processes under it."""
        self._family |= set(psutil.Process(self.process.pid).children(recursive=True))
        return list(self._family)

    def left(self) -> list[psutil.Process]:
        """Those of `children` that still run."""
        return [process for process in self._family if process.is_running() and process.status() != "zombie"]

    @property
    def admin_key(self) -> Path:
        """The file with the admin key."""
        return self.directory / ".run" / "admin-key"

    def get(self, path: str) -> Any:
        """What the gateway answers to the admin."""
        request = urllib.request.Request(f"{self.url}{path}", headers={"X-API-Key": self.admin_key.read_text()})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)

    def end(self, signum: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal; return the exit code, at most ten seconds later."""
        self.children()
        self.process.send_signal(signum)
        return self.process.wait(10)


@pytest.fixture
def start_run(servers_directory: Path, tmp_path: Path, environment: dict[str, str]) -> Iterator[Callable[..., Run]]:
    """`start_run(NAME=value)` runs the stack in one directory, in which root's PostgreSQL can be.

    `PYTHONPATH` goes in front of the one that we have.
    """
    directory = servers_directory / f"stack-{tmp_path.name}"
    runs: list[Run] = []

    def start(*, PYTHONPATH: str = "", **variables: str) -> Run:  # noqa: N803 - it is the variable's name
        path = os.pathsep.join(filter(None, [PYTHONPATH, environment["PYTHONPATH"]]))
        runs.append(Run(directory, environment | variables | {"PYTHONPATH": path}))
        return runs[-1]

    yield start
    for run in runs:
        if run.process.poll() is None:
            run.process.terminate()
            run.process.wait(15)
    for server in (PostgresServer, ValkeyServer):
        server(directory / ".run" / server.__name__.lower().removesuffix("server")).destroy()
