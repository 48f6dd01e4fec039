"""A whole storefront of real processes to let strangers loose on, and what it has said meanwhile.

The stranger may come from another address of this machine (`SHOPPER`), which is outside of `INTERNAL_NETWORKS`.
"""

from __future__ import annotations

import signal
import uuid
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import psycopg2.extensions

from catalogue import repository
from catalogue.products import PACKAGED, read_file
from chassis.servers import PostgresServer, ValkeyServer
from chassis.settings import load
from chassis.testing import GunicornProcess, free_port, wait_until
from chassis.testing.calls import Answer, call
from chassis.testing.databases import migrate
from chassis.testing.gunicorn import parsed
from gateway import db
from gateway.registry.keys import digest, generate
from gateway.settings import Settings

SERVICES = ("gateway", "catalogue", "user", "links")
OPERATOR, SHOPPER = "127.0.0.1", "127.0.0.2"
"""Where requests come from: inside of INTERNAL_NETWORKS, and outside."""
KEYS: Mapping[str, tuple[str, ...]] = {
    "reader": ("users:read",),
    "clerk": ("users:read", "users:write"),
    "sharer": ("links:write",),
    "other-sharer": ("links:write",),
    "router": ("routes:read", "routes:write"),
}
"""Keys that there are, by name, and their scopes; besides the admin's."""

REDIS_NUMBER = 63
_ENV = {
    "DRAIN_SECONDS": "0",
    "METRICS_SAMPLE_SECONDS": "1",
    "DB_CONNECT_TIMEOUT_MS": "5000",  # a busy test machine is no fault
    "DB_OPERATION_TIMEOUT_MS": "8000",
}
_GATEWAY_ENV = {
    "INTERNAL_NETWORKS": f"{OPERATOR}/32",
    # Thousands of requests come from one address here; of one route the limit is low, for those that try to dodge it.
    "RATE_LIMITS": "address=1000000/min,key=1000000/min,key@links=1000000/min,key@links_page=1000000/min,"
    "address@qr=20/hour,address@failures=1000000/min",
}


class Watch:
    """What the services have written since it was made."""

    def __init__(self, processes: Mapping[str, GunicornProcess]) -> None:
        self._processes = processes
        self._from = {name: len(process.lines) for name, process in processes.items()}

    def lines(self, service: str) -> list[str]:
        """The lines of one service, as they were written."""
        return self._processes[service].lines[self._from[service] :]

    def records(self, service: str) -> list[dict[str, Any]]:
        """The same as dictionaries; what is no JSON object has only `raw`."""
        return [parsed(line) for line in self.lines(service)]

    def requests(self, service: str) -> list[dict[str, Any]]:
        """The request lines alone."""
        return [record for record in self.records(service) if "duration_ms" in record]

    def tracebacks(self) -> list[str]:
        """Lines of any service that hold one."""
        return [
            f"{service}: {line[:2000]}"
            for service in self._processes
            for line in self.lines(service)
            if "Traceback (most recent" in line
        ]

    def server_errors(self, allowed: Collection[int] = ()) -> list[str]:
        """Requests that any service has answered with 5xx, but for `allowed` statuses."""
        return [
            f"{service}: {record['message']} {record['request_id']}"
            for service in self._processes
            for record in self.requests(service)
            if record["status"] >= 500 and record["status"] not in allowed
        ]

    def holding(self, words: Collection[str]) -> list[str]:
        """Lines of any service in which one of `words` stands."""
        return [
            f"{service}: {line[:2000]}"
            for service in self._processes
            for line in self.lines(service)
            if any(word in line for word in words)
        ]


