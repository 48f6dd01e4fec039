"""The gate: what slo.yml may say, and that each kind of limit can be broken."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from loadtest import slo
from loadtest.endpoints import Endpoint
from loadtest.gate import Check, Measured, holds, judge, table
from loadtest.slo import Limits, Slo, SloError

FINE = Measured(requests=600, failures=0, p95_ms=20, p99_ms=50)
LIMITS = Limits(p95_ms=20, p99_ms=50, error_rate=0.01, per_second=10)


def verdict(seen: Measured, limits: Limits = LIMITS, *, seconds: float = 60) -> list[Check]:
    """The checks of one endpoint, and no others."""
    return judge(Slo(Limits(), {Endpoint.HOME: limits}), {Endpoint.HOME: seen}, seen, seconds=seconds)


def test_a_limit_may_be_reached() -> None:
    """All four hold at exactly the limit, and the test with them."""
    checks = verdict(Measured(requests=600, failures=6, p95_ms=20, p99_ms=50))
    assert [(check.limit, check.holds) for check in checks] == [
        ("p95 <= 20 ms", True),
        ("p99 <= 50 ms", True),
        ("failed <= 1 %", True),
        ("rate >= 10/s", True),
    ]
    assert holds(checks)


@pytest.mark.parametrize(
    ("seen", "broken"),
    [
        (Measured(600, 0, 21, 50), "p95 <= 20 ms"),
        (Measured(600, 0, 20, 51), "p99 <= 50 ms"),
        (Measured(600, 7, 20, 50), "failed <= 1 %"),
        (Measured(599, 0, 20, 50), "rate >= 10/s"),
    ],
)
def test_each_limit_can_be_broken(seen: Measured, broken: str) -> None:
    """A little beyond is beyond, and one broken limit fails the whole."""
    checks = verdict(seen)
    assert [check.limit for check in checks if not check.holds] == [broken]
    assert not holds(checks)


def test_what_is_not_limited_is_not_judged() -> None:
    """An endpoint with one limit has one line."""
    checks = verdict(Measured(1, 1, 9e9, 9e9), Limits(per_second=0))
    assert [check.limit for check in checks] == ["rate >= 0/s"]


@pytest.mark.parametrize("seen", [{}, {str(Endpoint.HOME): Measured(0, 0, 0, 0)}])
def test_nobody_asked_is_a_failure(seen: dict[str, Measured]) -> None:
    """A scenario that stopped asking must not pass because nothing was slow."""
    checks = judge(Slo(Limits(), {Endpoint.HOME: LIMITS}), seen, FINE, seconds=60)
    assert checks == [Check("GET /", "is asked", "never", holds=False)]


def test_a_url_as_a_name_is_a_failure() -> None:
    """An entry that no scenario has named is a URL that slipped in."""
    slo_, seen = Slo(Limits(), {Endpoint.HOME: LIMITS}), {str(Endpoint.HOME): FINE, "GET /s/x4Tq9aB": FINE}
    assert [check.endpoint for check in judge(slo_, seen, FINE, seconds=60) if not check.holds] == ["GET /s/x4Tq9aB"]


def test_all_requests_have_limits_too() -> None:
    """`all` is judged by the total, whatever the endpoints are like."""
    total = Measured(1000, 500, 20, 50)
    checks = judge(Slo(LIMITS, {Endpoint.HOME: LIMITS}), {str(Endpoint.HOME): FINE}, total, seconds=60)
    assert [(check.endpoint, check.measured) for check in checks if not check.holds] == [
        ("all", "50.00 % (500 of 1000)")
    ]


def test_a_run_of_no_time_has_no_rate() -> None:
    """And nothing is divided by zero: neither by the time nor by the requests."""
    assert not holds(verdict(FINE, seconds=0))
    assert Measured(0, 0, 0, 0).error_rate == 0
    assert not holds([])


def test_the_table_says_all() -> None:
    """Endpoint, limit, measured, holds, with the endpoint once."""
    assert table(verdict(Measured(600, 0, 21, 50), Limits(p95_ms=20, p99_ms=50))).splitlines() == [
        "endpoint  limit         measured  holds",
        "GET /     p95 <= 20 ms     21 ms  NO",
        "          p99 <= 50 ms     50 ms  yes",
    ]


def test_the_limits_that_are_shipped_are_of_every_endpoint() -> None:
    """No endpoint of the scenarios goes without a limit of times and errors."""
    shipped = slo.read()
    assert set(shipped.endpoints) == set(Endpoint)
    for limits in (shipped.all, *shipped.endpoints.values()):
        assert limits.p95_ms
        assert limits.p99_ms
        assert limits.p95_ms <= limits.p99_ms
        assert limits.error_rate is not None
        assert limits.error_rate <= 0.001


@pytest.mark.parametrize(
    ("document", "complaint"),
    [
        (None, "the file: names with values are wanted, not None"),
        ([], "the file: names with values are wanted"),
        ({"endpoint": {}}, "'endpoint' is unknown: there are `all` and `endpoints`"),
        ({"all": {"p95_ms": 1}}, "endpoints: at least one is wanted"),
        ({"endpoints": {"GET /nowhere": {"p95_ms": 1}}}, "'GET /nowhere' is no endpoint of the scenarios"),
        (
            {"endpoints": {"GET /": {"p90_ms": 1}}},
            "GET /: 'p90_ms' is unknown: there are p95_ms, p99_ms, error_rate",
        ),
        ({"endpoints": {"GET /": {"p95_ms": "fast"}}}, "GET /: p95_ms: a number from 0 is wanted, not 'fast'"),
        ({"endpoints": {"GET /": {"p95_ms": True}}}, "GET /: p95_ms: a number from 0 is wanted, not True"),
        ({"endpoints": {"GET /": {"p95_ms": float("nan")}}}, "GET /: p95_ms: a number from 0 is wanted, not nan"),
        ({"endpoints": {"GET /": {"per_second": -1}}}, "GET /: per_second: a number from 0 is wanted, not -1"),
        ({"endpoints": {"GET /": {"error_rate": 5}}}, "GET /: error_rate: a share from 0 to 1 is wanted, not 5"),
        ({"endpoints": {"GET /": {}}}, "GET /: at least one limit is wanted"),
        ({"endpoints": {"GET /": None}}, "GET /: names with values are wanted, not None"),
    ],
)
def test_a_mistake_is_named(document: Any, complaint: str) -> None:
    """What cannot be judged is an error that says where, what it got and what it wants."""
    with pytest.raises(SloError) as error:
        slo.parse(document)
    assert str(error.value).startswith(complaint)


@pytest.mark.parametrize(
    ("text", "complaint"), [(None, "No such file"), ("endpoints: [", "expected the node"), ("a: 1", "'a' is unknown")]
)
def test_a_bad_file_is_named(tmp_path: Path, text: str | None, complaint: str) -> None:
    """One line with the file's name, whether it is missing, no YAML or wrong."""
    file = tmp_path / "slo.yml"
    if text is not None:
        file.write_text(text)
    with pytest.raises(SloError, match=complaint) as error:
        slo.read(file)
    assert str(file) in str(error.value)
    assert "\n" not in str(error.value)
