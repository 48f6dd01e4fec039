"""The database dies, is killed, hangs, is not there at all: products are answered, and quickly. Real servers only."""

from __future__ import annotations

import http.client
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any, NamedTuple

import orjson
import psycopg2
import pytest

from catalogue.products import PACKAGED, read_file
from chassis.servers import PostgresServer
from chassis.testing import wait_until
from chassis.testing.gunicorn import GunicornProcess
from chassis.testing.proxy import CutProxy

LIMIT_S = 0.25
"""No request takes longer because the database is dead or hung (contract, section 3)."""

BUSY_MACHINE_S = 0.4
"""What a test machine with every core busy may add; without our limits it would be seconds."""

RECOVERY_S = 5.0
StartCatalogue = Callable[..., GunicornProcess]


class Answer(NamedTuple):
    """Status, source, parsed body and how long it may be kept, of one request."""

    status: int
    source: str | None
    body: Any
    cache_control: str | None


def get(service: GunicornProcess, path: str = "/api/products") -> Answer:
    """One request on a connection of its own."""
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)) as connection:
        connection.request("GET", path)
        response = connection.getresponse()
        data = response.read()
    return Answer(
        response.status,
        response.headers["X-Data-Source"],
        orjson.loads(data) if response.headers.get_content_subtype().endswith("json") else data.decode(),
        response.headers["Cache-Control"],
    )


def gauge(service: GunicornProcess, name: str) -> float:
    """The value of a metric now; `name` with its labels."""
    answer = get(service, "/metrics")
    assert answer.status == 200, service.text()
    lines = answer.body.splitlines()
    return float(next(line for line in lines if line.startswith(f"{name} ")).rpartition(" ")[2])


def all_workers_read_from(service: GunicornProcess, source: str) -> bool:
    """Whether that is the only source that any worker reads from."""
    return all(
        gauge(service, f'catalogue_data_source{{source="{each}"}}') == (each == source)
        for each in ("json", "db", "json-fallback")
    )


def logged(service: GunicornProcess, message: str) -> list[str]:
    """The levels at which exactly `message` was logged, in order."""
    return [line["level"] for line in service.logs if line.get("message") == message]


def slowest_s(service: GunicornProcess) -> float:
    """The longest that any request for products took by the service's own clock, seconds."""
    routes = ("get_products", "get_product", "home")

    def durations_ms() -> list[float]:
        return [line["duration_ms"] for line in service.logs if line.get("route") in routes]

    return max(wait_until(durations_ms)) / 1000


def both_workers_began_with_the_database(service: GunicornProcess) -> bool:
    """Whether both workers are up and read from the database."""
    return len(logged(service, "Using database as data source")) == 2 and all_workers_read_from(service, "db")