class Stage:
    """What the tests let strangers loose on.

    Attributes:
        processes: `gateway`, `catalogue`, `user` and `links`, each with two workers.
        databases: URLs, by service.
        keys: the texts of `KEYS` and of `admin`.
        secrets: all that must be in no answer and no log.
    """

    def __init__(self, directory: Path, postgres: PostgresServer, valkey: ValkeyServer) -> None:
        self.directory = directory
        self.processes: dict[str, GunicornProcess] = {}
        self.databases = {name: postgres.url_of(f"hostile_{name}") for name in SERVICES}
        self.redis_url = valkey.url_of(REDIS_NUMBER)
        self.keys = {name: generate() for name in (*KEYS, "admin")}
        self.secrets = (*self.keys.values(), postgres.password, valkey.password)
        self._ports = {name: free_port() for name in SERVICES}

    @property
    def gateway(self) -> GunicornProcess:
        """The only one that strangers are meant to reach."""
        return self.processes["gateway"]

    def port(self, service: str) -> int:
        """Where a service listens."""
        return self._ports[service]

    def url(self, service: str) -> str:
        """The same as a URL."""
        return f"http://127.0.0.1:{self._ports[service]}"

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        headers: Mapping[str, str] | None = None,
        service: str = "gateway",
    ) -> Answer:
        """One request to a service, with the key of that name; by default to the gateway, without one."""
        sent = {**({"X-API-Key": self.keys[key]} if key else {}), **(headers or {})}
        return call(self.processes[service], method, path, body, headers=sent)

    def exposition(self, service: str) -> str:
        """Its `/metrics`."""
        return str(self.call("GET", "/metrics", service=service).body)

    def watch(self) -> Watch:
        """From now on."""
        self.settle()
        return Watch(self.processes)

    def settle(self) -> None:
        """Wait until all that has been answered is also logged, by every service: what was written first comes first
        out of the pipe.
        """
        ids = {name: f"settled-{uuid.uuid4().hex}" for name in self.processes}
        for name, request_id in ids.items():
            call(self.processes[name], "GET", "/settled", headers={"X-Request-ID": request_id})
        for name, request_id in ids.items():
            process = self.processes[name]
            wait_until(lambda: any(request_id in line for line in process.lines[-2000:]), what=f"{name}'s log")  # noqa: B023

    def family(self, service: str) -> list[psutil.Process]:
        """Its master and workers."""
        master = psutil.Process(self.processes[service].pid)
        return [master, *master.children(recursive=True)]

    def rss_bytes(self, service: str) -> int:
        """Resident memory of a service, what its processes share counted once for each."""
        return sum(int(process.memory_info().rss) for process in self.family(service))

    def open_files(self, service: str) -> int:
        """File descriptors of all of its processes."""
        return sum(process.num_fds() for process in self.family(service))

    def pids(self) -> dict[str, list[int]]:
        """The workers of every service: others than before, and one has died."""
        return {name: sorted(process.workers) for name, process in self.processes.items()}


@contextmanager
def running(
    directory: Path, postgres: PostgresServer, valkey: ValkeyServer, *, log_level: str = "INFO", **gateway_env: str
) -> Iterator[Stage]:
    """A Stage on databases of its own. `gateway_env` is added to what the gateway has."""
    stage = Stage(directory, postgres, valkey)
    admin_file = directory / "admin-key"
    admin_file.write_text(stage.keys["admin"], encoding="ascii")
    with ExitStack() as stack:
        for name in SERVICES:
            postgres.create_database(f"hostile_{name}")
            stack.callback(postgres.drop_database, f"hostile_{name}")
        urls = {f"{name.upper()}_URL": stage.url(name) for name in SERVICES if name != "gateway"}
        _fill(stage, urls)
        own = {
            "gateway": {
                **_GATEWAY_ENV, **urls, "GATEWAY_ADMIN_KEY_FILE": str(admin_file),
                "GATEWAY_STATE_DIR": str(directory / "state"), **gateway_env,
            },
            "catalogue": {"DATA_SOURCE": "db"},
            "user": {},
            "links": {"PUBLIC_URL": stage.url("gateway"), "QR_DIR": str(directory / "qr")},
        }  # fmt: skip
        for name in SERVICES:
            stores = {"DATABASE_URL": stage.databases[name], "REDIS_URL": stage.redis_url}
            env = {**_ENV, "LOG_LEVEL": log_level, **stores, **own[name], "PORT": str(stage.port(name))}
            module = "asgi" if name == "gateway" else "wsgi"
            process = GunicornProcess(name, directory=directory, env=env, module=module)
            stack.callback(process.stop)
            stage.processes[name] = process
        for process in stage.processes.values():
            process.wait_alive(timeout_s=60)
        wait_until(lambda: stage.call("GET", "/api/products").status == 200, timeout_s=30)
        yield stage
        for process in stage.processes.values():
            process.signal(signal.SIGTERM)  # all at once: each takes two seconds to stop


def _fill(stage: Stage, urls: Mapping[str, str]) -> None:
    """Schemas, the packaged products, routes and keys."""
    for name in ("catalogue", "user", "links"):
        migrate(name, stage.databases[name])
    with (
        closing(psycopg2.connect(stage.databases["catalogue"])) as connection,
        connection,
        connection.cursor() as cursor,
    ):
        for _ in repository.upsert(cursor, read_file(PACKAGED)):
            pass
        repository.move_sequence(cursor)
    settings = load(
        Settings, database_url=stage.databases["gateway"], **{key.lower(): url for key, url in urls.items()}
    )
    db.create(settings)
    with db.registry_of(settings) as registry:
        for name, scopes in KEYS.items():
            registry.add_key(name=name, digest=digest(stage.keys[name]), scopes=scopes, limit=None)
    psycopg2.extensions.set_wait_callback(None)  # what the registry's connections need is nobody else's
