"""`make run` with the services themselves: what its screen promises, holds."""

import json
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import zxingcpp
from PIL import Image

from chassis.children import port_is_free, signal_group, spawn
from chassis.testing import free_port, require, wait_until

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

    for path in (
        "/",
        "/docs",
        "/catalogue/docs",
        "/user/docs",
        "/links/docs",
        "/links",
        "/api/service-status",
        "/status",
    ):
        with urllib.request.urlopen(f"{run.url}{path}") as answer:
            assert answer.status == 200
    with pytest.raises(urllib.error.HTTPError, match="401"):
        urllib.request.urlopen(f"{run.url}/api/v1/users")
    assert {route["service"] for route in run.get("/api/v1/routes")["routes"]} >= {"catalogue", "user", "links"}

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


class Shell:
    """A shell in the directory of a run, as a reader of the README has it; it ends at the first command that fails."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def run(self, commands: str) -> str:
        """Run them; return what they print."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{commands}\necho\necho done.\n")
        self._process.stdin.flush()
        printed = ""
        for line in self._process.stdout:
            if line == "done.\n":
                return printed
            printed += line
        raise AssertionError(f"{commands}\n{printed}")


@contextmanager
def shell_of(run: Any, environment: dict[str, str]) -> Iterator[Shell]:
    """A shell beside a run."""
    (run.directory / ".venv").symlink_to(Path(sys.prefix))
    with subprocess.Popen(
        ["sh", "-e"], cwd=run.directory, env=environment, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        shell = Shell(process)
        # A person takes longer from one line to the next than a change takes to reach every worker.
        shell.run('curl() { command curl --fail -sS --retry 3 --retry-all-errors "$@"; }')
        yield shell


def _blocks(heading: str, run: Any) -> list[str]:
    """The README's blocks of commands under a heading, with the port of `run`."""
    section = (Path(__file__).parents[2] / "README.md").read_text().partition(f"\n## {heading}\n")[2]
    blocks = [part.partition("```")[0] for part in section.partition("\n## ")[0].split("```sh\n")[1:]]
    return [block.replace("http://127.0.0.1:8000", run.url) for block in blocks]


def test_the_readmes_requests(start_run: StartRun, environment: dict[str, str]) -> None:
    """Every command under "Try it" in the README works as it stands there, but for the port; so does the screen's
    line that makes a key.
    """
    require("curl")
    run = start_run().wait_ready()
    shop, registry, keys = _blocks("Try it", run)
    with shell_of(run, environment) as shell:
        assert '"username":"ada"' in shell.run(shop)
        assert '{"url":"https://payments.example.com/v2",' in shell.run(registry)
        assert re.search(r"^sf_\S{43}.*^NAME .*^shop +users:read +600/min ", shell.run(keys), re.MULTILINE | re.DOTALL)
        assert "sf_" in shell.run(next(line for line in run.output.splitlines() if " keys create " in line))
    assert run.end() == 0


def test_the_readmes_short_link(start_run: StartRun, environment: dict[str, str]) -> None:
    """It is made, its QR code is that of the link, it leads where it should, and the click is counted."""
    require("curl")
    run = start_run().wait_ready()
    make, follow = _blocks("A short link", run)
    with shell_of(run, environment) as shell:
        assert f'"short_url":"{run.url}/s/hello"' in shell.run(make)
        (code,) = zxingcpp.read_barcodes(Image.open(run.directory / "hello.png"))
        assert code.text == f"{run.url}/s/hello"
        followed = shell.run(follow)
    assert followed.startswith("HTTP/1.1 302")
    assert "location: https://example.com/a/long/way" in followed.lower()
    assert '"clicks":1,' in followed
    assert run.end() == 0


def test_the_readmes_canary(start_run: StartRun, environment: dict[str, str]) -> None:
    """The walk works as it is printed, but for the ports: a tenth, half and none of the traffic, as it promises."""
    require("curl")
    run = start_run().wait_ready()
    port = free_port()
    start, *steps = [block.replace("5010", str(port)) for block in _blocks("A canary", run)]
    splits = []
    with shell_of(run, environment) as shell:
        canary = spawn(["sh", "-c", start], env=environment, cwd=run.directory, stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: not port_is_free(port), timeout_s=20)
            for step in steps:
                printed = shell.run(step)
                counts = {version: int(count) for count, version in re.findall(r"(\d+) Version.*>(\S+)", printed)}
                if "[1-1000]" in step:
                    splits.append(counts)
                elif "X-Route-Key" in step:
                    assert list(counts.values()) == [100]
                elif "X-Route-Version" in step:
                    assert "2.0.0" in printed
                wait_until(partial(_is_settled, run))
        finally:
            signal_group(canary, signal.SIGKILL)
            canary.wait(10)
    for split, wanted in zip(splits, (100, 500, 0), strict=True):
        assert sum(split.values()) == 1000
        assert abs(split.get("2.0.0", 0) - wanted) <= 20
    routes = run.get("/api/v1/routes?service=catalogue")["routes"]
    assert [(route["version"], route["weight"]) for route in routes] == [("v1", 100)]
    assert run.end() == 0


def _is_settled(run: Any) -> bool:
    """Whether every worker is as far as the last change of a route that is there."""
    last = max(route["revision"] for route in run.get("/api/v1/routes")["routes"])
    with urllib.request.urlopen(f"{run.url}/metrics") as answer:
        found = re.search(r"^gateway_routes_revision ([0-9.]+)$", answer.read().decode(), re.MULTILINE)
    return found is not None and float(found[1]) >= last


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
        # Each worker of the gateway begins with the routes on its disk, and has a second to hear of a change.
        wait_until(partial(run.said, "Routes follow the registry", times=2), timeout_s=5)
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
