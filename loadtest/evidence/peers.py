"""Our services and our edge beside what others would use, saturated: answers a second, and what an answer costs.

wrk in a closed loop for all of them: the question is what a server can do, and an open-loop generator in Python would
be busier than nginx or Envoy are. What this hides, waiting, is the affair of the other parts.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from loadtest import memory, report
from loadtest.baseline import envoy
from loadtest.bench import CONNECTIONS, one_round
from loadtest.errors import BenchError
from loadtest.evidence.record import Bar, Bars, Claim, Part, Table
from loadtest.evidence.stage import Stage
from loadtest.generator import Load
from loadtest.subjects import COMPARISONS, SUBJECTS, Subject, require_envoy, require_nginx

OURS = ("products", "users-redis", "edge", "edge-hit")
_MIB = 2**20
_START_S = 1.0
_WARM_UP_S = 1.0
_SECONDS = 1.0
"""wrk takes whole seconds. A round is short, and what is judged are five of them."""

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Services: a page of users from Redis, products, and the least that WSGI takes": (
        "users-redis",
        "users-fastapi",
        "products",
        "bare-wsgi",
    ),
    "Gateways in front of the same upstream": (
        "edge",
        "aiohttp-proxy",
        "flask-proxy",
        "envoy-proxy",
        "nginx-proxy",
    ),
    "Answers from a gateway's cache, and the least that ASGI takes": ("edge-hit", "nginx-cache", "bare-asgi"),
}
"""What is compared with what, by the title of its picture."""

WORDS = {
    "users-redis": "our user service, a page from Redis",
    "users-fastapi": "FastAPI, uvicorn, asyncpg: the same page",
    "products": "our catalogue, 12 products",
    "bare-wsgi": "bare WSGI: a ready body, nothing observed",
    "edge": "our gateway",
    "aiohttp-proxy": "a bare ASGI proxy, nothing observed",
    "flask-proxy": "Flask and urllib3 as a proxy",
    "envoy-proxy": "Envoy, one worker thread, no log",
    "nginx-proxy": "nginx, one worker, no log",
    "edge-hit": "our gateway, from its cache",
    "nginx-cache": "nginx, from its cache",
    "bare-asgi": "bare ASGI: a ready body, nothing observed",
}

_BESIDE = {
    "users-redis": "users-fastapi",
    "products": "bare-wsgi",
    "edge": "nginx-proxy",
    "edge-hit": "nginx-cache",
}
_SENTENCES = {
    ("products", "bare-wsgi"): "Products reach half of what a bare WSGI function does",
    ("users-redis", "users-fastapi"): "The user service is no slower than its twin in FastAPI",
    ("edge", "flask-proxy"): "The gateway passes on 2.7 times as much as a proxy in Flask",
    ("edge", "aiohttp-proxy"): "The gateway reaches 0.8 of the least that a proxy in ASGI does",
    ("edge-hit", "bare-asgi"): "An answer from the gateway's cache reaches 0.75 of a bare ASGI function",
}


@dataclass(kw_only=True)
class Seen:
    """What came of one subject: a load a round, and its memory after the last."""

    loads: list[Load] = field(default_factory=list)
    memory: memory.Memory | None = None


def expected_s(quick: bool) -> float:
    """Seconds that `measure` takes, about."""
    warm_up_s = 0.0 if quick else _WARM_UP_S
    return len(WORDS) * (_START_S + warm_up_s + _rounds(quick) * _SECONDS) + 5


def _rounds(quick: bool) -> int:
    """Not the stage's three when it is quick: no claim is decided by fewer than five, and a look needs one."""
    return 1 if quick else 5


def measure(stage: Stage) -> Part:
    """Start all of them, and send to one after another, round by round.

    Raises:
        BenchError: one of ours, or a peer that is there, does not do what it should.
    """
    missing = _missing()
    subjects = [_started(stage, name) for name in WORDS if name not in missing]
    seen = {subject.name: Seen() for subject in subjects}
    for number in range(_rounds(stage.quick)):
        for subject in subjects:
            stage.say(f"peers, round {number + 1}: {subject.name}")
            began_s = time.monotonic()
            warm_up_s = _WARM_UP_S if number == 0 and not stage.quick else 0.0
            first = number == 0  # what is recorded then is recorded later, and to wait for it takes half of a round
            load = one_round(subject, seconds=_SECONDS, warm_up_s=warm_up_s, recorded=first)
            seen[subject.name].loads.append(load)
            stage.progress.advance(stage.task, time.monotonic() - began_s)
    for subject in subjects:
        seen[subject.name].memory = memory.of_tree(subject.server.pid)
    return part(seen, missing)


def _started(stage: Stage, name: str) -> Subject:
    stage.say(f"peers: starting {name}")
    began_s = time.monotonic()
    subject = SUBJECTS[name](stage.fleet)
    subject.check()
    stage.progress.advance(stage.task, time.monotonic() - began_s)
    return subject


