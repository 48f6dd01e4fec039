"""The real stores of a measurement: PostgreSQL and Valkey, fresh, in a temporary directory, ended afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psycopg2

from chassis.servers import PostgresServer, ValkeyServer
from loadtest.errors import BenchError
from loadtest.servers import ROOT

_SEEDED_USERS = 100_000


@dataclass(frozen=True, kw_only=True)
class Stores:
    """Where the stores are."""

    postgres: PostgresServer
    redis_url: str
    _users: dict[str, str] = field(default_factory=dict)

    def users_database(self, name: str, *, count: int = _SEEDED_USERS) -> str:
        """The URL of the database `name`, which is made now if it was not before: with the user service's schema and
        `count` users.
        """
        if name in self._users:
            return self._users[name]
        url = self._users[name] = self.postgres.create_database(name)
        _tool("user", url, "create")
        _tool("user", url, "seed", "--count", str(count))
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("CHECKPOINT")  # seeding has vacuumed; what is left to write must not be written later
        return url

    def links_database(self, name: str, *, code: str, leads_to: str) -> str:
        """The URL of a new database `name` with the schema of the links service and one link."""
        url = self.postgres.create_database(name)
        _tool("links", url, "create")
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("INSERT INTO links (code, url) VALUES (%s, %s)", (code, leads_to))
        return url

    def empty_users_database(self, name: str) -> str:
        """The URL of a new database `name` with the user service's schema alone."""
        url = self.postgres.create_database(name)
        _tool("user", url, "create")
        return url

    def registry_database(self, name: str, **env: str) -> str:
        """The URL of a new database `name` with the gateway's schema and the routes that `env` makes (`*_URL`)."""
        url = self.postgres.create_database(name)
        _tool("gateway", url, "create", **env)
        return url


@contextmanager
def running_stores(directory: Path) -> Iterator[Stores]:
    """Start both under `directory`, and remove both at the end whatever happens."""
    with ExitStack() as stack:
        postgres = PostgresServer(directory / "postgres")
        stack.callback(postgres.destroy)
        valkey = ValkeyServer(directory / "valkey")
        stack.callback(valkey.destroy)
        yield Stores(postgres=postgres.start(), redis_url=valkey.start().url)


def _tool(service: str, url: str, *arguments: str, **env: str) -> None:
    """Run `<service>-db`. Raises BenchError if it fails."""
    command = [sys.executable, "-c", f"from {service}.db import main; raise SystemExit(main())", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **env, "DATABASE_URL": url}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"{service}-db {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
