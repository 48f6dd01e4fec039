"""How the gateway grows with the number of routes: a gateway and a registry for each size, asked in rounds."""

from __future__ import annotations

import itertools
import json
import random
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from typing import Any

import psycopg2

from chassis.database import Database
from chassis.metrics import Metrics
from chassis.settings import load
from gateway.registry.repository import Registry
from gateway.settings import Settings
from loadtest import memory
from loadtest.evidence.sizes import Grown, Kind, measure_rounds
from loadtest.evidence.stage import Stage, rounds
from loadtest.openloop import get
from loadtest.servers import RunningServer, http_get

SIZES = (10, 100, 1_000, 10_000, 100_000)
QUICK_SIZES = (10, 1_000, 10_000)
_MIB = 2**20
_LOADED_WITHIN_S = 60.0
_SEEN_WITHIN_S = 10.0
_START_S, _START_S_PER_10000 = 2.2, 0.7

LIST_WHY = "The list says how many routes there are, and PostgreSQL counts them one by one: a page for operators."


def sizes(quick: bool) -> tuple[int, ...]:
    """The numbers of routes."""
    return QUICK_SIZES if quick else SIZES


def batch_s(quick: bool) -> float:
    """Seconds of one kind of request in one round."""
    return 0.08 if quick else 0.12


def _changes(quick: bool) -> int:
    """How often a change elsewhere is waited for."""
    return 1 if quick else 3


def expected_s(quick: bool) -> float:
    """Seconds that `measure` takes, about."""
    starts = sum(_START_S + _START_S_PER_10000 * size / 10_000 for size in sizes(quick))
    asked = len(sizes(quick)) * rounds(quick) * len(_KINDS) * batch_s(quick)
    return starts + asked + len(sizes(quick)) * _changes(quick) * 0.55


def measure(stage: Stage) -> Grown:
    """Start a gateway for each size, and ask them in turn.

    Raises:
        BenchError: one does not know its routes in time, or an answer is not what it should be.
    """
    found = Grown()
    upstream = stage.fleet.upstream()
    key = stage.fleet.key
    servers: dict[int, RunningServer] = {}
    databases = {}
    ids = {}
    for size in sizes(stage.quick):
        stage.say(f"scale: a gateway with {size:,} routes")
        began_s = time.monotonic()
        name = f"scale_routes_{size}"
        databases[size] = stage.stores.registry_database(name, CATALOGUE_URL=upstream.url, USER_URL=upstream.url)
        with closing(psycopg2.connect(databases[size])) as connection:
            ids[size] = insert_routes(connection, size, upstream.url)
        started_s = time.monotonic()
        server = stage.fleet.gateway(
            f"gateway-{size}",
            catalogue=upstream,
            user=upstream,
            DATABASE_URL=databases[size],
            CACHE_BYTES="0",
            GATEWAY_STATE_DIR=str(stage.directory / f"routes-{size}"),
        )
        _await_route(server, key, size)
        now_s = time.monotonic()
        servers[size] = server
        found.facts[size] = {"start_s": round(now_s - started_s, 2)}
        stage.progress.advance(stage.task, now_s - began_s)
    stage.say("scale: routes")
    measure_rounds(stage, found, kinds(key, ids), servers, seconds=batch_s(stage.quick), prefix="routes", n="routes")
    found.series["routes-list"].why = LIST_WHY
    for size, server in servers.items():
        began_s = time.monotonic()
        delays = list(_seen_after(server, databases[size], ids[size], key, times=_changes(stage.quick)))
        stage.progress.advance(stage.task, time.monotonic() - began_s)
        found.facts[size]["seen_s"] = round(statistics.median(delays), 3)
        found.facts[size]["memory_mib"] = round(memory.of_tree(server.pid).once / _MIB, 1)
        found.runs.setdefault("routes-seen", {})[str(size)] = {"seconds": delays}
    for server in servers.values():
        server.stop()
    return found


