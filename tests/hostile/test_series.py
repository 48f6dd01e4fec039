"""Ten thousand made-up paths, methods, tenants, keys and hosts: metrics and memory stay as they were."""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter

import pytest

from tests.hostile.stage import SERVICES, Stage
from tests.hostile.talk import all_of
from tests.promises import Promise

pytestmark = pytest.mark.hostile

REQUESTS = 10_000 if not os.environ.get("LONG") else 100_000
BATCH = 100
MARK = "zqx"
"""In every word that is made up here."""
MOST_SERIES = 5000
"""Of one service. What is bounded by routes, methods and statuses is far less."""
MORE_SERIES = 100
"""That may come to be in the second half: a status, or a bucket, that no request had met."""
MORE_BYTES = 32 * 1024 * 1024


def word(dice: random.Random) -> str:
    """A word that has never been used."""
    return f"{MARK}{dice.randrange(16**8):08x}"


def request(dice: random.Random, key: str) -> bytes:
    """A request in which nearly everything is new; well formed, so that the connection stays."""
    made = [word(dice) for _ in range(4)]
    paths = (
        f"/{made[0]}", f"/{made[0]}/{made[1]}?{made[2]}={made[3]}", f"/api/products/{made[0]}", f"/s/{made[0]}",
        f"/t/{made[0]}/{made[1]}/{made[2]}", f"/t/storefront/{made[0]}/",
        f"/static/{made[0]}.css", f"/qr/{made[0]}.svg",
        f"/api/v1/users/{made[0]}", f"/api/v1/links/{made[0]}", f"/api/v1/routes/{made[0]}", f"/{made[0]}/docs",
        f"/api/products?q={made[0]}",
        f"/api/v1/routes/resolve?tenant={made[0]}&service={made[1]}&env=prod&version={made[2]}",
        f"/health/{made[0]}", f"/metrics/{made[0]}",
    )  # fmt: skip
    method = dice.choice(["GET"] * 6 + ["POST", "DELETE", f"{MARK.upper()}{dice.randrange(10**6)}"])
    fields = {
        "Host": f"{made[0]}.example",
        "X-API-Key": dice.choice([key, key, f"sf_{made[3]}"]),
        "X-Route-Env": dice.choice(["prod", made[1]]),
        "X-Route-Version": dice.choice(["v1", made[2]]),
        "X-Route-Key": made[3],
        "User-Agent": made[0],
        f"X-{made[1]}": made[2],
        "Content-Length": "0",
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in fields.items())
    return f"{method} {dice.choice(paths)} HTTP/1.1\r\n{head}\r\n".encode()


async def answers(port: int, requests: list[bytes]) -> Counter[int]:
    """The statuses of requests that are sent behind one another on one connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    found: Counter[int] = Counter()
    try:
        for data in requests:
            writer.write(data)
            head = await reader.readuntil(b"\r\n\r\n")
            found[int(head[9:12])] += 1
            length = next(
                (int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: ")), 0
            )
            await reader.readexactly(length)
    finally:
        writer.close()
    return found


def flood(port: int, dice: random.Random, key: str, count: int) -> Counter[int]:
    """Send so many made-up requests, eight at a time."""
    batches = [[request(dice, key) for _ in range(BATCH)] for _ in range(count // BATCH)]

    async def one(batch: list[bytes]) -> Counter[int]:
        return await answers(port, batch)

    return sum(all_of(one, batches, at_once=8), Counter())


def series(stage: Stage, service: str) -> list[str]:
    """The names and labels that a service exposes."""
    lines = stage.exposition(service).splitlines()
    return [line.rpartition(" ")[0] for line in lines if line and not line.startswith("#")]


@pytest.mark.parametrize("service", SERVICES)
def test_made_up_words_make_no_series(stage: Stage, promise: Promise, service: str) -> None:
    """The first half may show a service what there is; the second shows it nothing new."""
    dice = random.Random(8)
    count = REQUESTS if service == "gateway" else REQUESTS // 4
    watch = stage.watch()
    statuses = flood(stage.port(service), dice, stage.keys["admin"], count // 2)
    before, bytes_before = series(stage, service), stage.rss_bytes(service)
    statuses += flood(stage.port(service), dice, stage.keys["admin"], count // 2)
    after, grown = series(stage, service), stage.rss_bytes(service) - bytes_before
    named = [line for line in after if MARK in line.lower()]
    what = f"{count} made-up requests at {service}"
    promise(
        what, f"no more than {MOST_SERIES} series, and none new in the second half",
        f"{len(before)}, then {len(after)}; {dict(statuses)}",
        holds=len(after) <= MOST_SERIES and len(after) - len(before) <= MORE_SERIES,
    )  # fmt: skip
    promise(what, "no label from a request", f"{len(named)} series", holds=not named)
    promise(
        what,
        f"less than {MORE_BYTES >> 20} MiB more in the second half",
        f"{grown / 2**20:.1f} MiB",
        holds=grown < MORE_BYTES,
    )
    stage.settle()
    errors, traces = watch.server_errors(), watch.tracebacks()
    promise(
        what, "no 5xx, no traceback", f"{len(errors)} 5xx, {len(traces)} tracebacks", holds=not errors and not traces
    )
    assert not named + errors + traces, "\n".join((named + errors + traces)[:30])
