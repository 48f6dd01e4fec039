"""How cost grows: what is asked, what the report has, and the machinery once on tables that are very small."""

from __future__ import annotations

import itertools
import json
from pathlib import Path

import orjson
import pytest
from rich.progress import Progress

from chassis.testing.tools import require
from loadtest.evidence import scale, scale_clients, scale_products, scale_routes, scale_users
from loadtest.evidence.growth import Series
from loadtest.evidence.sizes import Grown
from loadtest.evidence.stage import Stage, rounds
from loadtest.machine import Cores
from loadtest.stores import running_stores
from loadtest.subjects import Fleet


def test_a_size_that_has_no_room_is_left_out() -> None:
    """Ten million users want some gigabytes; a thousand want what the rest takes."""
    assert scale_users.room_lacks(10_000_000, 100 * 10**9) == ""
    assert "5.0 GB of disk, 4.0 are free" in scale_users.room_lacks(10_000_000, 4 * 10**9)


@pytest.mark.parametrize("size", [10, 1000])
def test_no_query_for_the_first_time_is_a_second_one(size: int) -> None:
    """Products: what the service remembers would be no cost; a word in other letters is another query, found alike."""
    sent: set[bytes] = set()
    for kind in scale_products.kinds():
        if kind.id in ("again", "id"):
            continue
        requests = list(itertools.islice(kind.requests(size), 5 * (kind.at_most + 1)))
        assert len(requests) == len(set(requests)) >= 5 * (1 if kind.id == "first" else kind.at_most), kind.id
        assert not sent & set(requests)
        sent |= set(requests)


def test_made_up_products_are_what_is_looked_for(tmp_path: Path) -> None:
    """Each has a word of its own, and a tenth of them each category."""
    products = orjson.loads(scale_products.write_products(tmp_path / "p.json", 20).read_bytes())
    assert [product["category"] for product in products].count("c3") == 2
    assert sum("xylophone000007" in product["description"] for product in products) == 1


def test_the_part_is_json_with_a_row_a_series() -> None:
    """Every row and every claim names a run that is there."""
    seen = {
        "users": Grown(
            series={"users-first": Series(id="users-first", name="first page", n="users",
                                          costs={10: [1.0] * 5, 100: [9.0] * 5}, why="It is so.")},
            facts={10: {"growing_s": 0.1}, 100: {"growing_s": 0.2}},
            runs={"users-first": {"10": {}, "100": {}}},
            notes=["1,000 users are left out: they want more."],
        ),
        "clients": Grown(
            series={"clients-cpu": Series(id="clients-cpu", name="CPU", n="clients", costs={10: [1.0], 99: [1.0]})},
            facts={10: {"memory_mib": 1.0}, 99: {"memory_mib": 2.0}},
            runs={"clients-cpu": {}},
        ),
    }  # fmt: skip
    part = scale.part(seen)
    found = json.loads(json.dumps(part.record()))
    assert found["claims"][0]["verdict"] == "does not hold"
    assert "It is so." in found["claims"][0]["measured"]
    for keys in [table["data"] for table in found["tables"]] + [claim["data"] for claim in found["claims"]]:
        assert set(keys) <= set(found["runs"])
    users = next(table for table in found["tables"] if table["id"] == "scale-users")
    assert len(users["columns"]) == len(users["rows"][0])
    assert "left out" in users["note"]


@pytest.mark.slow
def test_all_of_it_on_very_small_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every server starts, every answer is what was asked for, and each of the four has its series and its facts."""
    require("wrk")
    for module, sizes in (
        (scale_users, (500, 1000)),
        (scale_products, (10, 200)),
        (scale_routes, (10, 50)),
        (scale_clients, (10, 20)),
    ):
        monkeypatch.setattr(module, "QUICK_SIZES", sizes)
        monkeypatch.setattr(module, "batch_s" if module is not scale_clients else "offered_s", lambda _quick: 0.02)
    with running_stores(tmp_path) as stores, Progress() as progress:
        cores = Cores(server=None, others=None)
        fleet = Fleet(stores=stores, directory=tmp_path, cores=cores)
        try:
            part = scale.measure(
                Stage(
                    stores=stores,
                    directory=tmp_path,
                    cores=cores,
                    progress=progress,
                    task=progress.add_task("scale", total=scale.expected_s(quick=True)),
                    fleet=fleet,
                    quick=True,
                )
            )
        finally:
            fleet.stop()
    claims = [claim for claim in part.claims if claim.id != "scale-clients-rate"]  # its rounds may be void
    assert len(claims) == 6 + 7 + 4 + 1
    assert all(len(claim.values) == rounds(quick=True) for claim in claims)
    json.dumps(part.record())
