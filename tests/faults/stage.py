"""The whole storefront, two of each service, with a wire before what can be cut: what all faults are done to.

PostgreSQL, Valkey and Kafka are of its own. The gateway reaches each instance of a service, and everybody reaches
Valkey, through a CutProxy. The two instances of a service are two versions of it in the registry, with equal weights.
"""

from __future__ import annotations

import contextlib
import http.client
import signal
import urllib.request
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import psutil
import redis

from catalogue import db as catalogue_db
from catalogue.products import PACKAGED
from chassis.servers import PostgresServer, ValkeyServer
from chassis.settings import DatabaseSettings, load, parse_database_url
from chassis.testing import CutProxy, GunicornProcess, free_port, wait_until
from chassis.testing.calls import Answer, call
from chassis.testing.databases import migrate, query
from chassis.testing.kafka import KafkaCluster
from gateway import db as gateway_db
from gateway.db import registry_of
from gateway.settings import Settings

ADMIN_KEY = "k" * 40
DEADLINE_S = 2.0
"""Of a request, at the gateway. By default it is 10 s, which would only make every hang longer to watch."""
POOL_SIZE = 8
"""Connections of a worker to PostgreSQL, and as many to Valkey, and so many threads: the defaults."""
MEMBERS = 4
"""Users that are changed. Few, so that changes of one are close together."""
CODES = 20
"""Short links that are followed."""

_COMMON = {"WEB_CONCURRENCY": "1", "METRICS_SAMPLE_SECONDS": "0.5"}
_TWO_OF_EACH = ("catalogue", "user", "links")


class Program:
    """One gunicorn that comes back on the same port, with the same environment.

    Attributes:
        name: `user-2` is the second instance of the user service.
        process: the one that runs now, or ran last.
        starts: how often it was started; who compares it with what it was must know.
        wire: between it and whoever asks it; for the gateway none.
        log_file: where its log goes instead of to `process.lines`.
    """

    process: GunicornProcess

    def __init__(self, service: str, number: int, directory: Path, *, module: str = "wsgi") -> None:
        self.service = service
        self.name = f"{service}-{number}" if number else service
        self.port = free_port()
        self.environment: dict[str, str] = {}
        self.starts = 0
        self.log_file: Path | None = None
        self.wire = CutProxy("127.0.0.1", self.port) if number else None
        self._directory = directory
        self._module = module

    @property
    def url(self) -> str:
        """Where others find it: its wire, if it has one."""
        return f"http://127.0.0.1:{self.wire.port if self.wire else self.port}"

    @property
    def processes(self) -> list[psutil.Process]:
        """gunicorn's master, and its workers. Raises psutil.NoSuchProcess if it does not run."""
        master = psutil.Process(self.process.pid)
        return [master, *master.children(recursive=True)]

    def launch(self) -> None:
        """Start it; `wait_alive` of its process waits. From the main thread: it ends with the one that starts it."""
        environment = {"PORT": str(self.port), **_COMMON, **self.environment}
        self.process = GunicornProcess(
            self.service, directory=self._directory, env=environment, module=self._module, log_file=self.log_file
        )  # fmt: skip
        self.starts += 1

    def start(self) -> None:
        """Start it, and wait until it is alive."""
        self.launch()
        self.process.wait_alive()

    def restart(self, environment: Mapping[str, str] | None = None, *, log_file: Path | None = None) -> None:
        """Stop it in order, and start it with this in its environment besides what it has, for this time."""
        self.process.stop()
        usual, self.log_file = self.environment, log_file
        self.environment = {**usual, **(environment or {})}
        try:
            self.start()
        finally:
            self.environment, self.log_file = usual, None

    def kill(self) -> None:
        """kill -9 to master and workers."""
        for process in self.processes:
            process.kill()
        self.process.wait()

    def close(self) -> None:
        """End it and its wire, whatever state they are in."""
        if self.wire is not None:
            self.wire.close()
        if self.starts:
            with contextlib.suppress(psutil.NoSuchProcess):
                for process in self.processes:
                    process.resume()
            self.process.stop()


