"""Traffic of every kind, and every fault that has a metric of its own."""

import http.client
import json
import os
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from typing import Any, NamedTuple

import psutil
import psycopg2
from psycopg2 import sql

from chassis.testing import wait_until
from tests.telemetry.stage import Stage

LINK = {"code": "poster", "url": "https://example.com/a/long/way"}
PLACE = {"tenant": "team-a", "service": "shop", "env": "prod", "version": "v1"}


class Answer(NamedTuple):
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: str


def ask(stage: Stage, path: str, *, method: str = "GET", new: Any = None, **headers: str) -> Answer:
    """One request to the gateway on a connection of its own; `new` is sent as JSON, `X_Name` is the field X-Name."""
    fields = {name.replace("_", "-"): value for name, value in headers.items()}
    body = None if new is None else json.dumps(new)
    if body is not None:
        fields["Content-Type"] = "application/json"
    with closing(http.client.HTTPConnection("127.0.0.1", stage.ports["gateway"], timeout=20)) as connection:
        connection.request(method, path, body, fields)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read().decode(errors="replace"))


def at_once(stage: Stage, paths: Sequence[str], **headers: str) -> list[int]:
    """The statuses of requests that are sent all at the same time."""
    with ThreadPoolExecutor(len(paths)) as pool:
        return [answer.status for answer in pool.map(lambda path: ask(stage, path, **headers), paths)]


def drive(stage: Stage) -> None:
    """All of it. Returns when Prometheus has seen it, and everything is well again."""
    normal = (shop, sign_up, shorten, follow, manage_routes, be_refused)
    for part in (*normal, misbehave, fail, fall_back, follow_without_database, go_without_redis, hang):
        part(stage)
    for path in ("/", "/api/products", "/api/v1/users", "/api/v1/links"):
        wait_until(lambda path=path: ask(stage, path, X_API_Key=stage.admin_key).status == 200)  # type: ignore[misc]


def shop(stage: Stage) -> None:
    """Hits, misses, stale and revalidated answers, 304, 404, 405, pictures, documents."""
    etag = ask(stage, "/api/products").headers["ETag"]
    for number in range(1, 8):
        assert ask(stage, f"/api/products/{number}").status == 200
        assert ask(stage, f"/api/products/{number}").status == 200
    assert ask(stage, "/api/products", If_None_Match=etag).status == 304
    assert ask(stage, "/api/products?q=paper&sort=-price").status == 200

    def stale() -> bool:
        ask(stage, "/api/products")
        return 'gateway_cache_requests_total{result="stale"} 0.0' not in stage.exposition("gateway")

    wait_until(stale)
    at_once(stage, ["/api/products?per_page=7"] * 10)
    for path, status in (("/", 200), ("/api/products/99999", 404), ("/nowhere", 404), ("/docs", 200), ("/health", 200)):
        assert ask(stage, path).status == status
    assert ask(stage, "/api/service-status").status == 200
    assert ask(stage, "/health", method="DELETE").status == 405


def sign_up(stage: Stage) -> None:
    """Accounts are made, refused, changed, listed and deleted."""
    key = stage.admin_key
    new = {"username": "user", "email": "user@example.org"}
    made = ask(stage, "/api/v1/users", method="POST", new=new)
    assert made.status == 201
    for number in range(5):
        another = {"username": f"user-{number}", "email": f"user-{number}@example.org"}
        assert ask(stage, "/api/v1/users", method="POST", new=another).status == 201
        for _ in range(2):
            assert ask(stage, "/api/v1/users?per_page=3", X_API_Key=key).status == 200
    assert ask(stage, "/api/v1/users", method="POST", new=new).status == 409
    assert ask(stage, "/api/v1/users", method="POST", new={}).status in (400, 422)
    address = made.headers["Location"].partition("//")[2].partition("/")[2] or made.headers["Location"].lstrip("/")
    assert ask(stage, f"/{address}", method="PATCH", new={"full_name": "A B"}, X_API_Key=key).status == 200
    assert ask(stage, f"/{address}", X_API_Key=key).status == 200
    assert ask(stage, f"/{address}", method="DELETE", X_API_Key=key).status == 204


