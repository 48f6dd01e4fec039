"""What became of the writes: looked up in PostgreSQL once everything is whole again, and held against the answers.

A write that was answered with success is acknowledged: it is there, once. One that was not is there once or not at all,
and nobody can tell when it came to be: also after its answer, or after the writes of others that began later.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from tests.faults.stage import Stage
from tests.faults.traffic import WRITES, Request, Traffic


@dataclass
class History:
    """What was found.

    Attributes:
        written: writes that were sent, `acknowledged` those of them that were answered with success.
        lost, doubled, undone, stale: writes, and reads that said what was not so any more, a line each.
        again: sign-ups that were not answered, sent again with their key; `refused` those that still were not.
        clicks: how many there are now that there were not before.
    """

    written: int = 0
    acknowledged: int = 0
    lost: list[str] = field(default_factory=list)
    doubled: list[str] = field(default_factory=list)
    undone: list[str] = field(default_factory=list)
    stale: list[str] = field(default_factory=list)
    again: int = 0
    refused: list[str] = field(default_factory=list)
    clicks: int = 0


@dataclass(frozen=True)
class Before:
    """What was stored before a run.

    Attributes:
        versions: of each member, to which every change adds one.
        clicks: of all links.
    """

    versions: dict[str, int]
    clicks: int


def now(stage: Stage) -> Before:
    """What is stored."""
    rows = stage.query("user", "SELECT id, version FROM users WHERE id = ANY (%s)", stage.members)
    stage.ask(
        "GET", f"/api/v1/links/{stage.codes[0]}"
    )  # before it is answered, all clicks are stored that wait in Valkey
    ((clicks,),) = stage.query("links", "SELECT sum(clicks)::bigint FROM links")
    return Before({str(user_id): version for user_id, version in rows}, clicks)


def check(stage: Stage, traffic: Traffic, before: Before) -> History:
    """Hold the answers to a run against what is stored."""
    writes = [one for one in traffic.requests if one.kind in WRITES and one.sent_s is not None]
    found = History(len(writes), sum(request.fine for request in writes))
    _send_again(stage, [one for one in writes if one.kind == "sign-up" and not one.fine], found)
    for kind, counted in COUNTED.items():
        counts = Counter(counted(stage, traffic.run))
        for request in writes:
            if request.kind == kind:
                times = counts.pop(request.subject, 0)
                if times > 1:
                    found.doubled.append(f"{kind} {request.subject}: {times} times")
                elif times == 0 and request.fine:
                    found.lost.append(f"{kind} {request.subject}")
        found.doubled += [f"{kind} {subject}: never asked for" for subject in counts]
    after = now(stage)
    _check_changes(stage, traffic, writes, before, after, found)
    found.clicks = after.clicks - before.clicks
    found.stale += _stale_reads(traffic.requests)
    return found


def _send_again(stage: Stage, requests: Iterable[Request], found: History) -> None:
    """As a client does that got no answer. All of them are acknowledged afterwards."""
    for request in requests:
        new = {"username": request.subject, "email": f"{request.subject}@example.com"}
        answer = stage.ask("POST", "/api/v1/users", new, Idempotency_Key=f"key-{request.subject}")
        found.again += 1
        if answer.status != 201:
            found.refused.append(f"sign-up {request.subject}: {answer.status} {answer.body}")


def _accounts(stage: Stage, run: str) -> Iterator[str]:
    for (name,) in stage.query("user", "SELECT username FROM users WHERE username LIKE %s", f"{run}-%"):
        yield name


def _links(stage: Stage, run: str) -> Iterator[str]:
    for (code,) in stage.query("links", "SELECT code FROM links WHERE code LIKE %s", f"{run}-%"):
        yield code


def _routes(stage: Stage, run: str) -> Iterator[str]:
    """Each with exactly one line of history; a route with another number of lines counts as often as it has lines."""
    rows = stage.query(
        "gateway",
        "SELECT service, (SELECT count(*) FROM routes_history WHERE route_id = id) FROM routes WHERE service LIKE %s",
        f"{run}-%",
    )
    for service, events in rows:
        yield from [service] * events


COUNTED: dict[str, Callable[[Stage, str], Iterator[str]]] = {
    "sign-up": _accounts,
    "shorten": _links,
    "route": _routes,
}
"""What is stored of the writes of a kind, each as often as it is."""


def _check_changes(
    stage: Stage, traffic: Traffic, writes: Sequence[Request], before: Before, after: Before, found: History
) -> None:
    names = dict(stage.query("user", "SELECT id, full_name FROM users WHERE id = ANY (%s)", stage.members))
    for member in map(str, stage.members):
        changes = [one for one in writes if one.kind == "change" and one.subject == member]
        last = next((one for one in changes if traffic.name(one.number) == names[int(member)]), None)
        check_member(member, changes, times=after.versions[member] - before.versions[member], last=last, found=found)


def check_member(member: str, changes: Sequence[Request], *, times: int, last: Request | None, found: History) -> None:
    """Add to `found` what is wrong with the changes of one member.

    Args:
        changes: that were sent.
        times: how often the member was changed.
        last: the one of which the result is there; None: it is that of none of them.
    """
    sure = [one for one in changes if one.fine]
    if times < len(sure):
        found.lost.append(f"change of member {member}: {len(sure)} were acknowledged, {times} were made")
    if times > len(changes):
        found.doubled.append(f"change of member {member}: {len(changes)} were sent, {times} were made")
    if last is None and sure:
        found.lost.append(f"change of member {member}: what is there is older than the run")
    elif last is not None and last.fine:
        later = [one for one in sure if one.due_s > last.ended_s]
        found.undone += [f"change {one.number} of member {member} by the older {last.number}" for one in later]


def _stale_reads(requests: Sequence[Request]) -> Iterator[str]:
    """Reads of a member, alone or on a page, that say what was before a change that was answered when they began."""
    changes: dict[str, list[tuple[float, int]]] = {}
    version_of: dict[str, int | None] = {}
    for one in requests:
        if one.kind == "change":
            name, version = json.loads(one.request.partition(b"\r\n\r\n")[2])["full_name"], None
            if one.fine:
                version = _version(one.header("ETag"))
                changes.setdefault(one.subject, []).append((one.ended_s, version))
            version_of[name] = version
    for one in requests:
        if one.kind == "user" and one.fine:
            least = _least(changes.get(one.subject, ()), one.due_s)
            if _version(one.header("ETag")) < least:
                yield f"read {one.number} of member {one.subject}: {one.header('ETag')}, after version {least}"
        elif one.kind == "users" and one.fine:
            for user in one.json()["users"]:
                least = _least(changes.get(str(user["id"]), ()), one.due_s)
                version = version_of.get(str(user["full_name"]), 0)  # 0: from before the run; None: who knows
                if version is not None and version < least:
                    yield f"page {one.number}, member {user['id']}: version {version}, after version {least}"


def _least(changes: Sequence[tuple[float, int]], began_s: float) -> int:
    return max((version for ended_s, version in changes if ended_s < began_s), default=0)


def _version(etag: str) -> int:
    return int(etag.strip('"').partition("-")[2])
