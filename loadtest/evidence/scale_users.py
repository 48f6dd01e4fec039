"""How a request to the user service grows with the number of users: one table, grown step by step, nothing cached.

A machine that slows down between two steps would look like growth. So a small table that stays as it is, with a service
of its own, is asked in the same rounds, and a cost is scaled by what the same request took there.
"""

from __future__ import annotations

import json
import random
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import count
from typing import Any

import psycopg2

from loadtest.errors import BenchError
from loadtest.evidence.sizes import Grown, Kind, measure_rounds
from loadtest.evidence.stage import Stage, rounds
from loadtest.openloop import get
from loadtest.servers import RunningServer, http_get
from loadtest.subjects import service

SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000)
QUICK_SIZES = SIZES[:3]
DEEPEST = 100_000
"""Where page mode ends (contract, section 4)."""
_PER_PAGE = 50
_DATABASE, _SMALL = "scale_users", "scale_users_small"
_BYTES_PER_USER, _BYTES_BESIDE = 350, 1_500_000_000
"""On disk, indexes included; and write-ahead log and what sorting the indexes takes."""
_GROWING_S_PER_MILLION = 4.0

PAGE_BY_NUMBER_WHY = (
    "Page mode passes over the rows before the page, in the index alone, so its cost grows with the depth; it ends "
    f"{DEEPEST:,} rows deep, and so does the growth. A walk by `after` costs the same everywhere."
)


def sizes(quick: bool) -> tuple[int, ...]:
    """The numbers of users."""
    return QUICK_SIZES if quick else SIZES


def batch_s(quick: bool) -> float:
    """Seconds of one kind of request in one round."""
    return 0.07 if quick else 0.12


def expected_s(quick: bool) -> float:
    """Seconds that `measure` takes, about."""
    asked = 2 * len(sizes(quick)) * rounds(quick) * 6 * batch_s(quick)
    return 6 + asked + _GROWING_S_PER_MILLION * sizes(quick)[-1] / 1e6


def measure(stage: Stage) -> Grown:
    """Grow the table, and ask at each size.

    Raises:
        BenchError: an answer is not what it should be.
    """
    found = Grown()
    url = stage.stores.empty_users_database(_DATABASE)
    try:
        server = stage.run(service("user-scale", DATABASE_URL=url))
        small_url = stage.stores.users_database(_SMALL, count=SIZES[0])
        small = stage.run(service("user-small", DATABASE_URL=small_url))
        with closing(psycopg2.connect(url)) as connection:
            connection.autocommit = True
            names = count(1)
            numbers, seeded = Numbers(), Numbers(SIZES[0])
            small_kinds = kinds(SIZES[0], seeded, count(1))
            for size in sizes(stage.quick):
                if lacks := room_lacks(size, shutil.disk_usage(stage.stores.postgres.data).free):
                    found.notes.append(f"{size:,} users are left out: {lacks}.")
                    break
                stage.say(f"scale: {size:,} users")
                began_s = time.monotonic()
                grow(connection, size, numbers)
                took_s = time.monotonic() - began_s
                stage.progress.advance(stage.task, took_s)
                _check_total(server, connection)
                found.facts[size] = {"growing_s": round(took_s, 1), "disk_mib": _disk_mib(connection)}
                measure_rounds(
                    stage,
                    found,
                    kinds(size, numbers, names),
                    {size: server},
                    seconds=batch_s(stage.quick),
                    prefix="users",
                    n="users",
                    beside=(small, small_kinds),
                )
        server.stop()
        small.stop()
    finally:
        for name in (_DATABASE, _SMALL):
            stage.stores.postgres.drop_database(name)
    for series in found.series.values():
        series.scale()
    found.series["users-number"].why = PAGE_BY_NUMBER_WHY
    return found


class Numbers:
    """The numbers in the names of users that were made up: 1 to `last`."""

    def __init__(self, last: int = 0) -> None:
        self.last = last


def room_lacks(users: int, free_bytes: int) -> str:
    """Why there is no room on disk for so many users; "" if there is."""
    wanted = users * _BYTES_PER_USER + _BYTES_BESIDE
    return "" if free_bytes >= wanted else f"they want {wanted / 1e9:.1f} GB of disk, {free_bytes / 1e9:.1f} are free"