def shorten(stage: Stage) -> None:
    """Links are made, refused, switched off and deleted; the page is shown."""
    key, links = stage.admin_key, "/api/v1/links"
    gone, odd = LINK | {"code": "gone"}, {"url": "javascript:alert(1)"}
    for new, status in ((LINK, 201), (LINK, 409), (gone, 201), (odd, 422)):
        assert ask(stage, links, method="POST", new=new, X_API_Key=key).status == status
    assert ask(stage, links, method="POST", new=LINK).status == 401
    assert ask(stage, f"{links}/gone", method="PATCH", new={"disabled": True}, X_API_Key=key).status == 200
    made = json.loads(ask(stage, links, method="POST", new={"url": LINK["url"]}, X_API_Key=key).body)
    assert ask(stage, f"{links}/{made['code']}", method="DELETE", X_API_Key=key).status == 204
    assert ask(stage, "/links").status == 200


def follow(stage: Stage) -> None:
    """People follow links, and scan them; every click is counted."""
    ways = {"poster": 302, "gone": 410, "nowhere": 404}
    for code, status in [*ways.items()] * 3:
        assert ask(stage, f"/s/{code}").status == status
    assert ask(stage, "/s/poster", method="HEAD").status == 302
    assert json.loads(ask(stage, "/api/v1/links/poster", X_API_Key=stage.admin_key).body)["clicks"] == 3
    directory = stage.directory / ".run" / "qr"
    for _ in range(2):
        assert ask(stage, "/qr/poster.svg", Cache_Control="no-cache").status == 200
    directory.rename(directory.with_name("elsewhere"))
    directory.touch()
    try:
        assert ask(stage, "/qr/poster.png").status == 200
    finally:
        directory.unlink()
        directory.with_name("elsewhere").rename(directory)


def manage_routes(stage: Stage) -> None:
    """Each kind of write to the registry, so each kind of event; and reads."""
    key, routes = stage.admin_key, "/api/v1/routes"
    url = {"url": stage.upstream.url}
    assert ask(stage, routes, method="POST", new=PLACE | url, X_API_Key=key).status == 201
    assert ask(stage, routes, method="POST", new=PLACE | url, X_API_Key=key).status == 409
    other = ask(stage, routes, method="POST", new=PLACE | url | {"version": "v2"}, X_API_Key=key)
    number = json.loads(other.body)["id"]
    assert ask(stage, f"{routes}/{number}", method="PATCH", new={"weight": 5}, X_API_Key=key).status == 200
    for verb in ("deactivate", "activate"):
        assert ask(stage, f"{routes}/{verb}", method="POST", new=PLACE | {"version": "v2"}, X_API_Key=key).status == 200
    for path in (f"{routes}/{number}/history", routes, f"{routes}/resolve?tenant=team-a&service=shop&env=prod"):
        assert ask(stage, path, X_API_Key=key).status == 200
    assert ask(stage, f"{routes}/{number}", method="DELETE", X_API_Key=key).status == 204
    wait_until(lambda: at_once(stage, ["/t/team-a/shop/well/"] * 8, X_API_Key=key) == [200] * 8)


def be_refused(stage: Stage) -> None:
    """Without a key, with a wrong one, with two, with one that may not; and too often."""
    assert ask(stage, "/api/v1/users").status == 401
    assert ask(stage, "/api/v1/users", X_API_Key="sf_wrong").status == 401
    assert ask(stage, "/api/v1/users", X_API_Key="a", Authorization="Bearer b").status == 400
    command = [sys.executable, "-c", "from gateway.cli import main; raise SystemExit(main())"]
    command += ["keys", "create", "--name", "reader", "--scope", "users:read"]
    environment = {**os.environ, "CONFIG_DIR": str(stage.directory / ".run" / "config")}
    made = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    key = next(word for word in made.stdout.split() if word.startswith("sf_"))
    wait_until(lambda: at_once(stage, ["/api/v1/routes"] * 8, X_API_Key=key) == [403] * 8)
    assert 429 in [ask(stage, "/static/nothing.svg").status for _ in range(5)]


def misbehave(stage: Stage) -> None:
    """A service that fails once, always, or speaks no HTTP: retries of each outcome."""
    key = stage.admin_key
    for number in range(20):
        ask(stage, f"/t/team-a/shop/well/{number}", X_API_Key=key)  # retries are a share of the traffic
    answers = [ask(stage, f"/t/team-a/shop/flaky/{number}", X_API_Key=key).status for number in range(3)]
    assert 200 in answers
    assert {ask(stage, f"/t/team-a/shop/down/{number}", X_API_Key=key).status for number in range(20)} == {503}
    ask(stage, "/t/team-a/shop/garbage/1", X_API_Key=key)


