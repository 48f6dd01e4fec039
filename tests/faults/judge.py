"""What is promised of every fault, held against what happened: rows of the table."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager

from tests.faults.course import BUSY_MACHINE_S, FALLBACK_S, LONG, P99_RATIO, ROUNDS, Course, under_fault
from tests.faults.stage import DEADLINE_S, Stage
from tests.faults.traffic import KINDS, Request
from tests.promises import Promise

TURNED_AWAY = (503, 504)
SHOWN = 5
"""So many findings are named; the rest is a number."""


def prove(
    stage: Stage,
    promise: Promise,
    name: str,
    fault: Callable[[], AbstractContextManager[object]],
    *,
    seconds: float,
    back_s: float,
    unaffected: Collection[str],
    slower: Collection[str] = (),
    lost_answers: bool = False,
    within_s: float = DEADLINE_S,
) -> list[Course]:
    """Do it, once or (LONG) several times, and judge. Returns what happened each time.

    Args:
        name: of the fault, in the table.
        fault: a context manager that does it when it is entered, and ends its cause when it is left.
        seconds: how long it lasts.
        back_s: how soon after its end everything must be as before.
        unaffected: the kinds of requests (`traffic.KINDS`) that must not notice.
        slower: those that must not fail either, and may take longer.
        lost_answers: whether requests under way may get no answer at all, as whoever would give it is killed.
        within_s: how soon whoever is turned away must be.
    """
    courses = [
        under_fault(stage, fault(), seconds=seconds, back_s=back_s, seed=number) for number in range(1, ROUNDS + 1)
    ]
    _judge_writes(promise, name, courses)
    _judge_answers(promise, name, courses, {*unaffected, *slower}, lost_answers=lost_answers, within_s=within_s)
    _judge_speed(promise, name, courses, unaffected)
    _judge_after(promise, name, courses, back_s)
    return courses


def _judge_writes(promise: Promise, name: str, courses: Sequence[Course]) -> None:
    histories = [course.history for course in courses]
    written, acknowledged = sum(one.written for one in histories), sum(one.acknowledged for one in histories)
    wrong = {
        word: [line for one in histories for line in getattr(one, word)]
        for word in ("lost", "doubled", "undone", "stale")
    }
    counts = ", ".join(f"{len(wrong[word])} {word}" for word in ("lost", "doubled", "undone"))
    lines = [line for word in ("lost", "doubled", "undone") for line in wrong[word]]
    promise(
        name,
        "no acknowledged write is lost, done twice or undone by an older one",
        f"{acknowledged} of {written} writes acknowledged: {counts}{_shown(lines)}",
        holds=not lines and acknowledged > 0,
    )
    promise(
        name,
        "no read says what was before a change that had been answered",
        f"{len(wrong['stale'])} did{_shown(wrong['stale'])}",
        holds=not wrong["stale"],
    )
    again, refused = sum(one.again for one in histories), [line for one in histories for line in one.refused]
    if again:
        promise(
            name,
            "a sign-up without an answer can be sent again with its key",
            f"{again - len(refused)} of {again} were then acknowledged{_shown(refused)}",
            holds=not refused,
        )


def _judge_answers(
    promise: Promise,
    name: str,
    courses: Sequence[Course],
    unaffected: Collection[str],
    *,
    lost_answers: bool,
    within_s: float,
) -> None:
    affected = [kind for kind in KINDS if kind not in unaffected]
    met = [one for course in courses for one in course.during(affected)]
    wrong = [one for one in met if not one.fine and not _is_turned_away(one) and not (lost_answers and one.status == 0)]
    otherwise = "503 with Retry-After, 504" + (", or none from who was killed" if lost_answers else "")
    if affected:
        promise(
            name,
            f"answers to {_listed(affected)}: as always, or {otherwise}",
            f"{len(met)} requests: {_statuses(met)}{_shown(map(_described, wrong))}",
            holds=bool(met) and not wrong,
        )
    untouched = [one for course in courses for one in course.during(unaffected)]
    failed = [one for one in untouched if not one.fine]
    if unaffected:
        promise(
            name,
            f"{_listed(unaffected)}: go on",
            f"{len(untouched)} requests, {len(failed)} errors{_shown(map(_described, failed))}",
            holds=bool(untouched) and not failed,
        )
    longest_s = max(one.took_s for course in courses for one in course.requests)
    promise(
        name,
        f"no request takes longer than its deadline, {DEADLINE_S:g} s",
        f"{longest_s:.2f} s",
        holds=longest_s < DEADLINE_S + BUSY_MACHINE_S,
    )
    if within_s < DEADLINE_S:
        away_s = max((one.took_s for one in met if not one.fine), default=0.0)
        promise(
            name, f"turned away within {within_s:g} s", f"{away_s:.2f} s", holds=away_s < within_s + BUSY_MACHINE_S
        )  # fmt: skip


def _judge_speed(promise: Promise, name: str, courses: Sequence[Course], unaffected: Collection[str]) -> None:
    if not unaffected:
        return
    ratios = [course.p99_ratio(unaffected) for course in courses]
    void = [course.void for course in courses if course.void]
    promise(
        name,
        f"{_listed(unaffected)}: p99 at most {P99_RATIO:g} times that before",
        f"{statistics.median(ratios):.2f} times" + (f" (said little: {void[0]})" if void else ""),
        holds=statistics.median(ratios) <= P99_RATIO if LONG and not void else None,
    )


def _judge_after(promise: Promise, name: str, courses: Sequence[Course], back_s: float) -> None:
    calm = [one for course in courses for one in course.calm(KINDS) if not one.fine]
    last_s = max(course.back_after_s(KINDS) for course in courses)
    promise(
        name,
        f"everything is answered as before within {back_s:g} s of its end",
        f"last failure after {last_s:.2f} s{_shown(map(_described, calm))}",
        holds=not calm,
    )
    healthy_s = {who: max(course.healthy_s[who] for course in courses) for who in courses[0].healthy_s}
    limit_s = {who: FALLBACK_S if who.startswith("catalogue") else back_s for who in healthy_s}
    promise(
        name,
        f"every service says so within {back_s:g} s, the catalogue within {FALLBACK_S:g} s",
        ", ".join(f"{who} {after_s:.2f} s" for who, after_s in healthy_s.items()),
        holds=all(after_s < limit_s[who] + BUSY_MACHINE_S for who, after_s in healthy_s.items()),
    )
    left = [line for course in courses for line in course.leaks]
    promise(
        name,
        "no slot, thread, file, connection or child is left over",
        f"{len(left)} are{_shown(left)}",
        holds=not left,
    )


def _is_turned_away(one: Request) -> bool:
    return (
        one.status in TURNED_AWAY
        and one.header("Content-Type") == "application/problem+json"
        and (one.status != 503 or one.header("Retry-After").isdigit())
    )


def _described(one: Request) -> str:
    return f"{one.kind} {one.number}: {one.status} after {one.took_s:.2f} s"


def _statuses(requests: Sequence[Request]) -> str:
    counts = Counter("as always" if one.fine else str(one.status or "none") for one in requests)
    return ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))


def _listed(kinds: Collection[str]) -> str:
    return ", ".join(kind for kind in KINDS if kind in kinds)


def _shown(lines: object) -> str:
    found = list(lines)  # type: ignore[call-overload]
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"; {'; '.join(found[:SHOWN])}{more}" if found else ""
