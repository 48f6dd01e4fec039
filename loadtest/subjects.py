"""What is measured: each subject, how its server is started, how it proves to be what it claims, and the demands.

Every server here has one worker on one core, the same number of threads where it has threads, and its output in a
file. Adding a subject: a `Launch`, an entry in `SUBJECTS`, and a `Comparison` if something is demanded of it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from loadtest import checks
from loadtest.errors import BenchError
from loadtest.machine import Cores
from loadtest.report import Comparison
from loadtest.servers import Launch, RunningServer
from loadtest.stores import Stores

THREADS = "8"
PRODUCTS_PATH = "/api/products"
USERS_PATH = "/api/v1/users?page=3&per_page=50"
_READY_PATH = "/health/live"

COMPARISONS = (
    Comparison(subject="products", reference="bare-wsgi", wanted=0.5),
    Comparison(subject="users-redis", reference="users-unpooled", wanted=10.0),
    Comparison(subject="users-redis", reference="users-fastapi", wanted=1.0),
    Comparison(subject="users-redis", reference="users-pooled", wanted=None),
    Comparison(subject="users-pooled", reference="users-unpooled", wanted=None),
    Comparison(subject="edge", reference="flask-proxy", wanted=2.7),
    Comparison(subject="edge", reference="bare-asgi", wanted=None),
    Comparison(subject="gateway-products", reference="products", wanted=None),
    Comparison(subject="gateway-users", reference="users-redis", wanted=None),
)


def gunicorn(config: str, application: str) -> tuple[str, ...]:
    """The command of a gunicorn with a configuration module."""
    return (sys.executable, "-m", "gunicorn", "-c", f"python:{config}", application)


def service(name: str, *, application: str = "wsgi:app", **env: str) -> Launch:
    """One of our services as it is deployed, but with one worker; `env` beats what is set here."""
    package = name.partition("-")[0]
    return Launch(
        name=name,
        command=gunicorn(f"{package}.gunicorn_conf", f"{package}.{application}"),
        env={"WEB_CONCURRENCY": "1", "THREADS": THREADS, "METRICS_DIR": "{metrics_dir}", "DRAIN_SECONDS": "0", **env},
    )


def peer(name: str, application: str, *, observed: bool = True, alone_on_core: bool = True, **env: str) -> Launch:
    """A peer under `loadtest/baseline` on gunicorn."""
    metrics = {"PROMETHEUS_MULTIPROC_DIR": "{metrics_dir}"} if observed else {}
    return Launch(
        name=name,
        command=gunicorn("loadtest.baseline.gunicorn_conf", f"loadtest.baseline.{application}"),
        env={"WEB_CONCURRENCY": "1", "THREADS": THREADS, **metrics, **env},
        observed=observed,
        alone_on_core=alone_on_core,
    )


class Fleet:
    """The servers of one bench, each started when it is first asked for."""

    def __init__(self, *, stores: Stores, directory: Path, cores: Cores) -> None:
        self.stores = stores
        self._directory = directory
        self._cores = cores
        self._running: dict[str, RunningServer] = {}
        self._users_url: str | None = None

    def run(self, launch: Launch, *, ready: str = _READY_PATH) -> RunningServer:
        """Start a server, or return the one that runs under that name already."""
        server = self._running.get(launch.name)
        if server is None:
            server = RunningServer(launch, directory=self._directory, cores=self._cores)
            self._running[launch.name] = server
            server.wait_ready(ready)
        return server

    @property
    def users_url(self) -> str:
        """The database of 100,000 users, seeded when it is first asked for."""
        if self._users_url is None:
            self._users_url = self.stores.users_database("bench")
        return self._users_url

    def catalogue(self, *, behind_gateway: bool = False) -> RunningServer:
        """The catalogue in JSON mode, with twelve products."""
        return self.run(_beside(service("catalogue", PRODUCTS_FILE=str(self._twelve_products())), behind_gateway))

    def user(self, *, behind_gateway: bool = False) -> RunningServer:
        """The user service with its cache."""
        launch = service("user", DATABASE_URL=self.users_url, REDIS_URL=self.stores.redis_url)
        return self.run(_beside(launch, behind_gateway))

    def upstream(self) -> RunningServer:
        """The bare upstream of both proxies, on the core of the load."""
        launch = peer(
            "upstream",
            "bare_asgi:app",
            observed=False,
            alone_on_core=False,
            WORKER_CLASS="asgi",
            BODY_FILE=str(self.products_body()),
        )
        return self.run(launch)

    def products_body(self) -> Path:
        """A file with what the catalogue answers to `GET /api/products`: the bare servers answer the same bytes."""
        path = self._directory / "products.json"
        if not path.exists():
            path.write_bytes(checks.answer_body(self.catalogue(), PRODUCTS_PATH))
        return path

    def _twelve_products(self) -> Path:
        """A file with the first twelve of the packaged products: the number that the demands are about."""
        path = self._directory / "twelve.json"
        if not path.exists():
            packaged = json.loads(resources.files("catalogue").joinpath("data/products.json").read_bytes())
            path.write_text(json.dumps(packaged[:12]))
        return path

    def gateway(self, name: str, *, catalogue: RunningServer, user: RunningServer) -> RunningServer:
        """A gateway in front of two addresses."""
        launch = service(name, application="asgi:app", CATALOGUE_URL=catalogue.url, USER_URL=user.url)
        return self.run(launch)

    def stop(self) -> None:
        """End every server, the last started first."""
        for server in reversed(self._running.values()):
            server.stop()


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One measured address."""

    name: str
    server: RunningServer
    path: str
    cache_state: str | None = None
    """What `X-Cache` must be; None where the answer has no such header."""

    def check(self) -> None:
        """Raises BenchError unless the server answers, records what it answers, and is in the state it claims."""
        checks.answer_body(self.server, self.path)
        if self.cache_state is not None:
            checks.require_cache_state(self.server, self.path, self.cache_state)
        if self.server.launch.observed:
            checks.require_observed(self.server, self.path)