@pytest.fixture
def postgres(private_postgres: PostgresServer) -> PostgresServer:
    """A PostgreSQL of this test's own with the catalogue's schema and the packaged products, one renamed."""
    # Imported late: conftest.py of another folder may be the module of that name.
    from catalogue.db import create, import_products
    from catalogue.settings import CatalogueDatabaseSettings
    from chassis.settings import parse_database_url

    settings = CatalogueDatabaseSettings(**parse_database_url(private_postgres.url))
    create(settings)
    import_products(settings, PACKAGED)
    with closing(psycopg2.connect(private_postgres.url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("UPDATE products SET name = 'From the database' WHERE id = 1")
    return private_postgres


@pytest.fixture
def service(catalogue: StartCatalogue, postgres: PostgresServer) -> GunicornProcess:
    """The catalogue with two workers, both reading from that database."""
    started = catalogue(DATA_SOURCE="db", DATABASE_URL=postgres.url)
    wait_until(lambda: both_workers_began_with_the_database(started))
    assert get(started).body[0]["name"] == "From the database"
    return started


def assert_fallen_back(service: GunicornProcess, error: str) -> None:
    """Everything that the contract says of a catalogue without its database."""
    wait_until(lambda: all_workers_read_from(service, "json-fallback"))
    for path in ("/api/products", "/api/products?sort=-price", "/api/products/1", "/"):
        answer = get(service, path)
        assert (answer.status, answer.source) == (200, "json-fallback")
        assert answer.cache_control == "public, max-age=1"
    assert get(service).body[0]["name"] == read_file(PACKAGED)[0].name
    assert get(service, "/api/products/999").status == 404
    assert gauge(service, "catalogue_db_connection_status") == 0
    # Once in each of the two workers; which exception it was that came first is a matter of luck.
    wait_until(lambda: len(logged(service, "Falling back to JSON data source")) == 2)
    errors = [line for line in service.logs if "Database error: " in str(line.get("message"))]
    assert [line["level"] for line in errors] == ["ERROR"] * 2
    assert {line["message"].split()[-1] for line in errors} <= {
        "OperationalError",
        "AdminShutdown",
        "DatabaseUnavailable",
    }
    assert logged(service, "Falling back to JSON data source") == ["INFO"] * 2
    wait_until(lambda: get(service, "/health").body["status"] == "degraded")
    health = get(service, "/health")
    assert (health.status, health.body["database"]) == (200, "disconnected")
    assert health.body["error"] == error
    ready = get(service, "/health/ready")
    assert (ready.status, ready.body["checks"]["database"]["status"]) == (200, "unhealthy")


def assert_recovers(service: GunicornProcess, since_s: float) -> None:
    """Back to the database within 5 s of its return (monotonic `since_s`), with no restart, said once per worker."""
    workers = service.workers
    wait_until(
        lambda: all_workers_read_from(service, "db"),
        timeout_s=since_s + RECOVERY_S - time.monotonic(),
        what="both workers reading from the database again",
    )
    assert get(service).source == "db"
    assert get(service).body[0]["name"] == "From the database"
    assert gauge(service, "catalogue_db_connection_status") == 1
    assert logged(service, "Using database as data source") == ["INFO"] * 4  # at the start, and now
    wait_until(lambda: get(service, "/health").body["status"] == "healthy")
    assert service.workers == workers


class Load:
    """Requests without a pause on several connections, from `__enter__` to `__exit__`."""

    def __init__(self, service: GunicornProcess, clients: int = 4) -> None:
        self._service = service
        self._stop = False
        self._executor = ThreadPoolExecutor(clients)
        self._clients = clients
        self.answers: list[Answer] = []

    def __enter__(self) -> Load:
        self._futures = [self._executor.submit(self._run) for _ in range(self._clients)]
        wait_until(lambda: self.answers)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stop = True
        for future in self._futures:
            future.result(20)
        self._executor.shutdown()

    def _run(self) -> None:
        while not self._stop:
            self.answers.append(get(self._service))


@pytest.fixture
def fault(postgres: PostgresServer, request: pytest.FixtureRequest) -> Iterator[tuple[Callable[[], None], ...]]:
    """What breaks the database, and what mends it."""
    kind = request.param
    if kind == "killed":
        yield postgres.kill, lambda: (postgres.start(), None)[1]
    elif kind == "stopped":
        yield postgres.stop, lambda: (postgres.start(), None)[1]
    else:
        yield postgres.pause, postgres.resume
        postgres.resume()


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        pytest.param("killed", "OperationalError", marks=pytest.mark.slow),
        pytest.param("stopped", "OperationalError", marks=pytest.mark.slow),
        ("hung", "TimeoutError"),
    ],
    indirect=["fault"],
)
def test_a_lost_database_costs_little_and_comes_back(
    service: GunicornProcess, fault: tuple[Callable[[], None], Callable[[], None]], error: str
) -> None:
    """Under load: every answer is 200, none takes longer than 250 ms, the first included; and back it goes alone."""
    break_it, mend_it = fault
    with Load(service) as load:
        before = len(load.answers)
        break_it()
        wait_until(lambda: load.answers[-1].source == "json-fallback")
        assert_fallen_back(service, error)
        mend_it()
        assert_recovers(service, time.monotonic())
    answers = load.answers[before:]
    assert {answer.status for answer in answers} == {200}
    assert {answer.source for answer in answers} == {"db", "json-fallback"}
    assert slowest_s(service) < LIMIT_S + BUSY_MACHINE_S


@pytest.mark.slow
def test_a_wire_that_swallows_everything(
    catalogue: StartCatalogue, postgres: PostgresServer, cut_proxy: Callable[[str, int], CutProxy]
) -> None:
    """A network that neither answers nor refuses is as good as a hung server, for old and for new connections."""
    proxy = cut_proxy("127.0.0.1", postgres.port)
    service = catalogue(DATA_SOURCE="db", DATABASE_URL=proxy.url_for(postgres.url))
    wait_until(lambda: both_workers_began_with_the_database(service))
    proxy.hang()
    answers = [get(service) for _ in range(20)]
    assert {answer.status for answer in answers} == {200}
    assert slowest_s(service) < LIMIT_S + BUSY_MACHINE_S
    assert_fallen_back(service, "TimeoutError")
    proxy.heal()
    assert_recovers(service, time.monotonic())


