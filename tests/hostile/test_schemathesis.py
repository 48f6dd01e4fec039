"""schemathesis at every service through the gateway: by its own document, in sequences too, with a key and without."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from chassis.servers import PostgresServer, ValkeyServer
from chassis.testing.contract import fuzz
from chassis.testing.databases import query
from tests.hostile.stage import Stage, running
from tests.promises import Promise

pytestmark = pytest.mark.hostile

LONG = bool(os.environ.get("LONG"))
EXAMPLES = 300 if LONG else 5
SERVICES: dict[str, tuple[str, ...]] = {
    "catalogue": ("--include-path-regex=^/api/",),  # its pages are where the documents of all services are not
    "user": (),
    "links": ("--exclude-path-regex=^/qr/",),  # the stage lets nobody have many of these
    "gateway": (),
}
"""What of each is left out, because it is not behind the address of its document."""

ALWAYS = ("--exclude-tag=operators", "--exclude-checks=positive_data_acceptance")
"""No schema can say which names are taken, which state a thing is in, or which hosts are allowed."""

WATCHED = {"links": "links", "gateway": "routes"}
"""Tables into which nobody writes without a key."""


@pytest.mark.parametrize("service", ["catalogue", "user", "links"])
def test_with_the_admins_key(stage: Stage, service: str, promise: Promise) -> None:
    """All checks, positive and negative data, and sequences of operations whose answers feed the next."""
    _with_a_key(stage, service, promise)


def test_the_registry_with_the_admins_key(
    tmp_path: Path, private_postgres: PostgresServer, private_redis: ValkeyServer, promise: Promise
) -> None:
    """The same of a storefront of its own, because it may delete the routes to all services."""
    directory = tmp_path / "stage"
    directory.mkdir()
    with running(directory, private_postgres, private_redis) as stage:
        _with_a_key(stage, "gateway", promise)


def _with_a_key(stage: Stage, service: str, promise: Promise) -> None:
    watch = stage.watch()
    examples = EXAMPLES if LONG or service != "gateway" else 2  # test_registry_fuzz.py tries more
    report = _fuzz(stage, service, f"--max-examples={examples}", f"--header=X-API-Key: {stage.keys['admin']}")
    stage.settle()
    assert re.search(r"^  ✅ Stateful$", report, re.MULTILINE) or service == "catalogue", (
        report
    )  # where nothing leads on
    _say(promise, f"fuzzing: {service} with a key", "as documented, no 5xx", report)
    assert watch.tracebacks() == []
    assert watch.server_errors() == []


@pytest.mark.parametrize("service", [name for name in SERVICES if name != "catalogue"])
def test_without_a_key(stage: Stage, service: str, promise: Promise) -> None:
    """No 5xx, and nothing written but by those who sign up."""
    watch = stage.watch()
    before = _count(stage, service)
    phases = () if LONG else ("--phases=coverage,fuzzing",)
    report = _fuzz(stage, service, f"--max-examples={max(2, EXAMPLES // 3)}", *phases, checks="not_a_server_error")
    stage.settle()
    assert _count(stage, service) == before
    statuses = {
        record["status"] for record in watch.requests("gateway") if record["route"] not in ("docs", "unmatched")
    }
    assert 401 in statuses
    _say(promise, f"fuzzing: {service} without a key", "no 5xx, nothing written", report)
    assert watch.tracebacks() == []
    assert watch.server_errors() == []


def _fuzz(stage: Stage, service: str, *options: str, checks: str = "all") -> str:
    return fuzz(f"{stage.url('gateway')}/{service}", *ALWAYS, *SERVICES[service], *options, checks=checks)


def _count(stage: Stage, service: str) -> list[tuple[int, ...]]:
    table = WATCHED.get(service)
    return query(stage.databases[service], f"SELECT count(*), max(id) FROM {table}") if table else []


def _say(promise: Promise, fault: str, what: str, report: str) -> None:
    found = re.search(r"(\d+) generated, (\d+) passed", report)
    promise(fault, what, found[0] if found else "nothing", holds=found is not None and found[1] == found[2] != "0")