def _missing() -> dict[str, str]:
    """The subjects that cannot be measured here, and why."""
    found = {}
    for names, require in ((("nginx-proxy", "nginx-cache"), require_nginx), (("envoy-proxy",), require_envoy)):
        try:
            require()
        except BenchError as error:
            found.update(dict.fromkeys(names, str(error)))
    return found


def part(seen: Mapping[str, Seen], missing: Mapping[str, str]) -> Part:
    """Tables, pictures and verdicts of what was seen; a subject in neither does not appear."""
    return Part(
        name="peers",
        title="Beside its peers",
        claims=_claims(seen),
        tables=[_table(seen, missing)],
        pictures=_pictures(seen),
        runs={name: _record(one) for name, one in seen.items()},
    )


def _table(seen: Mapping[str, Seen], missing: Mapping[str, str]) -> Table:
    rows: list[Sequence[str | float | int | None]] = []
    keys = []
    for name, words in WORDS.items():
        if name in seen:
            loads = seen[name].loads
            held = seen[name].memory
            cpu = statistics.median(load.server_cpu_us for load in loads)
            rows.append(
                (
                    name,
                    words.replace("Envoy", f"Envoy {envoy.version()}".rstrip()),
                    statistics.median(load.per_second for load in loads),
                    report.spread([load.per_second for load in loads]),
                    statistics.median(load.p99_ms for load in loads),
                    cpu,
                    held.once / _MIB if held else None,
                    _ratio(seen, name, _BESIDE.get(name)),
                )
            )
            keys.append(name)
        elif name in missing:
            rows.append((name, f"not measured: {missing[name]}", None, None, None, None, None, None))
            keys.append("")
    return Table(
        id="peers",
        title="Answers a second and what they cost, one worker on one core",
        columns=(
            "subject",
            "what it is",
            "answers/s",
            "spread",
            "p99 ms",
            "CPU s per million",
            "MiB",
            "times its peer",
        ),
        rows=rows,
        data=keys,
        note=(
            f"Saturated by wrk, one thread, {CONNECTIONS} kept connections, a closed loop: an open-loop generator in "
            "Python would be busier than nginx and Envoy are. Medians of interleaved rounds; the spread is the highest "
            "less the lowest, over the median. CPU seconds are those of the server and its children for a million "
            "answers. MiB is memory after the last round, master and workers together, shared pages counted once; it "
            "does not grow with answers (see memory). Times its peer: "
            + ", ".join(f"{own} / {peer}" for own, peer in _BESIDE.items())
            + ", within a round. nginx and Envoy do less than our gateway: no log, no metrics by route, no keys, "
            "limits or ids."
        ),
    )


def _ratio(seen: Mapping[str, Seen], own: str, peer: str | None) -> float | None:
    return statistics.median(_ratios(seen, own, peer)) if peer in seen and peer is not None else None


def _ratios(seen: Mapping[str, Seen], own: str, peer: str) -> list[float]:
    pairs = zip(seen[own].loads, seen[peer].loads, strict=True)
    return [mine.per_second / theirs.per_second for mine, theirs in pairs]


def _claims(seen: Mapping[str, Seen]) -> list[Claim]:
    return [
        Claim(
            id=f"peers-{one.subject}-{one.reference}",
            sentence=_SENTENCES.get((one.subject, one.reference), f"{one.subject} beside {one.reference}"),
            source="contract",
            measured=(
                f"Answers a second of {WORDS[one.subject]}, over those of {WORDS[one.reference]}, in the same round; "
                f"saturated by {CONNECTIONS} kept connections, one worker on one core"
            ),
            wanted=one.wanted,
            values=_ratios(seen, one.subject, one.reference),
            data=(one.subject, one.reference),
        )
        for one in COMPARISONS
        if one.wanted is not None and one.subject in seen and one.reference in seen
    ]


def _pictures(seen: Mapping[str, Seen]) -> list[Bars]:
    pictures = []
    for number, (title, names) in enumerate(GROUPS.items()):
        there = [name for name in names if name in seen]
        for kind, unit, values in (
            ("rates", "answers a second", {name: [load.per_second for load in seen[name].loads] for name in there}),
            (
                "cpu",
                "CPU seconds for a million answers",
                {name: [load.server_cpu_us for load in seen[name].loads] for name in there},
            ),
        ):
            pictures.append(
                Bars(
                    id=f"peers-{kind}-{number}",
                    title=title,
                    unit=unit,
                    bars=[Bar(name=WORDS[name], values=values[name]) for name in there],
                )
            )
    return pictures


def _record(one: Seen) -> dict[str, object]:
    return {
        "rounds": [
            {
                "per_second": round(load.per_second, 1),
                "requests": load.requests,
                "seconds": round(load.seconds, 3),
                "p50_ms": load.p50_ms,
                "p99_ms": load.p99_ms,
                "max_ms": load.max_ms,
                "cpu_s_per_million": round(load.server_cpu_us, 2),
            }
            for load in one.loads
        ],
        "memory_mib": None
        if one.memory is None
        else {"once": round(one.memory.once / _MIB, 1), "rss_sum": round(one.memory.rss_sum / _MIB, 1)},
    }
