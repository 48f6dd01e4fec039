"""The deep walk: all of a million users by `after`, a hundred a page; the last pages must cost what the first cost.

The cache is off, so that every page is PostgreSQL's. After the walk the first and the last hundred pages are fetched
again, one of each in turn, so that both see the same state of the machine; the verdict is on these.
"""

from __future__ import annotations

import json
import re
import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import Progress

from loadtest.errors import BenchError
from loadtest.machine import Cores
from loadtest.report import Limit
from loadtest.servers import RunningServer, http_get
from loadtest.stores import Stores
from loadtest.subjects import service

USERS = 1_000_000
_PER_PAGE = 100
_COMPARED_PAGES = 100
_REFETCHES = 5
_AT_MOST = 1.2
_NEXT = re.compile(r'<([^>]+)>\s*;[^,]*rel="?next"?')


@dataclass(frozen=True, kw_only=True)
class Walk:
    """What came of the walk."""

    title: str
    limit: Limit
    record: dict[str, Any]


def measure(stores: Stores, *, directory: Path, cores: Cores, progress: Progress, users: int = USERS) -> Walk:
    """Seed, walk, fetch again, compare. Raises BenchError if the walk skips, repeats or disorders a user."""
    task = progress.add_task(f"deep walk: seeding {users:,} users", total=users // _PER_PAGE)
    url = stores.users_database("walk", count=users)
    server = RunningServer(service("user-walk", DATABASE_URL=url), directory=directory, cores=cores)
    try:
        server.wait_ready("/health/live")
        progress.update(task, description=f"deep walk: {users:,} users by `after`")
        started_s = time.perf_counter()
        pages, walked_ms = _walk(server, progress=progress, task=task, users=users)
        walked_s = time.perf_counter() - started_s
        progress.update(task, description="deep walk: first and last pages again, in turn")
        first_ms, last_ms = _again(server, pages)
    finally:
        server.stop()
    ratio = statistics.median(last_ms) / statistics.median(first_ms)
    return Walk(
        title=f"Deep walk: {users:,} users, {len(pages):,} pages in {walked_s:.0f} s",
        limit=Limit(name=f"last {_COMPARED_PAGES} pages / first {_COMPARED_PAGES}", value=ratio, at_most=_AT_MOST),
        record={
            "users": users,
            "pages": len(pages),
            "walked_s": round(walked_s, 1),
            "as_walked_median_ms": {
                "first": round(statistics.median(walked_ms[:_COMPARED_PAGES]), 3),
                "all": round(statistics.median(walked_ms), 3),
                "last": round(statistics.median(walked_ms[-_COMPARED_PAGES:]), 3),
            },
            "in_turn_median_ms": {
                "first": round(statistics.median(first_ms), 3),
                "last": round(statistics.median(last_ms), 3),
            },
        },
    )


def _walk(server: RunningServer, *, progress: Progress, task: Any, users: int) -> tuple[list[str], list[float]]:
    """The path of every page and its milliseconds, following `Link: rel=next` to the end."""
    path: str | None = f"/api/v1/users?after=0&per_page={_PER_PAGE}"
    paths: list[str] = []
    times_ms: list[float] = []
    last_id = seen = 0
    while path is not None:
        body, link, took_ms = _timed(server, path)
        ids = [user["id"] for user in json.loads(body)["users"]]
        if ids:
            if ids != sorted(set(ids)) or ids[0] <= last_id:
                raise BenchError(f"the walk repeats or disorders users at {path}")
            last_id = ids[-1]
            seen += len(ids)
            paths.append(path)
            times_ms.append(took_ms)
            progress.advance(task)
        following = _NEXT.search(link)
        path = (
            "/" + following[1].partition("://")[2].partition("/")[2]
            if following and "://" in following[1]
            else (following[1] if following else None)
        )
    if seen != users:
        raise BenchError(f"the walk saw {seen:,} of {users:,} users")
    return paths, times_ms


def _again(server: RunningServer, pages: list[str]) -> tuple[list[float], list[float]]:
    """Milliseconds of the first and the last pages, fetched in turn; who begins alternates."""
    first, last = pages[:_COMPARED_PAGES], pages[-_COMPARED_PAGES:]
    first_ms: list[float] = []
    last_ms: list[float] = []
    for repeat in range(_REFETCHES):
        for early, late in zip(first, last, strict=True):
            pair = [(early, first_ms), (late, last_ms)]
            for path, times_ms in pair if repeat % 2 == 0 else reversed(pair):
                times_ms.append(_timed(server, path)[2])
    return first_ms, last_ms


def _timed(server: RunningServer, path: str) -> tuple[bytes, str, float]:
    """Body, `Link` and milliseconds of one page."""
    started_s = time.perf_counter()
    answer = http_get(server.url + path)
    body = answer.data
    took_ms = (time.perf_counter() - started_s) * 1000
    if answer.status != 200:
        raise BenchError(f"GET {path} answered {answer.status}: {body[:200]!r}")
    return body, answer.headers.get("Link", ""), took_ms
