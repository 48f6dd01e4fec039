"""The arithmetic of the bench: a verdict must be able to fail."""

from __future__ import annotations

import io
import json

import pytest
from rich.console import Console

from loadtest.errors import BenchError
from loadtest.generator import Load, parse_report
from loadtest.memory import file_bytes
from loadtest.report import (
    Comparison,
    Limit,
    Verdict,
    all_hold,
    growth,
    judge,
    limits_table,
    rates_table,
    rounds_record,
    spread,
    verdict_record,
)


def load(per_second: float, *, p99_ms: float = 5.0) -> Load:
    """A run of ten seconds at a rate."""
    return Load(
        requests=round(per_second * 10),
        seconds=10.0,
        p50_ms=1.0,
        p99_ms=p99_ms,
        max_ms=9.0,
        bad_status=0,
        socket_errors=0,
        timeouts=0,
    )


def ours_against_theirs(wanted: float | None) -> Comparison:
    """A comparison of two subjects."""
    return Comparison(subject="ours", reference="theirs", wanted=wanted)


def test_a_verdict_holds_at_exactly_what_is_wanted() -> None:
    """A ratio equal to the wanted one holds."""
    verdict = judge(ours_against_theirs(0.5), {"ours": [load(500)], "theirs": [load(1000)]})
    assert verdict.ratio == 0.5
    assert verdict.holds is True


def test_a_verdict_fails_just_below_what_is_wanted() -> None:
    """A ratio that would be rounded up to the wanted one is still a miss."""
    verdict = judge(ours_against_theirs(0.5), {"ours": [load(499)], "theirs": [load(1000)]})
    assert verdict.holds is False
    assert not all_hold([verdict], [])


def test_a_comparison_without_a_demand_has_no_verdict() -> None:
    """What is only shown can neither hold nor be missed."""
    verdict = judge(ours_against_theirs(None), {"ours": [load(1)], "theirs": [load(1000)]})
    assert verdict.holds is None
    assert all_hold([verdict], [])


def test_ratios_are_taken_within_a_round() -> None:
    """A machine that slows down between rounds does not change the ratio, which is the median of the rounds' own."""
    rounds = {
        "ours": [load(2000), load(1000), load(500)],
        "theirs": [load(1000), load(500), load(100)],
    }
    verdict = judge(ours_against_theirs(2.0), rounds)
    assert verdict.ratio == pytest.approx(2.0)
    assert verdict.lowest == pytest.approx(2.0)
    assert verdict.highest == pytest.approx(5.0)


@pytest.mark.parametrize(("ours", "theirs"), [([], []), ([load(1)], [load(1), load(2)])])
def test_uneven_or_missing_rounds_are_refused(ours: list[Load], theirs: list[Load]) -> None:
    """Half a comparison is none."""
    with pytest.raises(ValueError, match="rounds"):
        judge(ours_against_theirs(1.0), {"ours": ours, "theirs": theirs})


def test_a_limit_is_missed_just_above_it() -> None:
    """A limit may be reached, not exceeded, and one missed limit fails the whole."""
    reached = Limit(name="growth", value=0.02, at_most=0.02)
    exceeded = Limit(name="growth", value=0.0201, at_most=0.02)
    assert reached.holds
    assert not exceeded.holds
    assert all_hold([], [reached])
    assert not all_hold([], [reached, exceeded])


def test_a_figure_without_a_limit_is_only_shown() -> None:
    """It can neither hold nor be missed."""
    shown = Limit(name="RSS, summed", value=1e9, at_most=None)
    assert shown.holds is None
    assert all_hold([], [shown])


def test_pages_of_files_are_told_from_anonymous_ones() -> None:
    """Of a file's mappings only what was not written to counts as the file's; heap and stack are nobody's file."""
    smaps = """\
7f0000000000-7f0000100000 r-xp 00000000 fe:00 4711                       /usr/lib/libpython3 (deleted)
Rss:                 900 kB
Pss:                 300 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
7f0000100000-7f0000200000 rw-p 00100000 fe:00 4711                       /usr/lib/libpython3 (deleted)
Rss:                 100 kB
Anonymous:            60 kB
7f0000200000-7f0000300000 rw-p 00000000 00:00 0                          [heap]
Rss:                5000 kB
Anonymous:          5000 kB
7f0000300000-7f0000400000 rw-p 00000000 00:00 0
Rss:                1000 kB
Anonymous:          1000 kB
"""
    assert file_bytes(smaps) == {"/usr/lib/libpython3 (deleted)": 940 * 1024}


def test_growth_and_spread_are_parts_of_the_whole() -> None:
    """Growth is against the earlier figure, spread against the median."""
    assert growth(100.0, 102.0) == pytest.approx(0.02)
    assert growth(100.0, 90.0) == pytest.approx(-0.1)
    assert spread([90.0, 100.0, 110.0]) == pytest.approx(0.2)


def test_wrk_report_is_read_in_its_units() -> None:
    """wrk reports microseconds; the bench shows milliseconds and requests a second."""
    seen = parse_report(
        json.dumps(
            {
                "requests": 5000,
                "duration_us": 2_500_000,
                "p50_us": 1500,
                "p99_us": 9000,
                "max_us": 12_000,
                "bad_status": 3,
                "socket_errors": 0,
                "timeouts": 1,
            }
        )
    )
    assert seen.per_second == pytest.approx(2000)
    assert (seen.p50_ms, seen.p99_ms, seen.max_ms) == (1.5, 9.0, 12.0)
    assert (seen.bad_status, seen.timeouts) == (3, 1)


def test_no_answer_at_all_is_an_error() -> None:
    """A server that answers nothing has no rate; that is no rate of zero."""
    with pytest.raises(BenchError, match="no answer"):
        parse_report('{"requests": 0, "duration_us": 1}')


def test_the_table_names_a_miss() -> None:
    """A reader sees the ratio, what was wanted, and that it was missed."""
    rounds = {"ours": [load(400)], "theirs": [load(1000)]}
    verdict = judge(ours_against_theirs(0.5), rounds)
    out = io.StringIO()
    console = Console(file=out, width=160)
    console.print(rates_table(rounds, [verdict]))
    console.print(limits_table([Limit(name="catalogue", value=130.0, at_most=128.0, unit="MiB")], title="Memory"))
    assert "0.40" in out.getvalue()
    assert ">= 0.5" in out.getvalue()
    assert out.getvalue().count("MISSED") == 2


def test_records_say_what_the_table_says() -> None:
    """The results file carries the verdict and every round."""
    verdict = Verdict(comparison=ours_against_theirs(1.0), ratio=0.99, lowest=0.98, highest=1.2)
    assert verdict_record(verdict)["holds"] is False
    record = rounds_record({"ours": [load(100), load(200), load(300)]})
    assert record["ours"]["median_per_second"] == 200
    assert len(record["ours"]["rounds"]) == 3
