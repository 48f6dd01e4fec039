"""A database that is away for a moment under steady reads: which of them fail, with retries and without.

As a client sees a failover: all sessions end at once, and for some time new ones are turned away. PostgreSQL does both
itself (`ALTER DATABASE … ALLOW_CONNECTIONS false`, `pg_terminate_backend`): nothing stands between it and the service.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import psycopg2
from psycopg2 import sql

from loadtest import checks
from loadtest.evidence.record import Claim, Curves, Line, Part, Table
from loadtest.evidence.stage import Stage, rounds
from loadtest.generator import run_wrk
from loadtest.openloop import TIMELINE_S, Offer, Outcome, get
from loadtest.servers import RunningServer
from loadtest.subjects import USERS_PATH, peer, service

SOURCE = "review of the user service"
TRANSIENT_MS = 250
"""Half of the pause before the document's retry (`delay=0.5`), which is to find the server back."""
HARDER_MS = 500
"""All of that pause."""
OTHERS_MS = (0, 100, 1000)
LOAD = 0.3
"""Of what the slower of the two answers a closed loop."""
_WARM_UP_S = 0.3
_CALM_S = 0.7
"""Before the blip."""
_AFTERWARDS_S = 1.3
"""What follows a blip, its own length aside: the longest wait that the contract allows, and the queue behind it."""
_DATABASE = "bench"
WITH, WITHOUT = "with retries", "without"


@dataclass(frozen=True, kw_only=True)
class Blip:
    """One blip and what became of the reads around it."""

    side: str
    number: int
    wanted_ms: int
    refused_ms: float
    """From the end of the sessions to the first new one that was let in."""
    outcome: Outcome

    @property
    def key(self) -> str:
        """Of its run."""
        return f"{self.number}-{self.side}"

    def record(self) -> dict[str, Any]:
        """For the results file."""
        return {
            "refused_ms": round(self.refused_ms, 1),
            "blip_at_s": _CALM_S,
            **self.outcome.record(timeline=True),
        }


def expected_s(quick: bool) -> float:
    """Seconds that `measure` takes, about."""
    plan_ms = _plan(quick)
    return 7 + sum(2 * (_WARM_UP_S + _CALM_S + pause_ms / 1000 + _AFTERWARDS_S + 0.1) for pause_ms in plan_ms)


def measure(stage: Stage) -> Part:
    """Both services under the same steady reads, and the same blips in turn."""
    began_s = time.monotonic()
    stage.say("blip: starting")
    database = stage.stores.users_database(_DATABASE)
    sides = {
        WITHOUT: stage.run(peer("users-no-retry", "users_no_retry:create_app()", DATABASE_URL=database)),
        WITH: stage.run(service("user-uncached", DATABASE_URL=database)),
    }
    checks.require_cache_state(sides[WITH], USERS_PATH, "BYPASS")
    checks.require_same_answer(*(checks.answer_body(server, USERS_PATH) for server in sides.values()), name=WITHOUT)
    rate = LOAD * min(
        run_wrk(server.url + USERS_PATH, seconds=1, connections=32).per_second for server in sides.values()
    )
    blips: list[Blip] = []
    runs: dict[str, Any] = {}
    for number, refused_ms in enumerate(_plan(stage.quick), 1):
        for side, server in sides.items():
            stage.say(f"blip: {refused_ms} ms {side}")
            blips.append(_one(stage, side, server, rate=rate, refused_ms=refused_ms, seed=number))
            runs[blips[-1].key] = blips[-1].record()
            stage.keep_time(began_s)
    return Part(
        name="blip",
        title="A database that is away for a moment",
        claims=[
            _claim(
                _of(blips, WITH, TRANSIENT_MS),
                rate,
                id="blip",
                sentence="A transient database failure fails no read: retried up to twice",
                source=SOURCE,
            ),
            _claim(
                _of(blips, WITH, HARDER_MS),
                rate,
                id="blip-half-second",
                sentence="Nor does one of half a second",
                source="contract",
            ),
        ],
        tables=[_table(blips)],
        pictures=[_picture(blips, rate)],
        runs=runs,
    )


def _plan(quick: bool) -> list[int]:
    """How long new sessions are refused in each blip, ms."""
    if quick:
        return [TRANSIENT_MS] * rounds(quick) + [HARDER_MS]
    return [TRANSIENT_MS, HARDER_MS] * rounds(quick) + list(OTHERS_MS)


