"""What rounds, rates and counts become, and when they do not count."""

from __future__ import annotations

import json

import pytest

from loadtest.evidence import blip, memory, rounds, scrape, yardstick
from loadtest.evidence.knee import Step, knee
from loadtest.evidence.scrape import Spent
from loadtest.generator import Load
from loadtest.openloop import Outcome


def outcome(
    *, offered: float = 100.0, answered: float = 60.0, took_s: float = 0.01, failed: int = 0, cpu: float = 0.1
) -> Outcome:
    """An Outcome of one second; `failed` of a hundred arrivals failed, the others took `took_s`."""
    found = Outcome(1.0, offered)
    for number in range(100):
        found.add(503 if number < failed else 200, took_s)
    found.completed = int(answered)
    found.generator_cpu = cpu
    return found


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (outcome(cpu=0.9), "generator used 90%"),
        (outcome(answered=95), "it could do more"),
        (outcome(failed=2), "2 of 100 requests failed"),
    ],
)
def test_a_round_counts_only_if_both_sides_do(bad: Outcome, why: str) -> None:
    """A busy generator, a server with time left and failures say nothing about capacity; the reason is kept."""
    assert rounds.useless(outcome()) == ""
    good, void = rounds.paired([outcome(), bad, outcome()], [outcome(), outcome(), bad])
    assert good == [0]
    assert [reason.partition(": ")[0] for reason in void] == ["round 2", "round 3"]
    assert "before: " in void[0]
    assert "after: " in void[1]
    assert all(why in reason for reason in void)


def test_what_a_pool_saves() -> None:
    """As a part of what a request spent on its connection before, in the same round."""
    before = [Spent(requests=100, seconds=1.0, sessions=100), Spent(requests=50, seconds=1.0, sessions=50)]
    after = [Spent(requests=1000, seconds=0.5, sessions=8), Spent(requests=1000, seconds=0.2, sessions=0)]
    assert rounds.saved(before, after) == pytest.approx([0.95, 0.99])
    assert (before[0].us_per_request, before[0].sessions_per_thousand) == (10_000, 1000)
    assert Spent(requests=0, seconds=0, sessions=0).us_per_request == float("inf")


def step(rate: float, **what: float) -> Step:
    """A Step at that rate."""
    return Step(key=f"at-{rate}", outcome=outcome(offered=rate, **what))  # type: ignore[arg-type]


def test_the_knee_is_the_last_rate_before_answers_come_late() -> None:
    """Late, or failed: more than one in a hundred. A void step is passed over, a good one behind a bad one is luck."""
    assert knee([step(3), step(1), step(2), step(4, took_s=0.2)]) == 3
    assert knee([step(1), step(2, failed=1), step(3, failed=2), step(4)]) == 2
    assert knee([step(1), step(2, took_s=9, cpu=0.9), step(3)]) == 3
    assert knee([step(1, took_s=0.2)]) is None
    assert knee([]) is None


TEXT = """\
# HELP db_pool_wait_seconds Wait for a pooled connection, seconds
# TYPE db_pool_wait_seconds histogram
db_pool_wait_seconds_sum 0.25
db_pool_wait_seconds_count 7.0
db_pool_wait_seconds_bucket{le="0.1"} 7.0
user_http_requests_total{endpoint="users",method="GET",status="200"} 5.0
user_http_requests_total{endpoint="a } b",method="GET",status="404"} 1.5e+1
"""


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("db_pool_wait_seconds_sum", 0.25),
        ("db_pool_wait_seconds", 0),
        ("user_http_requests_total", 20),
        ("db_connect_seconds_sum", 0),
    ],
)
def test_totals_of_a_metric(name: str, value: float) -> None:
    """Over all labels; a name that another begins with is not taken for it."""
    assert scrape.total(TEXT, name) == value
    assert scrape.total(TEXT, "user_http_requests_total", but='endpoint="users"') == 15


def test_slopes_leave_out_the_warm_up() -> None:
    """One for each whole window after the first, between heights on the line; what is too short has none."""
    points = [(0.0, 50.0), (60.0, 80.0), (140.0, 88.0), (260.0, 88.0), (330.0, 95.0)]
    assert memory.at(points, 100) == 84
    assert memory.slopes(points, window=100) == pytest.approx([4.0, 4.0])
    assert memory.slopes(points[:3], window=100) == []
    with pytest.raises(ValueError, match="outside"):
        memory.at(points, 331)


def test_memory_says_when_there_were_too_few_requests() -> None:
    """No slope, no verdict; and a million that was not reached is named."""
    was = [(0.0, 50.0), (1.0, 300.0)]
    few = memory.part(was, was, [(0, 90), (120_000, 95)], [(0, 150), (120_000, 160)], quick=False).record()
    assert few["claims"][0]["verdict"] == "not measured"
    assert "120,000 requests are too few" in few["claims"][0]["measured"]
    assert "did not do 1,000,000" in few["tables"][0]["note"]
    points = [(float(number * 50_000), 90 + number * 0.01) for number in range(21)]
    many = memory.part(was, was, points, points, quick=False).record()
    assert (many["claims"][0]["verdict"], len(many["claims"][0]["values"])) == ("holds", 9)
    assert "did not do" not in json.dumps(many)


def test_memory_says_what_became_of_requests_that_failed() -> None:
    """By status, and by what the generator calls those that have none."""
    was = [(0.0, 50.0), (1.0, 300.0)]
    points = [(0.0, 90.0), (1_000_000.0, 91.0)]
    failed = memory.part(was, was, points, points, failures={"503": 31, "timeouts": 2}, quick=False).record()
    assert "Not answered 200: 31 (503), 2 (timeouts)." in failed["claims"][0]["measured"]


def test_memory_paths_are_of_three_kinds_and_always_the_same() -> None:
    """A page of every kind that is cached, and single users that are not; nothing that is not there."""
    paths = memory.mixed_paths()
    assert paths == memory.mixed_paths()
    assert {path.split("?")[-1].split("=")[0].rstrip("0123456789") for path in paths} == {
        "page", "after", "/api/v1/users/",
    }  # fmt: skip


def test_the_error_rate_is_by_the_time_after_the_blip() -> None:
    """In the middle of each tenth of a second; one without arrivals is no zero."""
    found = blip.error_rate([[10, 0], [5, 5], [0, 0], [0, 4]], blip_at_s=0.1)
    assert found == [pytest.approx((-0.05, 0)), pytest.approx((0.05, 50)), pytest.approx((0.25, 100))]


@pytest.mark.parametrize(
    ("rates", "said"),
    [((1000, 1050, 1100), "quiet"), ((1000, 1100, 1200), "noisy"), ((1000, 1500, 900), "very noisy")],
)
def test_the_machine_in_a_word(rates: tuple[float, ...], said: str) -> None:
    """By the spread of what a bare function answers, which is where the report's own limit lies."""
    closed = [
        Load(requests=int(rate), seconds=1, p50_ms=1, p99_ms=2, max_ms=3, bad_status=0, socket_errors=0, timeouts=0)
        for rate in rates
    ]
    found = yardstick.part(closed, [outcome() for _ in rates]).record()
    assert found["title"] == f"The machine: {said}"
    assert json.loads(json.dumps(found))["tables"][0]["rows"][0][1] == sorted(rates)[1]
