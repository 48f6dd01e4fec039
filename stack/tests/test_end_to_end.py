"""`make run` with the services themselves: what its screen promises, holds."""

import json
import signal
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chassis.testing import free_port, require

pytestmark = pytest.mark.slow
StartRun = Callable[..., Any]


def _curl_lines(screen: str) -> list[str]:
    return [line.strip() for line in screen.splitlines() if line.strip().startswith("curl ")]


def _answer(command: str) -> Any:
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=True, timeout=30)
    return json.loads(done.stdout)


def test_make_run(start_run: StartRun, tmp_path: Path) -> None:
    """The three curl lines answer, a second run is refused, SIGTERM ends all in ten seconds, the data stays."""
    require("curl")
    run = start_run().wait_ready()
    assert " ERROR " not in run.output
    assert "Traceback" not in run.output
    products, users, ada = _curl_lines(run.output)

    found = _answer(products)
    assert 0 < len(found) <= 3
    assert [float(product["price"]["amount"]) for product in found] == sorted(
        float(product["price"]["amount"]) for product in found
    )
    page = _answer(users)
    assert (len(page["users"]), page["per_page"], page["total"]) == (2, 2, 1000)
    signed_up = _answer(ada)
    assert signed_up["username"].startswith("ada-")

    for path in ("/", "/docs", "/catalogue/docs", "/user/docs", "/api/service-status", "/status"):
        with urllib.request.urlopen(f"{run.url}{path}") as answer:
            assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{run.url}/api/v1/users")
    assert {route["service"] for route in run.get("/api/v1/routes")["routes"]} >= {"catalogue", "user"}

    second = start_run()
    assert second.process.wait(20) == 1
    assert f"process {run.process.pid} on {run.url}" in second.output

    # Under load: requests in flight do not keep it from ending.
    load = subprocess.Popen(
        ["sh", "-c", f"while {users} -f -o {tmp_path}/page; do :; done"],
        stdout=subprocess.DEVNULL,
    )
    assert run.end(signal.SIGTERM) == 0
    assert run.left() == []
    load.wait(10)

    again = start_run().wait_ready()
    assert _answer(users)["total"] == 1001
    assert again.get(f"/api/v1/users/{signed_up['id']}")["email"] == signed_up["email"]
    assert again.end(signal.SIGINT) == 0


def test_the_readmes_requests(start_run: StartRun) -> None:
    """Every request under "Try it" in the README is answered as it stands there, but for the port."""
    require("curl")
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    block = readme.partition("## Try it")[2].partition("```sh\n")[2].partition("```")[0].replace("\\\n", " ")
    commands = [line.partition("  #")[0] for line in block.splitlines() if line.startswith("curl")]
    assert len(commands) >= 5
    run = start_run().wait_ready()
    for command in commands:
        here = command.replace("http://127.0.0.1:8000", run.url).replace("curl ", "curl --fail -sS ", 1)
        done = subprocess.run(
            ["sh", "-c", here], capture_output=True, text=True, check=False, timeout=30, cwd=run.directory
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
    assert run.end() == 0


def test_the_catalogue_from_its_database(start_run: StartRun) -> None:
    """`DATA_SOURCE=db make run` shows the same products, from PostgreSQL."""
    run = start_run(DATA_SOURCE="db").wait_ready()
    with urllib.request.urlopen(f"{run.url}/api/products") as answer:
        assert answer.headers.get("X-Data-Source") != "json-fallback"
        assert len(json.load(answer)) >= 12
    assert run.end() == 0


def test_on_one_database_of_ones_own(start_run: StartRun, database_url: str, redis_url: str) -> None:
    """With DATABASE_URL all services live in that database side by side, also at the second start; then a service may
    be on another port, and the gateway's route to it follows.
    """
    stores = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "DATA_SOURCE": "db"}
    for moved in ({}, {"CATALOGUE_PORT": str(free_port())}):
        run = start_run(**stores, **moved).wait_ready()
        for _ in range(8):  # whichever worker answers
            assert len(run.get("/api/products")) >= 12
        assert run.get("/api/v1/users")["total"] == 1000
        assert run.end() == 0


def test_no_secret_is_shown(start_run: StartRun) -> None:
    """Passwords stand neither on a command line nor in the output; the admin key only on the screen."""
    run = start_run().wait_ready()
    state = run.directory / ".run"
    passwords = [(state / store / "password").read_text() for store in ("postgres", "valkey")]
    commands = [" ".join(child.cmdline()) for child in run.children()]
    assert run.end() == 0
    logs = run.output + "".join(log.read_text() for log in state.glob("*/server.log"))
    for password in passwords:
        assert password not in logs
        assert not [command for command in commands if password in command]
    assert logs.count((state / "admin-key").read_text()) == 1