def fail(stage: Stage) -> None:
    """An error that nobody thought of: a table is not there."""
    url = stage.database_url("users")
    _execute(url, "ALTER TABLE users RENAME TO elsewhere")
    try:
        assert ask(stage, "/api/v1/users/1", X_API_Key=stage.admin_key).status == 500
    finally:
        _execute(url, "ALTER TABLE elsewhere RENAME TO users")


def fall_back(stage: Stage) -> None:
    """The catalogue's database is gone, until Prometheus has seen what that does."""
    with without_database(stage, "catalogue"):
        seen(stage, 'catalogue_data_source{source="json-fallback"} == 1', lambda: ask(stage, "/api/products/2"))
        seen(stage, "catalogue_db_connection_status == 0")
        assert ask(stage, "/api/products?q=dragon").headers["X-Data-Source"] == "json-fallback"
    seen(stage, "catalogue_db_connection_status == 1")


def follow_without_database(stage: Stage) -> None:
    """The database of links is gone: what Redis knows still leads somewhere."""
    assert ask(stage, "/s/poster").status == 302
    with without_database(stage, "links"):
        assert ask(stage, "/s/poster").status == 302
        assert ask(stage, "/s/unheard-of").status == 503

    def all_have_it_again() -> bool:
        """Every worker that has missed it: each says so once, and says once that it is back."""
        ask(stage, f"/s/{uuid.uuid4().hex}")
        said = Counter(line["message"].partition(":")[0] for line in stage.lines("links"))
        return 0 < said["Database is unavailable"] == said["Database is available again"]

    wait_until(all_have_it_again, what="links with a database in every worker")


def go_without_redis(stage: Stage) -> None:
    """It hangs: lists and redirects come from PostgreSQL, and Prometheus sees that they do."""
    with stopped(stage.run.children("valkey-server")):

        def statuses() -> list[int]:
            users = ask(stage, "/api/v1/users?per_page=3", X_API_Key=stage.admin_key)
            return [users.status, ask(stage, "/s/poster").status]

        seen(stage, 'cache_connected{service="user"} == 0 and on () cache_connected{service="links"} == 0', statuses)
        assert statuses() == [200, 302]
        new = PLACE | {"version": "v3", "url": stage.upstream.url, "active": False}
        assert ask(stage, "/api/v1/routes", method="POST", new=new, X_API_Key=stage.admin_key).status == 201
    seen(stage, 'cache_connected{service="user"} == 1 and on () cache_connected{service="links"} == 1')


def hang(stage: Stage) -> None:
    """The user service hangs: time-outs, requests that are shed, and a breaker that Prometheus sees open."""
    key = stage.admin_key
    with stopped(stage.run.children("user.wsgi:app")):
        paths = [f"/api/v1/users/{number}" for number in range(1, 41)]
        seen(stage, 'gateway_breaker_open{upstream="user"} == 1', lambda: at_once(stage, paths, X_API_Key=key))
        assert set(at_once(stage, paths[:4], X_API_Key=key)) <= {503, 504}
    seen(stage, 'gateway_breaker_open{upstream="user"} == 0', lambda: ask(stage, "/api/v1/users/1", X_API_Key=key))


def seen(stage: Stage, expression: str, meanwhile: Callable[[], object] = lambda: None) -> None:
    """Wait until Prometheus says so, and do something before each time that it is asked."""

    def is_true() -> bool:
        meanwhile()
        return bool(stage.query(expression))

    wait_until(is_true, timeout_s=30, interval_s=0.3, what=expression)


@contextmanager
def without_database(stage: Stage, name: str) -> Iterator[None]:
    """Nobody is connected to that database, and nobody can be."""
    url = stage.database_url("postgres")
    _execute(url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")
    try:
        _execute(url, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")
        yield
    finally:
        _execute(url, f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")


@contextmanager
def stopped(processes: list[psutil.Process]) -> Iterator[None]:
    """SIGSTOP and SIGCONT."""
    assert processes
    for process in processes:
        process.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for process in reversed(processes):
            process.send_signal(signal.SIGCONT)


def _execute(url: str, statement: str) -> None:
    with closing(psycopg2.connect(url, connect_timeout=5)) as connection, connection.cursor() as cursor:
        connection.autocommit = True
        cursor.execute(sql.SQL(statement))
