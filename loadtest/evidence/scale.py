"""How cost grows: with users in the table, products in memory, routes at the edge, and clients that stay connected."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from loadtest.evidence import growth, scale_clients, scale_products, scale_routes, scale_users
from loadtest.evidence.record import Curves, Line, Part, Table
from loadtest.evidence.sizes import Grown
from loadtest.evidence.stage import Stage

_PARTS = {
    "users": ("Users in the table", scale_users),
    "products": ("Products in memory", scale_products),
    "routes": ("Routes in the registry", scale_routes),
    "clients": ("Clients that stay connected", scale_clients),
}
_ALONE = (
    "Nothing is cached but where it says so. Milliseconds: median over the rounds of the median of a round, and the "
    "99th percentile of all requests. "
)
_NOTES = {
    "users": _ALONE + "One table, grown step by step, without Redis; one request after another over one connection. "
    "A table of 1,000 users with a service of its own is asked in the same rounds, and all is scaled by that: these "
    "are the times of a machine as fast at all sizes as it was in the middle; those that were read are in the data.",
    "products": _ALONE
    + "A catalogue for each size, from a file. What is asked for the first time is asked in another way each time, "
    "because the service remembers answers; an order is sorted once, when it is first asked for. The file is read "
    "twice at the start, and each product is checked.",
    "routes": _ALONE
    + "A gateway and a database for each size, one tenant a route, all leading to one bare upstream; without Redis, so "
    "a change elsewhere is seen by the next question to PostgreSQL, every half second; these "
    "changes come just after one, which is the worst moment. While routes change, a "
    "worker copies its table and writes it to disk once a second, in a thread: linear, but behind the requests.",
    "clients": (
        f"At a set rate ({scale_clients.PER_SECOND:.0f} a second, an open loop) all but a few of the connections are "
        "idle; saturated, wrk asks over all of them at once, and a request waits for all those before it: its time is "
        "the number of clients over the rate: what can grow is the CPU time of an answer. Requests in flight are "
        "unlimited here; by default more than 512 are turned away."
    ),
}
_FACTS = {
    "growing_s": "filling, s",
    "disk_mib": "on disk, MiB",
    "start_s": "start, s",
    "memory_mib": "memory, MiB",
    "seen_s": "a change elsewhere is seen after, s",
    "per_second": "answers/s, saturated",
    "p50_ms": "p50 ms, saturated",
    "p99_ms": "p99 ms, saturated",
    "not_200": "not answered 200",
}
_LINEAR = "memory_mib", "start_s", "growing_s", "disk_mib"


def expected_s(quick: bool) -> float:
    """Seconds that `measure` takes, about."""
    return float(sum(module.expected_s(quick) for _, module in _PARTS.values()))


def measure(stage: Stage) -> Part:
    """All four, one after another.

    Raises:
        BenchError: a server does not do what it should.
    """
    return part({n: module.measure(stage) for n, (_, module) in _PARTS.items()})


def part(seen: dict[str, Grown]) -> Part:
    """Tables, pictures and verdicts of what was seen, by what it grows with."""
    series = {n: list(found.series.values()) for n, found in seen.items()}
    tables = [_summary([one for these in series.values() for one in these])]
    pictures: list[Curves] = []
    for n, found in seen.items():
        title = _PARTS[n][0]
        sizes = list(found.facts)
        tables.append(
            Table(
                id=f"scale-{n}",
                title=title,
                columns=growth.columns(n, sizes),
                rows=growth.rows(series[n], sizes),
                data=[one.id for one in series[n]],
                note=" ".join([_NOTES[n], *found.notes]),
            )
        )
        tables.append(_facts(n, title, found))
        pictures.append(growth.picture(f"scale-{n}", title, series[n]))
    pictures.append(_memory(seen))
    return Part(
        name="scale",
        title="How cost grows",
        claims=[one.claim() for these in series.values() for one in these],
        tables=tables,
        pictures=pictures,
        runs={key: run for found in seen.values() for key, run in found.runs.items()},
    )


def _summary(series: Sequence[growth.Series]) -> Table:
    return Table(
        id="scale",
        title="How cost grows, in a word",
        columns=("what", "n", "from", "to", "ms at first", "ms at last", "exponent", "it grows", "why"),
        rows=[
            (
                one.name,
                one.n,
                *(f"{int(size):,}" for size in (one.points[0][0], one.points[-1][0])),
                one.points[0][1],
                one.points[-1][1],
                one.exponent,
                one.word,
                one.why or None,
            )
            for one in series
            if one.points
        ],
        data=[one.id for one in series if one.points],
        note=(
            "The exponent is the slope of log cost over log n at the two greatest sizes: 0 is flat, 1 linear. "
            f"Flat: less than {growth.FLAT_UP_TO} times the first over the whole range. Other words go by the exponent "
            f"of what comes on top of the first cost. {growth.RULE}"
        ),
    )


def _facts(n: str, title: str, found: Grown) -> Table:
    names = list(next(iter(found.facts.values()), {}))
    rows: list[list[Any]] = [[f"{size:,}", *(facts.get(name) for name in names)] for size, facts in found.facts.items()]
    note = (
        "Filling, starting, memory and disk grow with what there is to hold, linearly; no request pays for it."
        if set(names) & set(_LINEAR) and n != "clients"
        else f"Memory is that of the gateway with all connections open{_each(found)}."
    )
    columns = [n, *map(_FACTS.__getitem__, names)]
    return Table(id=f"scale-{n}-beside", title=f"{title}: what else grows", columns=columns, rows=rows, note=note)


def _each(found: Grown) -> str:
    """What one connection more takes, by the first and the last size."""
    sizes = [(size, facts["memory_mib"]) for size, facts in found.facts.items()]
    if len(sizes) < 2:
        return ""
    (few, before), (many, after) = sizes[0], sizes[-1]
    return f": {(after - before) * 1024 / (many - few):.1f} KiB a connection"


def _memory(seen: dict[str, Grown]) -> Curves:
    lines = []
    for n, found in seen.items():
        points = [(float(size), facts["memory_mib"]) for size, facts in found.facts.items() if "memory_mib" in facts]
        if points:
            lines.append(Line(name=n, points=points))
    return Curves(
        id="scale-memory", title="Memory of one worker and its master", x="products, routes, clients", y="MiB",
        lines=lines, log_x=True, log_y=True,
    )  # fmt: skip
