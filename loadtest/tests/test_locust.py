"""locust itself, as `make load` starts it, on the storefront itself, as `make run` does.

locust runs in processes of its own: it patches sockets and threads. Its runs here have few visitors and few seconds,
and limits of times that no machine breaks: that requests are counted, checked and judged is what is tested, no speed.
"""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from chassis.children import free_port, signal_group, spawn, wait_until
from chassis.servers import PostgresServer, ValkeyServer
from loadtest.endpoints import Endpoint
from loadtest.shapes import SHAPES

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
LOCUST = [str(Path(sys.executable).with_name("locust")), "--config", "loadtest/locust.conf"]
BROWSING = (Endpoint.HOME, Endpoint.PRODUCTS)
"""What every visitor of the class Shopper asks first."""


def locust(*words: str, timeout_s: float = 120, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run locust to its end. Returns its exit code and all that it wrote."""
    return subprocess.run(
        [*LOCUST, *words], cwd=ROOT, env={**os.environ, **variables}, text=True, timeout=timeout_s, check=False,
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip


@dataclass
class Storefront:
    """A running one."""

    url: str
    key_file: Path

    @property
    def words(self) -> list[str]:
        """What locust is told about it."""
        return ["--headless", "--host", self.url, "--key-file", str(self.key_file)]

    def get(self, path: str) -> Any:
        """What the gateway answers to the admin."""
        request = urllib.request.Request(f"{self.url}{path}", headers={"X-API-Key": self.key_file.read_text()})
        with urllib.request.urlopen(request) as answer:
            return json.load(answer)


@contextmanager
def run_stack(directory: Path, environment: dict[str, str]) -> Iterator[None]:
    """`make run` in a directory, from its screen to its end; what it wrote is in `output` there."""
    with (directory / "output").open("wb") as log:
        process = spawn([sys.executable, "-m", "stack"], env=environment, cwd=directory, stdout=log)
    try:
        wait_until(
            lambda: b"Ctrl-C stops" in (directory / "output").read_bytes() or process.poll() is not None, timeout_s=120
        )
        assert process.poll() is None, (directory / "output").read_text()
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        finally:
            signal_group(process, signal.SIGKILL)
        for server in (PostgresServer, ValkeyServer):
            server(directory / ".run" / server.__name__.lower().removesuffix("server")).destroy()


@pytest.fixture(scope="module")
def storefront(servers_directory: Path) -> Iterator[Storefront]:
    """`make run`, on ports and in a directory of its own."""
    directory = servers_directory / "load"
    directory.mkdir()
    ports = {name: free_port() for name in ("GATEWAY", "CATALOGUE", "USER", "LINKS")}
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME", "PYTHONPATH") if name in os.environ},
        **{f"{name}_PORT": str(port) for name, port in ports.items()},
    }
    with run_stack(directory, environment):
        yield Storefront(f"http://127.0.0.1:{ports['GATEWAY']}", directory / ".run" / "admin-key")


def limits(file: Path, *, endpoints: tuple[Endpoint, ...], error_rate: float = 0, p95_ms: float = 1e6) -> str:
    """Write an slo.yml with these limits for each; its name."""
    each = {"p95_ms": p95_ms, "p99_ms": 1e6, "error_rate": error_rate, "per_second": 0}
    file.write_text(yaml.safe_dump({"all": each, "endpoints": {str(name): each for name in endpoints}}))
    return str(file)


def test_a_run_that_holds(storefront: Storefront, tmp_path: Path) -> None:
    """Exit code 0, and nothing has failed: every answer was what the scenarios expect, 304 without a body among them.
    The statistics have the known names and no others, whatever ids the URLs had; the reports are written; each
    journey is seen; and what visitors have made is gone afterwards.
    """
    report = tmp_path / "made" / "load"
    # Long enough for every journey to come to its end once, on a slow machine too.
    done = locust(
        *storefront.words, "--shape", "smoke", "--users", "40", "--run-time", "25s", "--seed", "1",
        "--slo", limits(tmp_path / "slo.yml", endpoints=tuple(Endpoint)),
        "--csv", str(report), "--html", f"{report}.html", "--json-file", str(report),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    assert "smoke: up to 40 users for 25 s" in done.stdout
    assert re.search(r"(?m)^ +\d+ s +\d+ users +[\d.]+ requests/s  p50 .* 0 failed$", done.stdout)
    assert re.search(r"all \d+ limits hold$", done.stdout.strip())
    entries = json.loads(report.with_suffix(".json").read_text())
    assert {f"{entry['method']} {entry['name']}" for entry in entries} == set(Endpoint)
    assert sum(entry["num_failures"] for entry in entries) == 0
    with Path(f"{report}_stats.csv").open() as file:
        assert len(list(csv.DictReader(file))) == len(Endpoint) + 1
    assert "<html" in Path(f"{report}.html").read_text()
    assert storefront.get("/api/v1/routes?tenant=load-test")["total"] == 0
    assert storefront.get("/api/v1/links")["links"] == []
    assert storefront.get("/api/v1/users")["total"] == 1000


def test_a_limit_that_cannot_hold(storefront: Storefront, tmp_path: Path) -> None:
    """Exit code 1; the table and the last lines name the limit. The same limits break nothing in a shape that is there
    to go beyond them.
    """
    slo = limits(tmp_path / "slo.yml", endpoints=BROWSING, p95_ms=0)
    words = [*storefront.words, "--users", "5", "--run-time", "6s", "--slo", slo, "Shopper"]
    done = locust("--shape", "smoke", *words)
    assert done.returncode == 1, done.stdout
    assert re.search(r"(?m)^GET /api/products  p95 <= 0 ms +\d+ ms  NO$", done.stdout)
    assert "3 of 12 limits are BROKEN:" in done.stdout
    done = locust("--shape", "stress", *words)
    assert done.returncode == 0, done.stdout
    assert "stress goes beyond the limits" in done.stdout


def test_what_nobody_asks_is_broken(storefront: Storefront, tmp_path: Path) -> None:
    """Without the visitors who ask for it, an endpoint of slo.yml breaks the run."""
    slo = limits(tmp_path / "slo.yml", endpoints=(*BROWSING, Endpoint.SHORTEN))
    done = locust(*storefront.words, "-u", "5", "-r", "5", "-t", "5s", "--slo", slo, "Shopper")
    assert done.returncode == 1, done.stdout
    assert re.search(r"POST /api/v1/links +is asked +never +NO", done.stdout)


def test_tags_choose_what_is_done(storefront: Storefront, tmp_path: Path) -> None:
    """Visitors who have nothing to do stay away, and nothing else is asked; tags that nobody has are a mistake."""
    slo = limits(tmp_path / "slo.yml", endpoints=(Endpoint.USERS,))
    report = tmp_path / "load"
    words = [*storefront.words, "-u", "4", "-r", "4", "-t", "5s", "--slo", slo, "--json-file", str(report)]
    done = locust(*words, "--tags", "pages")
    assert done.returncode == 0, done.stdout
    assert [entry["name"] for entry in json.loads(report.with_suffix(".json").read_text())] == [Endpoint.USERS.label]
    done = locust(*words, "--tags", "page")
    assert (done.returncode, done.stdout.count("\n")) == (2, 1)


def test_a_wrong_answer_is_a_failure(storefront: Storefront, tmp_path: Path) -> None:
    """A key that is good for nothing makes links fail: they are counted, shown with their status, and break the run."""
    keys = tmp_path / "keys"
    keys.write_text(f"{storefront.key_file.read_text().strip()}\nsf_unknown\n")
    slo = limits(tmp_path / "slo.yml", endpoints=(Endpoint.SHORTEN,))
    words = ["--headless", "--host", storefront.url, "--key-file", str(keys)]
    done = locust(*words, "-u", "4", "-r", "4", "-t", "5s", "--slo", slo, "Sharer")
    assert done.returncode == 1, done.stdout
    assert re.search(r"(?m)^ +\d+  POST /api/v1/links: status 401$", done.stdout)


def test_a_ramp_finds_a_knee(storefront: Storefront, tmp_path: Path) -> None:
    """It ends where its limits are broken, here at once, and says what it saw."""
    slo = tmp_path / "slo.yml"
    slo.write_text(yaml.safe_dump({"all": {"p99_ms": 0}, "endpoints": {"GET /": {"per_second": 0}}}))
    done = locust(*storefront.words, "--shape", "ramp", "-u", "24", "-t", "60s", "--slo", str(slo), "Shopper")
    assert done.returncode == 0, done.stdout
    assert re.search(r"(?m)^  2 users, [\d.]+ requests/s, p99 \d+ ms$", done.stdout)
    assert re.search(r"(?m)^knee: below the first step: p99 was \d+ ms at 2 users \(at most 0 ms\)$", done.stdout)


def test_processes_share_the_visitors(storefront: Storefront, tmp_path: Path) -> None:
    """`--processes 2`: a master and two workers, judged by the sum of what both have seen, and ended with it."""
    slo = limits(tmp_path / "slo.yml", endpoints=BROWSING)
    report = tmp_path / "load"
    done = locust(
        *storefront.words, "--shape", "smoke", "--processes", "2", "--master-bind-port", str(port := free_port()),
        "--master-port", str(port), "-u", "12", "-t", "10s", "--slo", slo, "--json-file", str(report),
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    entries = json.loads(report.with_suffix(".json").read_text())
    assert {f"{entry['method']} {entry['name']}" for entry in entries} <= set(Endpoint)
    assert storefront.get("/api/v1/routes?tenant=load-test")["total"] == 0


def test_the_web_interface(storefront: Storefront) -> None:
    """It says where it is, answers there, and ends when it is told to."""
    port = free_port()
    words = [*storefront.words[1:], "--web-host", "127.0.0.1", "--web-port", str(port), "--users", "10"]
    with subprocess.Popen(
        [*LOCUST, *words], cwd=ROOT, text=True, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
    ) as ui:
        try:
            assert ui.stdout is not None
            lines = iter(ui.stdout.readline, "")
            assert any(f"web interface on http://127.0.0.1:{port}" in line for line in lines)
            wait_until(lambda: b"<html" in _page(port), timeout_s=30)
        finally:
            ui.terminate()
        assert ui.wait(30) == 0


def _page(port: int) -> bytes:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/") as answer:
            page: bytes = answer.read()
            return page
    except OSError:
        return b""


@pytest.mark.parametrize("shape", sorted(SHAPES))
def test_every_shape_is_a_word_that_it_knows(shape: str, tmp_path: Path) -> None:
    """Each gets as far as the keys, which are missing: one line with the remedy, exit code 2."""
    done = locust("--headless", "--shape", shape, "--key-file", str(tmp_path / "none"))
    assert done.returncode == 2
    remedy = "`make run` writes it; --key-file names another"
    assert done.stdout == f"load: {tmp_path}/none: No such file or directory: {remedy}\n"


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    """Nothing that answers, limits that cannot be judged, and a shape that there is not; none starts a visitor."""
    keys = tmp_path / "keys"
    keys.write_text("sf_key")
    port = str(free_port())
    done = locust("--headless", "--key-file", str(keys), GATEWAY_PORT=port)
    assert (done.returncode, done.stdout.count("\n")) == (2, 1)
    assert done.stdout.startswith(f"load: no gateway answers on http://127.0.0.1:{port}: start `make run`")
    done = locust("--headless", "--key-file", str(keys), "--processes", "2", GATEWAY_PORT=port)
    assert (done.returncode, done.stdout.count("load: no gateway answers")) == (2, 1), done.stdout
    slo = tmp_path / "slo.yml"
    slo.write_text("endpoints: {GET /nowhere: {p95_ms: 1}}")
    done = locust("--headless", "--key-file", str(keys), "--slo", str(slo))
    assert (done.returncode, done.stdout.count("\n")) == (2, 1)
    assert "'GET /nowhere' is no endpoint" in done.stdout
    done = locust("--headless", "--shape", "sphere")
    assert done.returncode == 2
    assert "invalid choice: 'sphere'" in done.stdout
