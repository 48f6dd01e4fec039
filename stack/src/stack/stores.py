"""PostgreSQL and Valkey for the services: our own, or those that the user names."""

from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import psycopg2
from psycopg2 import sql

from chassis.servers import PostgresServer, Server, ServerError, ValkeyServer
from stack.plan import FUNCTION, TOOLS, Plan, StackError


@dataclass(frozen=True)
class Stores:
    """The stores that serve a run. `started` are the servers of our own, to be stopped in that order."""

    started: list[Server]
    database_urls: dict[str, str]
    redis_url: str
    database_place: str
    redis_place: str

    def urls_of(self, service: str) -> dict[str, str]:
        """The variables that lead a service to its stores."""
        database = self.database_urls.get("links" if service == FUNCTION.name else service)
        return {"REDIS_URL": self.redis_url} | ({"DATABASE_URL": database} if database else {})


def start_stores(plan: Plan) -> Stores:
    """Start what the user has not named, and create the databases. Raises StackError; then nothing is left running."""
    postgres = None if plan.given("DATABASE_URL") else PostgresServer(plan.directory / "postgres")
    valkey = None if plan.given("REDIS_URL") else ValkeyServer(plan.directory / "valkey")
    started: list[Server] = [server for server in (postgres, valkey) if server is not None]
    try:
        for server in started:
            server.launch()
        for server in started:
            server.wait_ready()
        if postgres is not None:
            urls = {tool.service: _database(postgres, tool.database) for tool in TOOLS}
        else:
            urls = {tool.service: plan.environment["DATABASE_URL"] for tool in TOOLS}
    except BaseException as error:
        for server in started:
            server.stop(timeout_s=3)
        if isinstance(error, ServerError):
            message, _, details = str(error).partition("\n")
            raise StackError(message, details=details) from error
        if isinstance(error, psycopg2.Error):
            raise StackError(
                f"our PostgreSQL refuses us, {type(error).__name__}: see {plan.directory}/postgres/server.log"
            ) from error
        raise
    return Stores(
        started=started,
        database_urls=urls,
        redis_url=valkey.url if valkey is not None else plan.environment["REDIS_URL"],
        database_place=_place(postgres) or "the server that DATABASE_URL names",
        redis_place=_place(valkey) or "the server that REDIS_URL names",
    )


def is_empty(url: str, table: str) -> bool:
    """True if a table has no row. Raises psycopg2.Error, also if there is no such table."""
    with closing(psycopg2.connect(url, connect_timeout=5)) as connection, connection.cursor() as cursor:
        cursor.execute(sql.SQL("SELECT NOT EXISTS (SELECT FROM {})").format(sql.Identifier(table)))
        return bool((cursor.fetchone() or [False])[0])


def remove_stores(directory: Path) -> None:
    """Remove all data, what root keeps outside `directory` too."""
    for server in (PostgresServer(directory / "postgres"), ValkeyServer(directory / "valkey")):
        server.destroy()


def _database(postgres: PostgresServer, name: str) -> str:
    try:
        return postgres.create_database(name)
    except psycopg2.errors.DuplicateDatabase:
        return postgres.url_of(name)


def _place(server: Server | None) -> str:
    return f"{server.data.resolve()}, port {server.port}" if server is not None else ""
