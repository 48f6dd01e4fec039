"""What is promised of every fault, held against what happened: rows of the table."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import AbstractContextManager

from tests.faults.course import BUSY_MACHINE_S, FALLBACK_S, LONG, P99_RATIO, ROUNDS, Course, under_fault
from tests.faults.percentiles import ratio
from tests.faults.signals import Heard, Signal, Watch
from tests.faults.stage import DEADLINE_S, POOL_SIZE, Stage
from tests.faults.traffic import KINDS, Request
from tests.promises import Promise

TURNED_AWAY = (503, 504)
FALLBACK_WAIT_S = 0.25
"""What a dead or hung database may cost a request for products."""
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
    watch: Watch | None = None,
    signal: Signal | None = None,
    unaffected: Collection[str] = (),
    falling_back: Collection[str] = (),
    late: Collection[str] = (),
    within_s: float = DEADLINE_S,
    killed: bool = False,
    refusing: bool = False,
    counting: bool = True,
) -> list[Course]:
    """Do it, once or (LONG) several times, and judge. Returns what happened each time.

    Args:
        name: of the fault, in the table.
        fault: a context manager that does it when it is entered, and ends its cause when it is left.
        seconds: how long it lasts.
        back_s: how soon after its end everything must be as before.
        watch, signal: who must hear of it while it lasts, and what; neither where nobody need be told.
        unaffected: the kinds of requests (`traffic.KINDS`) that must not notice.
        falling_back: kinds that are answered all the same, after a short look at what is not there.
        late: kinds that are answered all the same, before their deadline.
        within_s: how soon whoever is turned away must be. Those are all other kinds.
        killed: whether what was sent before may get no answer at all, as whoever would give it is dead.
        refusing: whether nobody may be there to connect to.
        counting: whether every click on a link that was followed must have been counted, once.
    """
    heard = Heard(signal) if signal else None
    courses = [
        under_fault(
            stage,
            watch.told(heard, fault()) if watch and heard else fault(),
            seconds=seconds,
            back_s=back_s,
            seed=number,
        )
        for number in range(1, ROUNDS + 1)
    ]
    _judge_writes(promise, name, courses)
    if counting:
        _judge_clicks(promise, name, courses)
    turned_away = [kind for kind in KINDS if kind not in (*unaffected, *falling_back, *late)]
    if turned_away:
        _judge_turned_away(promise, name, courses, turned_away, within_s=within_s, killed=killed, refusing=refusing)
    if falling_back:
        _judge_fallback(promise, name, courses, falling_back, wait_s=FALLBACK_WAIT_S)
    if late:
        _judge_fallback(promise, name, courses, late, wait_s=DEADLINE_S)
    if unaffected:
        _judge_unaffected(promise, name, courses, unaffected)
    _judge_after(promise, name, courses, back_s)
    if heard:
        heard.say(promise, name)
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


def _judge_clicks(promise: Promise, name: str, courses: Sequence[Course]) -> None:
    sent = [one for course in courses for one in course.requests if one.kind == "follow"]
    followed, clicks = sum(one.fine for one in sent), sum(course.history.clicks for course in courses)
    unknown = len(sent) - followed
    # A server that hangs, and has not said that it took a click, may take it yet. It is counted again, so none is lost.
    # So may an instance that died before it answered: the gateway asked the other one.
    doubtful = sum(POOL_SIZE * max(0, course.cache_losses) + max(0, course.sent_again) for course in courses)
    promise(
        name,
        "every click is counted once; twice at most what Valkey, or an instance, was being told when it was lost",
        f"{followed} links followed, {clicks} clicks"
        + (f", {unknown} without an answer" if unknown else "")
        + (f", {doubtful} at most in doubt" if doubtful else ""),
        holds=followed <= clicks <= len(sent) + doubtful,
    )


def _judge_turned_away(
    promise: Promise,
    name: str,
    courses: Sequence[Course],
    kinds: Collection[str],
    *,
    within_s: float,
    killed: bool,
    refusing: bool,
) -> None:
    met, wrong = list[Request](), list[Request]()
    for course in courses:
        for one in course.during(kinds):
            met.append(one)
            was_cut = killed and one.status == 0 and one.sent_s is not None and one.sent_s <= course.struck_s
            was_refused = refusing and one.status == 0 and one.sent_s is None
            if not (one.fine or _is_turned_away(one) or was_cut or was_refused):
                wrong.append(one)
    ways = ["as always", "503 with Retry-After", "504"]
    ways += ["none if it was sent before"] * killed + ["none if nobody was there"] * refusing
    promise(
        name,
        f"answers to {_listed(kinds)}: {', '.join(ways)}",
        f"{len(met)} requests: {_statuses(met)}{_shown(map(_described, wrong))}",
        holds=bool(met) and not wrong,
    )
    if within_s < DEADLINE_S:
        away_s = max((one.took_s for one in met if not one.fine), default=0.0)
        holds = away_s < within_s + BUSY_MACHINE_S
        promise(name, f"whoever is turned away is within {within_s:g} s", f"{away_s:.2f} s", holds=holds)


def _judge_fallback(
    promise: Promise, name: str, courses: Sequence[Course], kinds: Collection[str], *, wait_s: float
) -> None:
    met = [one for course in courses for one in course.during(kinds)]
    failed = [one for one in met if not one.fine]
    longest_s = max((one.took_s for one in met), default=0.0)
    promise(
        name,
        f"{_listed(kinds)}: answered all the same, none waits longer than {wait_s:g} s",
        f"{len(met)} requests, {len(failed)} errors, {longest_s:.2f} s{_shown(map(_described, failed))}",
        holds=bool(met) and not failed and longest_s < wait_s + BUSY_MACHINE_S,
    )


def _judge_unaffected(promise: Promise, name: str, courses: Sequence[Course], kinds: Collection[str]) -> None:
    met = [one for course in courses for one in course.during(kinds)]
    failed = [one for one in met if not one.fine]
    promise(
        name,
        f"{_listed(kinds)}: go on",
        f"{len(met)} requests, {len(failed)} errors{_shown(map(_described, failed))}",
        holds=bool(met) and not failed,
    )
    p99 = ratio(courses, kinds)
    void = [course.void for course in courses if course.void]
    promise(
        name,
        f"{_listed(kinds)}: p99 at most {P99_RATIO:g} times that before",
        f"{p99 or 'the machine was busy all the time'}" + (f" (which says little: {void[0]})" if void else ""),
        holds=p99.at_most(P99_RATIO) if LONG and p99 and not void else None,
    )


def _judge_after(promise: Promise, name: str, courses: Sequence[Course], back_s: float) -> None:
    longest_s = max(one.took_s for course in courses for one in course.requests)
    promise(
        name,
        f"no request takes longer than its deadline, {DEADLINE_S:g} s",
        f"{longest_s:.2f} s",
        holds=longest_s < DEADLINE_S + 2 * BUSY_MACHINE_S,  # before it is read, the kernel and the load keep it
    )
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


def _shown(lines: Iterable[str]) -> str:
    found = list(lines)
    more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
    return f"; {'; '.join(found[:SHOWN])}{more}" if found else ""