def grow(connection: Any, size: int, numbers: Numbers) -> None:
    """Fill the table up to `size` users.

    Indexes but the key's are dropped and built anew, which sorts instead of searching. The checks, two thirds of an
    insert's time, are put back without looking at what is there: they hold for what the service inserts. The triggers,
    which keep every new row at hand to count it, are off, and the total is set right in the same transaction.
    """
    with connection.cursor() as cursor:
        cursor.execute("SELECT sum(users)::bigint FROM users_total")
        missing = size - cursor.fetchone()[0]
        if missing <= 0:
            return
        cursor.execute(
            "SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'users' AND indexname <> 'users_pkey'"
        )
        indexes = cursor.fetchall()
        cursor.execute(
            "SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE conrelid = 'users'::regclass AND contype = 'c'"
        )
        checks = cursor.fetchall()
        # The server has one core, and other workers' share of the memory comes on top.
        cursor.execute("SET maintenance_work_mem = '512MB'; SET max_parallel_maintenance_workers = 0")
        cursor.execute("BEGIN")
        cursor.execute("ALTER TABLE users DISABLE TRIGGER USER")
        for name, _ in indexes:
            cursor.execute(f"DROP INDEX {name}")
        for name, _ in checks:
            cursor.execute(f"ALTER TABLE users DROP CONSTRAINT {name}")
        cursor.execute(
            "INSERT INTO users (username, email, full_name) "
            "SELECT name, name || '@example.com', 'Ada Lovelace' "
            "FROM (SELECT 'user-' || lpad(n::text, 8, '0') AS name FROM generate_series(%s::bigint, %s) AS n) AS made",
            (numbers.last + 1, numbers.last + missing),
        )
        for _, definition in indexes:
            cursor.execute(definition)
        for name, definition in checks:
            end = "" if definition.endswith("NOT VALID") else " NOT VALID"
            cursor.execute(f"ALTER TABLE users ADD CONSTRAINT {name} {definition}{end}")
        cursor.execute("UPDATE users_total SET users = users + %s WHERE shard = 0", (missing,))
        cursor.execute("ALTER TABLE users ENABLE TRIGGER USER")
        cursor.execute("COMMIT")
        cursor.execute("VACUUM (ANALYZE) users")
        cursor.execute("CHECKPOINT")  # or it is written while the next requests are measured
    numbers.last += missing


def _check_total(server: RunningServer, connection: Any) -> None:
    """Raises BenchError unless the service counts as many users as there are."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM users")
        there = cursor.fetchone()[0]
    answer = json.loads(http_get(f"{server.url}/api/v1/users?per_page=1").data)
    if answer["total"] != there:
        raise BenchError(f"there are {there} users, the service says {answer['total']}")


def _disk_mib(connection: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_total_relation_size('users') >> 20")
        return int(cursor.fetchone()[0])


def kinds(size: int, numbers: Numbers, names: Iterator[int]) -> list[Kind]:
    """The requests that are measured with `size` users; `names` makes new user names."""
    dice = random.Random(size)
    path = "/api/v1/users"
    last_page = min(size, DEEPEST) // _PER_PAGE

    def many(make: Callable[[], bytes]) -> Callable[[int], Iterator[bytes]]:
        def endless(_size: int) -> Iterator[bytes]:
            while True:
                yield make()

        return endless

    return [
        Kind("first", "first page", many(lambda: get(f"{path}?per_page={_PER_PAGE}"))),
        Kind(
            "deep",
            "page in the second half, by `after`",
            many(lambda: get(f"{path}?per_page={_PER_PAGE}&after={dice.randint(size // 2, size - 100)}")),
        ),
        Kind(
            "number",
            "the deepest page by number",
            many(lambda: get(f"{path}?per_page={_PER_PAGE}&page={last_page}")),
        ),
        Kind("id", "look-up by id", many(lambda: get(f"{path}/{dice.randint(1, size)}"))),
        Kind(
            "name",
            "look-up by user name",
            many(lambda: get(f"{path}?username=user-{dice.randint(1, numbers.last):08d}")),
        ),
        Kind("insert", "insert", many(lambda: insert(next(names))), status=201),
    ]


def insert(number: int) -> bytes:
    """A request that makes a user."""
    name = f"new-{number:08d}"
    body = json.dumps({"username": name, "email": f"{name}@example.com", "full_name": "Ada Lovelace"}).encode()
    head = (
        f"POST /api/v1/users HTTP/1.1\r\nHost: bench\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
    )
    return head.encode() + b"\r\n\r\n" + body