def _one(stage: Stage, side: str, server: RunningServer, *, rate: float, refused_ms: int, seed: int) -> Blip:
    took_s: list[float] = []
    failed: list[BaseException] = []

    def interrupt() -> None:
        time.sleep(_WARM_UP_S + _CALM_S)  # the moment of the blip, not a wait for anything
        try:
            took_s.append(interrupted_s(stage.stores.postgres.url, _DATABASE, refused_ms=refused_ms))
        except psycopg2.Error as error:
            failed.append(error)

    thread = threading.Thread(target=interrupt, name="blip")
    server.empty_log()
    thread.start()
    outcome = stage.offer(
        Offer(
            port=server.port,
            requests=(get(USERS_PATH),),
            per_second=rate,
            seconds=_CALM_S + refused_ms / 1000 + _AFTERWARDS_S,
            warm_up_s=_WARM_UP_S,
            connections=512,  # a wait is to be the server's doing
            seed=seed,
        )
    )
    thread.join()
    if failed:
        raise failed[0]
    return Blip(side=side, number=seed, wanted_ms=refused_ms, refused_ms=1000 * took_s[0], outcome=outcome)


def interrupted_s(admin_url: str, database: str, *, refused_ms: int) -> float:
    """End all sessions of a database, and refuse new ones for so long; for how many seconds it really was."""
    allow = sql.SQL("ALTER DATABASE {} ALLOW_CONNECTIONS {}").format
    with closing(psycopg2.connect(admin_url)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            if refused_ms:
                cursor.execute(allow(sql.Identifier(database), sql.Literal(False)))
            try:
                cursor.execute("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = %s", (database,))
                began_s = time.monotonic()
                time.sleep(refused_ms / 1000)  # how long it is away is what is measured
            finally:
                cursor.execute(allow(sql.Identifier(database), sql.Literal(True)))
    return time.monotonic() - began_s


def error_rate(timeline: Sequence[Sequence[int]], *, blip_at_s: float) -> list[tuple[float, float]]:
    """Percent of reads that failed for each step of an Outcome's timeline, by when they were due: seconds after the
    blip. A step without arrivals is left out.
    """
    return [
        (number * TIMELINE_S + TIMELINE_S / 2 - blip_at_s, 100 * failed / (answered + failed))
        for number, (answered, failed) in enumerate(timeline)
        if answered + failed
    ]


def _of(blips: Sequence[Blip], side: str, wanted_ms: int) -> list[Blip]:
    return [blip for blip in blips if (blip.side, blip.wanted_ms) == (side, wanted_ms)]


def _claim(found: Sequence[Blip], rate: float, *, id: str, sentence: str, source: str) -> Claim:  # noqa: A002 - Claim's
    return Claim(
        id=id,
        sentence=sentence,
        source=source,
        measured=(
            f"Reads at {rate:.0f} a second from the shipped service without its cache, so that every one needs "
            f"PostgreSQL. All sessions are ended at once, and new ones refused for {found[0].wanted_ms} ms. Reads that "
            "failed, for each blip."
        ),
        wanted=0,
        values=[blip.outcome.failed for blip in found if not blip.outcome.void],
        better="less",
        unit="failed reads",
        data=[blip.key for blip in found],
        void=[f"blip {blip.number}: {blip.outcome.void}" for blip in found if blip.outcome.void],
    )


def _table(blips: Sequence[Blip]) -> Table:
    rows: list[list[str | float | int | None]] = []
    for wanted_ms in sorted({blip.wanted_ms for blip in blips}):
        both = [_of(blips, side, wanted_ms) for side in (WITHOUT, WITH)]
        failed = [statistics.mean(blip.outcome.failed for blip in found) for found in both]
        longest_ms = [1000 * max(blip.outcome.p(100) for blip in found) for found in both]
        rows.append(
            [
                "sessions ended" if wanted_ms == 0 else f"sessions ended, new ones refused for {wanted_ms} ms",
                len(both[0]), statistics.mean(blip.outcome.count for found in both for blip in found),
                *failed, *longest_ms,
            ]
        )  # fmt: skip
    return Table(
        id="blip",
        title="How long a blip may be",
        columns=(
            "blip", "blips", "reads", f"failed, {WITHOUT}", f"failed, {WITH}", f"longest answer {WITHOUT}, ms",
            f"longest answer {WITH}, ms",
        ),
        rows=rows,
        note=(
            "Failed reads a blip, on the average. The shipped service tries twice more and gives up when 0.8 s are "
            "over, since a database that is really gone must be a 503 within 1 s: a blip of 1 s is not survived."
        ),
    )  # fmt: skip


def _picture(blips: Sequence[Blip], rate: float) -> Curves:
    return Curves(
        id="blip",
        title=f"Reads that fail around a blip of {TRANSIENT_MS} ms",
        x="seconds after the sessions were ended",
        y="% of the reads due then",
        lines=[
            Line(name=side, points=error_rate(found[0].outcome.timeline, blip_at_s=_CALM_S))
            for side in (WITHOUT, WITH)
            if (found := _of(blips, side, TRANSIENT_MS))
        ],
        marks=[(0.0, "sessions ended"), (TRANSIENT_MS / 1000, "new ones let in")],
        note=f"The first blip of each; {rate:.0f} reads a second, in tenths of a second, by when they were due.",
    )