def _beside(launch: Launch, behind_gateway: bool) -> Launch:
    """The same server on the core of the load when it stands behind the one that is measured."""
    if not behind_gateway:
        return launch
    return Launch(
        name=f"{launch.name}-behind", command=launch.command, env=launch.env, alone_on_core=False, observed=True
    )


def _bare_wsgi(fleet: Fleet) -> Subject:
    launch = peer("bare-wsgi", "bare_wsgi:create_app()", observed=False, BODY_FILE=str(fleet.products_body()))
    return Subject(name="bare-wsgi", server=fleet.run(launch), path=PRODUCTS_PATH)


def _products(fleet: Fleet) -> Subject:
    return Subject(name="products", server=fleet.catalogue(), path=PRODUCTS_PATH)


def _users_redis(fleet: Fleet) -> Subject:
    return Subject(name="users-redis", server=fleet.user(), path=USERS_PATH, cache_state="HIT")


def _users_fastapi(fleet: Fleet) -> Subject:
    launch = Launch(
        name="users-fastapi",
        command=(
            *(sys.executable, "-m", "uvicorn", "--factory", "loadtest.baseline.fastapi_users:create_app"),
            *("--host", "127.0.0.1", "--port", "{port}", "--workers", "1"),
            *("--loop", "uvloop", "--http", "httptools", "--no-access-log", "--log-level", "warning"),
        ),
        env={
            "DATABASE_URL": fleet.users_url,
            "REDIS_URL": fleet.stores.redis_url,
            "PROMETHEUS_MULTIPROC_DIR": "{metrics_dir}",
        },
    )
    subject = Subject(name="users-fastapi", server=fleet.run(launch), path=USERS_PATH, cache_state="HIT")
    _same_answer(fleet, subject)
    return subject


def _users_pooled(fleet: Fleet) -> Subject:
    server = fleet.run(service("user-uncached", DATABASE_URL=fleet.users_url))
    return Subject(name="users-pooled", server=server, path=USERS_PATH, cache_state="BYPASS")


def _users_unpooled(fleet: Fleet) -> Subject:
    launch = peer("users-unpooled", "users_unpooled:create_app()", DATABASE_URL=fleet.users_url)
    subject = Subject(name="users-unpooled", server=fleet.run(launch), path=USERS_PATH)
    _same_answer(fleet, subject)
    return subject


def _same_answer(fleet: Fleet, subject: Subject) -> None:
    ours = checks.answer_body(fleet.user(), USERS_PATH)
    checks.require_same_answer(ours, checks.answer_body(subject.server, USERS_PATH), name=subject.name)


def _bare_asgi(fleet: Fleet) -> Subject:
    launch = peer(
        "bare-asgi", "bare_asgi:app", observed=False, WORKER_CLASS="asgi", BODY_FILE=str(fleet.products_body())
    )
    return Subject(name="bare-asgi", server=fleet.run(launch), path=PRODUCTS_PATH)


def _flask_proxy(fleet: Fleet) -> Subject:
    launch = peer("flask-proxy", "flask_proxy:create_app()", UPSTREAM=fleet.upstream().url)
    return Subject(name="flask-proxy", server=fleet.run(launch), path=PRODUCTS_PATH)


def _edge(fleet: Fleet) -> Subject:
    upstream = fleet.upstream()
    server = fleet.gateway("gateway-edge", catalogue=upstream, user=upstream)
    return Subject(name="edge", server=server, path=PRODUCTS_PATH)


def _gateway(fleet: Fleet) -> RunningServer:
    return fleet.gateway(
        "gateway", catalogue=fleet.catalogue(behind_gateway=True), user=fleet.user(behind_gateway=True)
    )


def _gateway_products(fleet: Fleet) -> Subject:
    return Subject(name="gateway-products", server=_gateway(fleet), path=PRODUCTS_PATH)


def _gateway_users(fleet: Fleet) -> Subject:
    return Subject(name="gateway-users", server=_gateway(fleet), path=USERS_PATH, cache_state="HIT")


SUBJECTS: dict[str, Callable[[Fleet], Subject]] = {
    "bare-wsgi": _bare_wsgi,
    "products": _products,
    "users-redis": _users_redis,
    "users-fastapi": _users_fastapi,
    "users-pooled": _users_pooled,
    "users-unpooled": _users_unpooled,
    "bare-asgi": _bare_asgi,
    "flask-proxy": _flask_proxy,
    "edge": _edge,
    "gateway-products": _gateway_products,
    "gateway-users": _gateway_users,
}


def chosen(only: list[str]) -> tuple[list[str], list[Comparison]]:
    """The names of `only` and of what they are compared with, and those comparisons; all of them if `only` is empty.

    Raises BenchError on an unknown name.
    """
    unknown = sorted(set(only) - set(SUBJECTS))
    if unknown:
        raise BenchError(f"no subject is called {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    if not only:
        return list(SUBJECTS), list(COMPARISONS)
    comparisons = [comparison for comparison in COMPARISONS if comparison.subject in only]
    wanted = {*only, *(comparison.reference for comparison in comparisons)}
    return [name for name in SUBJECTS if name in wanted], comparisons