def test_one_stuck_connection_is_no_lost_database(catalogue: StartCatalogue, postgres: PostgresServer) -> None:
    """The request that meets it is answered from the file; all others, and the state, stay with the database."""
    service = catalogue(DATA_SOURCE="db", DATABASE_URL=postgres.url, WEB_CONCURRENCY="1")
    wait_until(lambda: all_workers_read_from(service, "db"))
    with Load(service) as load, closing(psycopg2.connect(postgres.url)) as connection, connection.cursor() as cursor:
        wait_until(lambda: len(load.answers) > 50)
        cursor.execute("SELECT pid FROM pg_stat_activity WHERE application_name = 'catalogue' LIMIT 1")
        pid = cursor.fetchall()[0][0]
        os.kill(pid, signal.SIGSTOP)
        try:
            wait_until(lambda: gauge(service, "catalogue_fallback_answers_total") >= 1)
        finally:
            os.kill(pid, signal.SIGCONT)
    assert {answer.status for answer in load.answers} == {200}
    assert slowest_s(service) < LIMIT_S + BUSY_MACHINE_S
    assert all_workers_read_from(service, "db")
    assert logged(service, "Falling back to JSON data source") == []


def test_a_locked_table_is_as_good_as_lost(service: GunicornProcess, postgres: PostgresServer) -> None:
    """The server is well but the products cannot be read: the file answers until they can."""
    with closing(psycopg2.connect(postgres.url)) as connection, connection.cursor() as cursor:
        cursor.execute("LOCK TABLE products IN ACCESS EXCLUSIVE MODE")
        answers = [get(service) for _ in range(5)]
        assert [(answer.status, answer.source) for answer in answers] == [(200, "json-fallback")] * 5
        wait_until(lambda: all_workers_read_from(service, "json-fallback"))
        wait_until(lambda: get(service, "/health").body["status"] == "degraded")
    assert slowest_s(service) < LIMIT_S + BUSY_MACHINE_S
    assert_recovers(service, time.monotonic())


def test_no_database_at_the_start(catalogue: StartCatalogue, postgres: PostgresServer) -> None:
    """The service starts at once, answers the first request from the file, and finds the database when it comes."""
    postgres.stop()
    began_s = time.monotonic()
    service = catalogue(DATA_SOURCE="db", DATABASE_URL=postgres.url)
    first = get(service)
    assert time.monotonic() - began_s < 10
    assert (first.status, first.source) == (200, "json-fallback")
    assert slowest_s(service) < LIMIT_S + BUSY_MACHINE_S
    assert_fallen_back(service, "OperationalError")
    postgres.start()
    wait_until(lambda: all_workers_read_from(service, "db"), timeout_s=RECOVERY_S)
    assert get(service).body[0]["name"] == "From the database"


def test_a_database_without_the_table(catalogue: StartCatalogue, private_postgres: PostgresServer) -> None:
    """Not migrated yet: the file answers, `/health` says that something is wrong, and a migration mends it."""
    from catalogue.db import create
    from catalogue.settings import CatalogueDatabaseSettings
    from chassis.settings import parse_database_url

    service = catalogue(DATA_SOURCE="db", DATABASE_URL=private_postgres.url)
    assert get(service).source == "json-fallback"
    wait_until(lambda: all_workers_read_from(service, "json-fallback"))
    health = get(service, "/health")
    assert (health.status, health.body["status"], health.body["database"]) == (200, "degraded", "connected")
    assert health.body["error"] == "UndefinedTable"
    wait_until(lambda: logged(service, "Database error: UndefinedTable") == ["ERROR"] * 2)
    create(CatalogueDatabaseSettings(**parse_database_url(private_postgres.url)))
    wait_until(lambda: all_workers_read_from(service, "db"), timeout_s=RECOVERY_S)
    assert get(service).body == []


def test_a_client_in_a_hurry_changes_nothing_for_others(service: GunicornProcess) -> None:
    """A request whose own deadline is too short is 504, and the database goes on being used."""
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)) as connection:
        for _ in range(20):
            connection.request("GET", "/api/products", headers={"X-Request-Timeout-Ms": "0"})
            response = connection.getresponse()
            response.read()
            assert response.status == 504
    assert get(service).source == "db"
    assert logged(service, "Falling back to JSON data source") == []


def test_nothing_secret_is_logged(service: GunicornProcess, postgres: PostgresServer) -> None:
    """Not the password, and no text of the driver, whatever happens."""
    postgres.kill()
    wait_until(lambda: all_workers_read_from(service, "json-fallback"))
    get(service, "/health")
    assert postgres.password
    assert postgres.password not in service.text()
    assert "Connection refused" not in service.text()
