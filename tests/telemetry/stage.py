"""The whole storefront with what watches it: `make run` and `make observe`, in a directory of their own."""

import json
import os
import re
import shutil
import signal
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import confluent_kafka
import psutil

from chassis.children import free_port, signal_group, spawn, wait_until
from chassis.servers import PostgresServer, ValkeyServer
from tests.observability.faster import faster
from tests.observability.queries import OBSERVABILITY
from tests.telemetry import upstream

SETTINGS = {
    "LOG_FORMAT": "json",
    "DATA_SOURCE": "db",
    "METRICS_SAMPLE_SECONDS": "1",
    "CATALOGUE_MAX_AGE_SECONDS": "1",
    "REQUEST_TIMEOUT_MS": "1500",
    "UPSTREAM_MAX_CONNECTIONS": "8",
    "BREAKER_RESET_MS": "200",
    "RATE_LIMITS": "address=100000/min,key=100000/min,address@static=3/min,address@failures=100000/min",
}


class Program:
    """A process of ours whose output goes to a file."""

    def __init__(self, verb: str, directory: Path, environment: Mapping[str, str]) -> None:
        self._file = directory / f"{verb}.log"
        with self._file.open("wb") as log:
            command = [sys.executable, "-m", "stack", verb]
            self.process = spawn(command, env=environment, cwd=directory, stdout=log)

    @property
    def output(self) -> str:
        """All that it has written."""
        return self._file.read_text(errors="replace")

    def wait_ready(self) -> None:
        """Wait for its screen."""
        wait_until(lambda: "Ctrl-C " in self.output or self.process.poll() is not None, timeout_s=60)
        assert self.process.poll() is None, self.output

    def children(self, word: str) -> list[psutil.Process]:
        """The processes under it whose command line has `word`, with all of theirs."""
        found = [child for child in psutil.Process(self.process.pid).children() if word in " ".join(child.cmdline())]
        return [process for child in found for process in (child, *child.children(recursive=True))]

    def end(self) -> None:
        """SIGTERM, and SIGKILL if that does not do."""
        self.process.terminate()
        try:
            self.process.wait(20)
        finally:
            signal_group(self.process, signal.SIGKILL)


class Stage:
    """What the tests look at.

    Attributes:
        ports: of gateway, catalogue, user and links.
        upstream: a service that the registry can lead to.
    """

    def __init__(self, directory: Path, ports: dict[str, int], backend: upstream.Upstream) -> None:
        self.directory = directory
        self.ports = ports
        self.upstream = backend
        self.prometheus_port, self.alertmanager_port = free_port(), free_port()
        self.run: Program
        self.observe: Program

    def query(self, expression: str) -> list[dict[str, Any]]:
        """What Prometheus says now, one dictionary a series with `metric` and `value`; a scalar is one without labels.

        Raises:
            AssertionError: it refuses the expression.
        """
        body = urllib.parse.urlencode({"query": expression}).encode()
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.prometheus_port}/api/v1/query", body) as answer:
                data = json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise AssertionError(f"{expression}: {error.read().decode()}") from None
        result = data["result"]
        return [{"metric": {}, "value": result}] if data["resultType"] == "scalar" else list(result)

    def rules(self) -> list[dict[str, Any]]:
        """Every rule that Prometheus has loaded, as its API describes it."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.prometheus_port}/api/v1/rules") as answer:
            return [rule for group in json.load(answer)["data"]["groups"] for rule in group["rules"]]

    def alerts(self) -> list[dict[str, Any]]:
        """What Alertmanager has."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.alertmanager_port}/api/v2/alerts") as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def value(self, expression: str) -> float:
        """The first value, NaN if there is none."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else float("nan")

    def lines(self, service: str) -> list[dict[str, Any]]:
        """The JSON lines that a service has logged."""
        found = re.findall(rf"(?m)^{service} +\| (\{{.*\}})$", self.run.output)
        return [json.loads(line) for line in found]

    def exposition(self, service: str) -> str:
        """The service's own `/metrics`."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self.ports[service]}/metrics") as answer:
            text: str = answer.read().decode()
        return text

    @property
    def admin_key(self) -> str:
        """The key for everything."""
        return (self.directory / ".run" / "admin-key").read_text()

    def database_url(self, name: str) -> str:
        """The URL of a database of the run."""
        url = (self.directory / ".run" / "config" / "secrets" / "database_url").read_text()
        return url.rpartition("/")[0] + f"/{name}"


@contextmanager
def running(directory: Path) -> Iterator[Stage]:
    """A Stage in `directory`, which is removed; whoever runs PostgreSQL may go there."""
    directory.mkdir()
    for folder in ("prometheus", "alertmanager"):
        for file in (OBSERVABILITY / folder).rglob("*.yml"):
            copy = directory / "observability" / file.relative_to(OBSERVABILITY)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(faster(file.read_text()))
    ports = {service: free_port() for service in ("gateway", "catalogue", "user", "links")}
    # The first client of librdkafka that is told so has brokers of its own; the others find them by their address.
    kafka = confluent_kafka.Producer({"test.mock.num.brokers": 1, "log_level": 0})
    broker = next(iter(kafka.list_topics(timeout=10).brokers.values()))
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        for server in (PostgresServer, ValkeyServer):
            stack.callback(server(directory / ".run" / server.__name__.lower().removesuffix("server")).destroy)
        stage = Stage(directory, ports, stack.enter_context(upstream.running()))
        environment = {
            **{name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ},
            **SETTINGS,
            **{f"{service.upper()}_PORT": str(port) for service, port in ports.items()},
            "PROMETHEUS_PORT": str(stage.prometheus_port),
            "ALERTMANAGER_PORT": str(stage.alertmanager_port),
            "KAFKA_BOOTSTRAP_SERVERS": f"{broker.host}:{broker.port}",
        }
        stage.run = Program("run", directory, environment)
        stack.callback(stage.run.end)
        stage.run.wait_ready()
        stage.observe = Program("observe", directory, environment)
        stack.callback(stage.observe.end)
        stage.observe.wait_ready()
        yield stage
        del kafka
