"""A catalogue of two instances behind a gateway is restarted, one instance after the other, and nobody notices."""

from __future__ import annotations

import http.client
import itertools
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from chassis.database import Database
from chassis.metrics import Metrics
from chassis.settings import load
from chassis.testing import GunicornProcess, Meanwhile, free_port, wait_until
from gateway import db
from gateway.registry.repository import Registry
from gateway.settings import Settings

pytestmark = pytest.mark.slow

RESTARTS = 20
CLIENTS = 8


def make_registry(database_url: str, urls: tuple[str, str]) -> None:
    """Two versions of the catalogue that get half of the requests each."""
    db.create(load(Settings, database_url=database_url, catalogue_url=urls[0]))
    metrics = Metrics(service="gateway", version="1", commit="1")
    database = Database(load(Settings, database_url=database_url).db, application="test", metrics=metrics)
    second = {"tenant": "storefront", "service": "catalogue", "env": "prod", "version": "v2", "url": urls[1]}
    Registry(database).create({**second, "active": True, "weight": 100}, actor="test")
    database.close()


class Load(Meanwhile):
    """Clients that ask for products without a pause, half of them on a new connection each time."""

    def __init__(self, port: int) -> None:
        super().__init__(self._visit, threads=CLIENTS)
        self.statuses: Counter[int | str] = Counter()
        self._port = port
        self._numbers = itertools.count()

    def _visit(self, ending: threading.Event) -> None:
        kept = next(self._numbers) % 2 == 0
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=15)
        while not ending.is_set():
            try:
                connection.request("GET", "/api/products/1")
                answer = connection.getresponse()
                body = answer.read()
                self.statuses[answer.status if answer.status == 200 else f"{answer.status} {body.decode()}"] += 1
            except (OSError, http.client.HTTPException) as error:
                self.statuses[type(error).__name__] += 1
                connection.close()
            if not kept:
                connection.close()
        connection.close()


class Instance:
    """One catalogue that comes back on the same port."""

    def __init__(self, directory: Path, **env: str) -> None:
        self.port = str(free_port())
        self.url = f"http://127.0.0.1:{self.port}"
        self._directory = directory
        self._env = env
        self._process = self._start()

    def _start(self) -> GunicornProcess:
        return GunicornProcess(
            "catalogue", directory=self._directory, env={"PORT": self.port, **self._env}
        ).wait_alive()

    def restart(self) -> None:
        """As a deployment does it: SIGTERM, wait for the end, start again, wait until it is alive."""
        assert self._process.stop(timeout_s=20) == 0
        self._process = self._start()

    def stop(self) -> None:
        """End it."""
        self._process.stop()


@pytest.fixture
def instances(tmp_path: Path) -> Iterator[tuple[Instance, Instance]]:
    """Two catalogues with one worker each."""
    made = tuple(Instance(tmp_path, WEB_CONCURRENCY="1", LOG_LEVEL="WARNING") for _ in range(2))
    yield made[0], made[1]
    for instance in made:
        instance.stop()


def test_rolling_restarts_fail_no_request(
    instances: tuple[Instance, Instance], database_url: str, tmp_path: Path
) -> None:
    """Twenty of them under load: every request is answered with 200, without the cache's help."""
    make_registry(database_url, (instances[0].url, instances[1].url))
    env = {
        "DATABASE_URL": database_url, "CATALOGUE_URL": instances[0].url, "CACHE_BYTES": "0", "RATE_LIMITS": "off",
        "LOG_LEVEL": "WARNING",
    }  # fmt: skip
    with (
        GunicornProcess("gateway", directory=tmp_path, env=env, module="asgi") as gateway,
        Load(gateway.port) as clients,
    ):
        # The budget of retries begins empty, in each worker for itself, and the second worker may have come late.
        wait_until(lambda: clients.statuses[200] >= 4000, timeout_s=60, what="4000 answers")
        for number in range(RESTARTS):
            instances[number % 2].restart()
    assert set(clients.statuses) == {200}, f"{clients.statuses}\n{gateway.text()}"
    assert clients.statuses[200] > 50 * RESTARTS
