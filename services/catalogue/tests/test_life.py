"""The catalogue as a process: starting, refusing to start, stopping, and what it needs of memory."""

from __future__ import annotations

import http.client
import signal
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chassis.testing import wait_until
from chassis.testing.gunicorn import GunicornProcess

StartCatalogue = Callable[..., GunicornProcess]
MIB = 1024 * 1024


class Client(threading.Thread):
    """Asks for products on one kept-alive connection, and connects anew when the server closed it in order."""

    def __init__(self, port: int) -> None:
        super().__init__(daemon=True)
        self._port = port
        self.answered = 0
        self.lost: list[str] = []
        self.leaving = threading.Event()

    def run(self) -> None:
        """Ask until `leaving` is set."""
        while not self.leaving.is_set():
            with closing(http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)) as connection:
                self._talk(connection)

    def _talk(self, connection: http.client.HTTPConnection) -> None:
        while not self.leaving.is_set():
            try:
                connection.request("GET", "/api/products")
                response = connection.getresponse()
                body = response.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(type(error).__name__)
                return
            if response.status != 200 or not body.endswith(b"]"):
                self.lost.append(f"{response.status} {body[:80]!r}")
            self.answered += 1
            if response.will_close:
                return


def ready_status(service: GunicornProcess) -> int:
    """The status of /health/ready, 0 if nobody listens."""
    try:
        with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=5)) as connection:
            connection.request("GET", "/health/ready")
            return connection.getresponse().status
    except OSError:
        return 0


def test_sigterm_under_load_loses_no_answer(catalogue: StartCatalogue) -> None:
    """While it drains, readiness is 503 and requests are served; clients that leave then lose nothing; it exits 0."""
    service = catalogue(DRAIN_SECONDS="2")
    assert ready_status(service) == 200
    clients = [Client(service.port) for _ in range(6)]
    for client in clients:
        client.start()
    wait_until(lambda: all(client.answered > 20 for client in clients))
    service.signal(signal.SIGTERM)
    wait_until(lambda: ready_status(service) == 503, timeout_s=1)
    served = [client.answered for client in clients]
    wait_until(lambda: all(now.answered > then + 20 for now, then in zip(clients, served, strict=True)), timeout_s=2)
    for client in clients:  # what a load balancer does once readiness is 503: no new requests
        client.leaving.set()
    for client in clients:
        client.join(5)
    assert [client.lost for client in clients] == [[]] * 6
    assert service.wait() == 0


@pytest.mark.parametrize(
    ("env", "line"),
    [
        ({"DATA_SOURCE": "csv"}, "DATA_SOURCE: got 'csv', want 'json' or 'db'"),
        ({"CATALOGUE_MAX_UNPAGINATED": "0"}, "CATALOGUE_MAX_UNPAGINATED: got '0', want"),
        ({"THREADS": "many"}, "THREADS: got 'many', want"),
        ({"PRODUCTS_FILE": "/nowhere.json"}, "PRODUCTS_FILE: got '/nowhere.json', want a readable file"),
    ],
)
def test_a_bad_setting_stops_the_boot_with_one_line(catalogue: StartCatalogue, env: dict[str, str], line: str) -> None:
    """The line names the variable, what it got and what it wants; there is no traceback."""
    service = catalogue(wait=False, **env)
    assert service.wait() != 0
    assert [found for found in service.lines if line in found], service.text()
    assert "Traceback" not in service.text()
    assert len(service.lines) == 1