class Stage:
    """What tests act on. `running` makes one.

    Attributes:
        gateway: with two workers.
        instances: of each service, by its name.
        redis_wire: between everybody and `redis`.
        databases: URLs, by the name of the service.
        members: ids of users to change; they are the first in the list of users.
        codes: short links to follow.
    """

    members: list[int]
    codes: list[str]

    def __init__(
        self, directory: Path, postgres: PostgresServer, valkey: ValkeyServer, redis_wire: CutProxy, kafka: KafkaCluster
    ) -> None:
        self.directory = directory
        self.postgres = postgres
        self.redis = valkey
        self.redis_wire = redis_wire
        self.kafka = kafka
        self.databases = {name: postgres.create_database(name) for name in ("gateway", *_TWO_OF_EACH)}
        self.gateway = Program("gateway", 0, directory, module="asgi")
        self.instances = {
            name: (Program(name, 1, directory), Program(name, 2, directory)) for name in _TWO_OF_EACH
        }  # fmt: skip

    @property
    def programs(self) -> list[Program]:
        """All of ours, the gateway last."""
        return [*(one for both in self.instances.values() for one in both), self.gateway]

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        """One request to the gateway with the admin's key, on a connection of its own; `X_Name` is the field X-Name."""
        fields = {name.replace("_", "-"): value for name, value in headers.items()}
        return call(self.gateway.process, method, path, body, headers={"X-API-Key": ADMIN_KEY, **fields})

    def query(self, service: str, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """The rows of one statement in the database of a service."""
        return query(self.databases[service], statement, *parameters)

    def exposition(self, program: Program) -> str:
        """Its own `/metrics`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{program.port}/metrics", timeout=5) as answer:
            text: str = answer.read().decode()
        return text

    def ailing(self) -> dict[str, list[str]]:
        """What is not entirely well with each program, as it says itself; nothing, if it is. All are asked at once."""
        with ThreadPoolExecutor(len(self.programs)) as pool:
            found = list(pool.map(lambda program: list(_ailing(program)), self.programs))
        return {program.name: lines for program, lines in zip(self.programs, found, strict=True)}

    def wait_whole(self, *, timeout_s: float = 20.0) -> None:
        """Wait until everything is entirely well, and the gateway leaves nobody alone. Raises TimeoutError."""
        found: list[str] = []

        def is_whole() -> bool:
            found[:] = [f"{name}: {line}" for name, lines in self.ailing().items() for line in lines]
            return not found

        try:
            wait_until(is_whole, timeout_s=timeout_s, interval_s=0.1)
        except TimeoutError:
            raise TimeoutError(f"not whole within {timeout_s:g} s: {'; '.join(found)}") from None

    def end(self) -> None:
        """SIGTERM to all at once; `close` of each waits for it."""
        for program in self.programs:
            if program.starts:
                program.process.signal(signal.SIGTERM)

    def _environments(self) -> None:
        redis_url = self.redis_wire.url_for(self.redis.url)
        for name, both in self.instances.items():
            for one in both:
                one.environment = {"DATABASE_URL": self.databases[name], "REDIS_URL": redis_url}
                if name == "catalogue":
                    one.environment |= {"DATA_SOURCE": "db", "CATALOGUE_MAX_AGE_SECONDS": "1"}
                    del one.environment["REDIS_URL"]
                if name == "links":
                    one.environment |= {
                        "PUBLIC_URL": self.gateway.url, "QR_DIR": str(self.directory / f"qr-{one.name}"),
                        "LINKS_CACHE_TTL_SECONDS": "3600",  # what Redis knows, it knows for as long as a run takes
                    }  # fmt: skip
        (self.directory / "admin-key").write_text(ADMIN_KEY)
        self.gateway.environment = {
            "DATABASE_URL": self.databases["gateway"], "REDIS_URL": redis_url,
            "KAFKA_BOOTSTRAP_SERVERS": self.kafka.servers, "WEB_CONCURRENCY": "2",
            "GATEWAY_STATE_DIR": str(self.directory / "state"),
            "GATEWAY_ADMIN_KEY_FILE": str(self.directory / "admin-key"),
            "REQUEST_TIMEOUT_MS": str(round(DEADLINE_S * 1000)), "RATE_LIMITS": "off", "DRAIN_SECONDS": "1",
            "UPSTREAM_IDLE_S": "1",  # so that what is open soon says what is in use
            **{f"{name.upper()}_URL": both[0].url for name, both in self.instances.items()},
        }  # fmt: skip

    def _make_data(self) -> None:
        for name in ("user", "links"):
            migrate(name, self.databases[name])
        catalogue = DatabaseSettings(**parse_database_url(self.databases["catalogue"]))
        catalogue_db.create(catalogue)
        catalogue_db.import_products(catalogue, PACKAGED)
        urls = {f"{name}_url": both[0].url for name, both in self.instances.items()}
        settings = load(Settings, database_url=self.databases["gateway"], **urls)
        gateway_db.create(settings)
        with registry_of(settings) as registry:
            for name, both in self.instances.items():
                place = {"tenant": "storefront", "service": name, "env": "prod", "version": "v2"}
                registry.create({**place, "url": both[1].url, "active": True, "weight": 100}, actor="test")

    def _populate(self) -> None:
        """Through the gateway, as everybody does."""
        self.members, self.codes = [], [f"known-{number}" for number in range(CODES)]
        for number in range(MEMBERS):
            new = {"username": f"member-{number}", "email": f"member-{number}@example.com"}
            self.members.append(_made(self.ask("POST", "/api/v1/users", new))["id"])
        for code in self.codes:
            _made(self.ask("POST", "/api/v1/links", {"url": f"https://example.com/{code}", "code": code}))
        wait_until(self._are_known, what="Valkey to know where the codes lead")

    def _are_known(self) -> bool:
        """Whether Valkey knows the codes; the first one who follows one lets it know, a moment after it was made."""
        for code in self.codes:
            assert self.ask("GET", f"/s/{code}").status == 302
        with redis.Redis.from_url(self.redis.url) as client:
            found: Any = client.mget([f"{{links}}:to:{code}" for code in self.codes])
        return all(value is not None and value.startswith(b"+") for value in found)


def _made(answer: Answer) -> Mapping[str, Any]:
    assert answer.status == 201, answer.body
    found: Mapping[str, Any] = answer.body
    return found


def _ailing(program: Program) -> Iterator[str]:
    """What is wrong with one program, as it says itself."""
    try:
        ready = call(program.process, "GET", "/health/ready", timeout_s=3)
        if program.service == "gateway" and ready.status == 200:
            yield from _left_alone(program)
    except (OSError, http.client.HTTPException) as error:
        yield type(error).__name__
        return
    if ready.status != 200:
        yield f"/health/ready is {ready.status}"
    for name, check in ready.body["checks"].items() if isinstance(ready.body, dict) else ():
        if check["status"] != "healthy":
            yield f"{name}: {check['message']}"


def _left_alone(gateway: Program) -> list[str]:
    text = str(call(gateway.process, "GET", "/metrics", timeout_s=3).body)
    return [
        line for line in text.splitlines() if line.startswith("gateway_breaker_open{") and not line.endswith(" 0.0")
    ]


@contextmanager
def running(directory: Path) -> Iterator[Stage]:
    """A whole Stage; whoever runs PostgreSQL may go to `directory`."""
    with ExitStack() as stack:
        postgres = PostgresServer(directory / "faults-postgres", durable=True, shelter_root=directory)
        valkey = ValkeyServer(directory / "faults-valkey", durable=False, shelter_root=directory)
        for server in (postgres, valkey):
            stack.callback(server.destroy)
            server.launch()
        for server in (postgres, valkey):
            server.wait_ready()
        kafka = stack.enter_context(closing(KafkaCluster("route-events")))
        wire = stack.enter_context(CutProxy("127.0.0.1", valkey.port))
        own = directory / "faults"
        own.mkdir()
        stage = Stage(own, postgres, valkey, wire, kafka)
        for program in stage.programs:
            stack.callback(program.close)
        stack.callback(stage.end)
        stage._make_data()
        stage._environments()
        for program in stage.programs:
            program.launch()
        for program in stage.programs:
            program.process.wait_alive(timeout_s=60)
        stage._populate()
        stage.wait_whole(timeout_s=60)
        yield stage