def insert_routes(connection: Any, count: int, url: str) -> int:
    """Add routes of `count` tenants, t1 and so on, in one transaction, each with a revision; the id of t1's.

    As a registry has them that was restored: without history. A gateway that starts reads routes, not history.
    """
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT revision FROM gateway_state FOR UPDATE")
        (revision,) = cursor.fetchone()
        cursor.execute(
            "INSERT INTO routes (tenant, service, env, version, url, active, weight, created_at, updated_at, revision) "
            "SELECT 't' || n, 'app', 'prod', 'v1', %s, true, 100, now(), now(), %s + n "
            "FROM generate_series(1, %s) AS n ORDER BY n",
            (url, revision, count),
        )
        cursor.execute("UPDATE gateway_state SET revision = revision + %s", (count,))
        cursor.execute("ANALYZE routes")
        cursor.execute("SELECT id FROM routes WHERE tenant = 't1'")
        return int(cursor.fetchone()[0])


@contextmanager
def elsewhere(database_url: str) -> Iterator[Registry]:
    """The registry as another gateway has it, which writes and tells nobody."""
    settings = load(Settings, database_url=database_url)
    database = Database(
        settings.db, application="scale", metrics=Metrics(service="gateway", version="scale", commit="scale")
    )
    try:
        yield Registry(database)
    finally:
        database.close()


def _resolve_path(number: int) -> str:
    return f"/api/v1/routes/resolve?tenant=t{number}&service=app&env=prod"


def _await_route(server: RunningServer, key: Mapping[str, str], number: int) -> None:
    def known() -> bool:
        return http_get(server.url + _resolve_path(number), headers=key).status == 200

    server.wait_until(known, f"does not know {number} routes", timeout_s=_LOADED_WITHIN_S)


def _seen_after(
    server: RunningServer, database_url: str, route_id: int, key: Mapping[str, str], *, times: int
) -> Iterator[float]:
    """Seconds from the commit of a change elsewhere until this gateway answers by it."""

    def weight() -> int:
        return int(json.loads(http_get(server.url + _resolve_path(1), headers=key).data).get("weight", -1))

    with elsewhere(database_url) as registry:
        for new in range(901, 901 + times):
            registry.update(route_id, {"weight": new}, actor="scale")
            began_s = time.monotonic()
            server.wait_until(
                lambda new=new: weight() == new,  # type: ignore[misc]
                "has not seen a change", timeout_s=_SEEN_WITHIN_S, interval_s=0.005,
            )  # fmt: skip
            yield time.monotonic() - began_s


_KINDS = ("edge", "resolve", "write", "list")


def kinds(key: Mapping[str, str], ids: Mapping[int, int]) -> list[Kind]:
    """The requests. `ids`: by size, the id of the first tenant's route."""
    fields = {name.replace("-", "_"): value for name, value in key.items()}
    dice = random.Random(1)

    def edge(size: int) -> Iterator[bytes]:
        while True:
            yield get(f"/t/t{dice.randint(1, size)}/app/x", **fields)

    def resolve(size: int) -> Iterator[bytes]:
        while True:
            yield get(_resolve_path(dice.randint(1, size)), **fields)

    def write(size: int) -> Iterator[bytes]:
        head = "".join(f"{name}: {value}\r\n" for name, value in key.items())
        for weight in itertools.cycle(range(1, 900)):
            body = json.dumps({"weight": weight}).encode()
            path = f"/api/v1/routes/{ids[size] + dice.randint(0, size - 1)}"
            yield (
                f"PATCH {path} HTTP/1.1\r\nHost: bench\r\n{head}Content-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\n\r\n"
            ).encode() + body

    def listed(_size: int) -> Iterator[bytes]:
        return itertools.repeat(get("/api/v1/routes?per_page=10", **fields))

    makers = {
        "edge": ("a request of a tenant, passed on", edge),
        "resolve": ("resolve", resolve),
        "write": ("a change of weight", write),
        "list": ("the list of routes", listed),
    }
    return [Kind(name, *makers[name]) for name in _KINDS]
