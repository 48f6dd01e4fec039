"""pytest fixtures with real servers: `-p chassis.testing.plugin`.

Each process of a test run (each xdist worker) has one PostgreSQL and one Valkey, started when a test first asks,
in half a second. A test gets a database of its own in them; a test that kills or hangs a server takes a private one.
"""

import fcntl
import os
import shutil
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from itertools import count
from pathlib import Path
from typing import Protocol

import pytest
import redis

from chassis import children
from chassis.servers import PostgresServer, ValkeyServer
from chassis.testing.databases import Sql, query
from chassis.testing.gunicorn import GunicornProcess
from chassis.testing.proxy import CutProxy

_ROOTS = "chassis-tests-"


@pytest.fixture(scope="session")
def servers_directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Where the servers of this process keep their data, removed at the end.

    pytest's own directory is closed to the user as whom root runs PostgreSQL, so root gets another one.
    """
    if os.geteuid() != 0:
        directory = tmp_path_factory.mktemp("servers")
        yield directory
        shutil.rmtree(directory, ignore_errors=True)
        return
    with ExitStack() as stack:
        base = Path(tempfile.gettempdir())
        _sweep(base)
        directory = Path(tempfile.mkdtemp(prefix=_ROOTS, dir=base))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        lock = stack.enter_context((directory / "lock").open("w"))
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        directory.chmod(0o711)
        yield directory


@pytest.fixture(scope="session")
def postgres_server(servers_directory: Path) -> Iterator[PostgresServer]:
    """The PostgreSQL that all tests of this process share. Kill a `private_postgres`, not this one."""
    server = PostgresServer(servers_directory / "postgres", durable=False, shelter_root=servers_directory)
    yield server.start()
    server.destroy()


@pytest.fixture(scope="session")
def valkey_server(servers_directory: Path) -> Iterator[ValkeyServer]:
    """The Valkey that all tests of this process share. Kill a `private_redis`, not this one."""
    server = ValkeyServer(servers_directory / "valkey", durable=False, shelter_root=servers_directory)
    yield server.start()
    server.destroy()


@pytest.fixture(scope="session")
def database_template() -> str | None:
    """The database that `database_url` copies, None for an empty one.

    A service's conftest.py overrides it: create a database in `postgres_server`, migrate it, return its name.
    """
    return None


@pytest.fixture
def database_url(postgres_server: PostgresServer, database_template: str | None) -> Iterator[str]:
    """The URL of a new database, dropped after the test whoever is still connected."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield postgres_server.create_database(name, template=database_template)
    postgres_server.drop_database(name)


@pytest.fixture
def sql(database_url: str) -> Sql:
    """`sql(statement, *parameters)` runs a statement in the test's database and returns its rows."""
    return partial(query, database_url)


@pytest.fixture(scope="session")
def _database_numbers() -> Iterator[int]:
    return count()


@pytest.fixture
def redis_url(valkey_server: ValkeyServer, _database_numbers: Iterator[int]) -> str:
    """The URL of an empty numbered database. The next 63 tests get others, so that a straggler hits none of them."""
    url = valkey_server.url_of(next(_database_numbers) % 64)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture
def private_postgres(servers_directory: Path) -> Iterator[PostgresServer]:
    """A PostgreSQL for this test alone: to kill, pause, stop and start. It keeps its port and its data."""
    server = PostgresServer(servers_directory / _unique("postgres"), durable=False, shelter_root=servers_directory)
    try:
        yield server.start()
    finally:
        server.destroy()


@pytest.fixture
def private_redis(servers_directory: Path) -> Iterator[ValkeyServer]:
    """A Valkey for this test alone: to kill, pause, stop and start. It keeps its port."""
    server = ValkeyServer(servers_directory / _unique("valkey"), durable=False, shelter_root=servers_directory)
    try:
        yield server.start()
    finally:
        server.destroy()


@pytest.fixture
def cut_proxy() -> Iterator[Callable[[str, int], CutProxy]]:
    """`cut_proxy(host, port)` is a CutProxy in front of that server; closed after the test."""
    with ExitStack() as stack:
        yield lambda host, port: stack.enter_context(CutProxy(host, port))


@pytest.fixture
def free_port() -> int:
    """A port of 127.0.0.1 on which nothing listens."""
    return children.free_port()


class StartGunicorn(Protocol):
    """What the fixture `gunicorn` gives."""

    def __call__(self, service: str, *, module: str = "wsgi", wait: bool = True, **env: str) -> GunicornProcess:
        """Start a service with this environment; `wait` for it to be alive."""


@pytest.fixture
def gunicorn(tmp_path: Path) -> Iterator[StartGunicorn]:
    """`gunicorn("user", DATABASE_URL=...)` is that service under gunicorn; stopped after the test."""
    started: list[GunicornProcess] = []

    def start(service: str, *, module: str = "wsgi", wait: bool = True, **env: str) -> GunicornProcess:
        process = GunicornProcess(service, directory=tmp_path, env=env, module=module)
        started.append(process)
        return process.wait_alive() if wait else process

    yield start
    for process in started:
        process.stop()


def _unique(name: str) -> str:
    return f"{name}-{uuid.uuid4().hex[:12]}"


def _sweep(base: Path) -> None:
    """Remove what killed test runs left: directories of ours that no process has locked."""
    for directory in base.glob(f"{_ROOTS}*"):
        if directory.is_symlink() or directory.stat().st_uid != os.geteuid():
            continue
        try:
            with (directory / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
        except (FileNotFoundError, BlockingIOError):  # being made, or in use
            continue
