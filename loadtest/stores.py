"""The real stores of a measurement: PostgreSQL and Valkey, fresh, in a temporary directory, ended afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
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

    def users_database(self, name: str, *, count: int = _SEEDED_USERS) -> str:
        """The URL of a new database `name` with the user service's schema and `count` users."""
        url = self.postgres.create_database(name)
        _user_db(url, "create")
        _user_db(url, "seed", "--count", str(count))
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute("CHECKPOINT")  # seeding has vacuumed; what is left to write must not be written later
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


def _user_db(url: str, *arguments: str) -> None:
    command = [sys.executable, "-c", "from user.db import main; raise SystemExit(main())", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "DATABASE_URL": url}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise BenchError(f"user-db {' '.join(arguments)} failed:\n{done.stdout}{done.stderr}")