@pytest.mark.parametrize(
    ("content", "wants"),
    [
        (b"{", "JSON ("),
        ({"id": 1}, "a JSON array of products"),
        ([{"id": 1}], "product 1 (id 1), name: Field required"),
        ([{"id": 1, "name": "A"}, {"id": 1, "name": "B"}], "an id of its own for product 2 (id 1)"),
        ([{"id": 1, "name": "A"}, {"id": 0, "name": "B"}], "product 2 (id 0), id: "),
        ([{"id": "1", "name": "A"}], "product 1, id: "),
        (
            [{"id": 1, "name": "A", "price": {"amount": 1.5, "currency": "EUR"}}],
            'price.amount: a string such as "12.50"',
        ),
        ([{"id": 1, "name": "A", "price": {"amount": "-1", "currency": "EUR"}}], "price.amount: "),
        ([{"id": 1, "name": "A", "price": {"amount": "1.505", "currency": "EUR"}}], "price.amount: "),
        ([{"id": 1, "name": "A", "price": {"amount": "1", "currency": "euro"}}], "price.currency: "),
        ([{"id": 1, "name": "A\0B"}], "name: must not contain the NUL"),
        ([{"id": 1, "name": "A", "stock": -1}], "stock: "),
        ([{"id": 1, "name": "A", "created_at": "2025-01-01T00:00:00"}], "created_at: a time with its UTC offset"),
        ([{"id": 1, "name": "A", "colour": "red"}], "colour: "),
        (["crane"], "product 1, all of it: "),
    ],
)
def test_a_bad_file_of_products_stops_the_boot(products_file: Callable[[Any], Path], content: Any, wants: str) -> None:
    """One line that names the file, the product and the field."""
    from catalogue.settings import Settings
    from chassis.settings import SettingsError, load

    path = products_file(content)
    with pytest.raises(SettingsError) as caught:
        load(Settings, products_file=path)
    message = str(caught.value)
    assert message.startswith(f"PRODUCTS_FILE: got {str(path)!r}, want ") or str(path) in message
    assert wants in message
    assert "\n" not in message


def test_a_file_of_the_former_catalogue_will_do(products_file: Callable[[Any], Path]) -> None:
    """Products with nothing but id, name, description and picture get the defaults that the table has."""
    from catalogue.products import as_dict, read_file

    path = products_file([{"id": 3, "name": "Crane", "description": "Folded", "image_url": "/a.png"}])
    (product,) = map(as_dict, read_file(path))
    assert product["price"] == {"amount": "0.00", "currency": "EUR"}
    assert (product["category"], product["tags"], product["stock"]) == ("other", [], 0)


def test_configuration_files(catalogue: StartCatalogue, tmp_path: Path) -> None:
    """The seed's layout: environment over secret files over mounted config files over config.json."""
    for name, text in {
        "config.json": '{"app_version": "2.0.0", "data_source": "db", "db_host": "127.0.0.9", "db_name": "a"}',
        "db-config/db-config.properties": "db_name=b\ndb_host=127.0.0.8\n",
        "secrets/db_user": "someone\n",
        "secrets/db_password": "secret-word\n",
        "secrets/db_host": "127.0.0.1\n",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    from catalogue.settings import Settings

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CONFIG_DIR", str(tmp_path))
        patch.setenv("APP_VERSION", "3.0.0")
        settings = Settings()
    assert (settings.app_version, settings.data_source) == ("3.0.0", "db")
    assert (settings.db.host, settings.db.name, settings.db.user) == ("127.0.0.1", "b", "someone")
    assert settings.db.password is not None
    assert settings.db.password.get_secret_value() == "secret-word"
    service = catalogue(CONFIG_DIR=str(tmp_path), DB_PORT="9")
    assert ready_status(service) == 200
    assert "secret-word" not in service.text()


def test_debug_mode_needs_flask_env(make_app: Callable[..., Any]) -> None:
    """`FLASK_ENV=development` is the only way to it."""
    assert not make_app(LOG_LEVEL="DEBUG").debug
    assert make_app(FLASK_ENV="development").debug


@pytest.mark.slow
def test_two_workers_fit_into_128_mib(catalogue: StartCatalogue) -> None:
    """In JSON mode, master and two workers, after requests of many kinds; counted as a container counts."""
    service = catalogue(LOG_LEVEL="ERROR")
    with closing(http.client.HTTPConnection("127.0.0.1", service.port, timeout=10)) as connection:
        for number in range(20_000):
            connection.request("GET", f"/api/products?q=paper&page={number % 5000 + 1}" if number % 4 else "/")
            connection.getresponse().read()
        connection.request("GET", "/metrics")
        text = connection.getresponse().read().decode()
    resident = next(line for line in text.splitlines() if line.startswith("process_resident_memory_bytes "))
    assert float(resident.split()[1]) / MIB < 128
