"""`python -m stack` as a process, with stand-ins for the services."""

import re
import signal
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from chassis.testing import wait_until

StartRun = Callable[..., Any]


@pytest.fixture
def start(start_run: StartRun, stand_ins: Path) -> StartRun:
    """`start(NAME=value)` runs the stack in one directory, with the stand-ins."""
    return lambda **variables: start_run(PYTHONPATH=str(stand_ins), **variables)


@pytest.mark.slow
def test_runs_restarts_and_leaves_nothing(start: StartRun) -> None:
    """It serves, ends with 0 on SIGTERM with every process gone, and at the next start the data is there."""
    run = start().wait_ready()
    assert "user-db      | seed --count 1000\n" in run.output
    assert "gateway-db   | create\n" in run.output
    pages = ("/", "/api/products")
    assert all(run.get(page) for page in pages)
    assert run.end(signal.SIGTERM) == 0
    assert run.left() == []
    again = start().wait_ready()
    assert "user-db      | create\n" in again.output
    assert "seed" not in again.output.partition("storefront is ready")[0]
    assert again.end(signal.SIGINT) == 0
    assert again.left() == []


@pytest.mark.slow
def test_a_second_run_is_refused(start: StartRun) -> None:
    """It says which process runs already and where, and does not disturb it."""
    run = start().wait_ready()
    second = start()
    assert second.process.wait(20) == 1
    assert f"already running as process {run.process.pid} on {run.url}" in second.output
    assert run.get("/")
    assert run.end(signal.SIGHUP) == 0


def test_a_taken_port_stops_it_before_it_starts(start: StartRun) -> None:
    """One line names the port and the variable; no store was started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        run = start(USER_PORT=str(port))
        assert run.process.wait(20) == 1
    assert re.fullmatch(rf"stack: port {port} \(user\) is taken: .*USER_PORT=\d+ make run\n", run.output)


@pytest.mark.slow
def test_a_service_that_dies_ends_the_run(start: StartRun) -> None:
    """The error names the service, how it ended and its last lines; all the others are stopped; the exit code is 1."""
    run = start().wait_ready()
    gateway = run.get("/")
    masters = psutil.Process(run.process.pid).children()
    run.children()
    next(master for master in masters if "user.wsgi:app" in master.cmdline()).kill()
    assert run.process.wait(15) == 1
    assert "stack: user ended by itself, killed by SIGKILL" in run.output
    assert "\nuser | " in run.output
    assert run.left() == []
    assert gateway


@pytest.mark.slow
def test_a_store_that_dies_ends_the_run(start: StartRun) -> None:
    """So it is with PostgreSQL and Valkey."""
    run = start().wait_ready()
    next(child for child in run.children() if child.name() == "valkey-server").kill()
    assert run.process.wait(15) == 1
    assert "stack: Valkey ended by itself" in run.output
    assert run.left() == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
def test_a_killed_supervisor_leaves_nothing(start: StartRun) -> None:
    """After kill -9 the services and the stores end by themselves, and the next run starts."""
    run = start().wait_ready()
    run.children()
    run.process.kill()
    run.process.wait()
    wait_until(lambda: run.left() == [], what="all processes to end")
    assert start().wait_ready().get("/")


@pytest.mark.slow
def test_a_failing_tool_ends_the_run(start: StartRun, stand_ins: Path) -> None:
    """If the schema cannot be made, the error has the tool's last lines and a remedy."""
    (stand_ins / "user" / "db.py").write_text("def main(): raise SystemExit('no such thing')")
    run = start()
    assert run.process.wait(30) == 1
    assert "user-db | no such thing\nstack: `user-db create` failed" in run.output


@pytest.mark.slow
def test_a_signal_while_starting(start: StartRun) -> None:
    """Ctrl-C before it is ready stops it in order."""
    run = start()
    wait_until(lambda: "gateway " in run.output, timeout_s=30)
    assert run.end(signal.SIGINT) == 0
    assert run.left() == []


def test_servers_of_ones_own(start: StartRun, database_url: str, redis_url: str) -> None:
    """With DATABASE_URL and REDIS_URL no server is started, and the services get these."""
    run = start(DATABASE_URL=database_url, REDIS_URL=redis_url).wait_ready()
    assert not [child for child in run.children() if child.name() in ("postgres", "valkey-server")]
    found = run.get("/")
    assert found["REDIS_URL"] == redis_url
    assert "the server that DATABASE_URL names" in run.output
    for secret in (database_url.partition("@")[0].rpartition(":")[2], redis_url.partition("@")[0].rpartition(":")[2]):
        assert secret not in run.output
        assert not [child for child in run.children() if secret in " ".join(child.cmdline())]
