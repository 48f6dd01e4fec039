"""How the README's figures are made from results: which result, and in which words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from loadtest.tests.evidence_sample import record
from scripts import figures

BENCH = json.loads(next(figures.RESULTS.glob("*-bench.json")).read_text("utf-8"))
EMPTY = """# storefront
<!-- evidence -->
old
<!-- end of evidence -->
and
<!-- figures -->
<!-- end of figures -->
end
"""


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """A folder of results, as deep below its README as the real one."""
    folder = tmp_path / "loadtest" / "results"
    folder.mkdir(parents=True)
    return folder


def write(results: Path, name: str, result: dict[str, Any], **changes: object) -> None:
    """A result of that name."""
    (results / name).write_text(json.dumps(result | changes), "utf-8")


def evidence() -> dict[str, Any]:
    """Only the parts that a result can have without wishing anybody ill."""
    found = record()
    return found | {"parts": found["parts"][:2]}


def test_nothing_committed_is_said(results: Path) -> None:
    """Both kinds say so, and which verb makes one."""
    made = figures.readme(EMPTY, results)
    assert made.count("No result is committed yet") == 2
    assert "`make evidence`" in made
    assert "`make bench`" in made
    assert "old" not in made
    assert made.endswith("\nend\n")


def test_each_kind_is_found_beside_the_other(results: Path) -> None:
    """And the newest of each, by when it was taken."""
    write(results, "2026-11-30-0123456789.json", evidence())
    write(results, "2026-12-01-0000000000.json", evidence(), commit="older", taken_at="2026-11-01T00:00:00+00:00")
    write(results, "2026-11-29-aaaaaaaaaa-bench.json", BENCH)
    made = figures.readme(EMPTY, results)
    assert "[all of it](loadtest/results/2026-11-30-0123456789.json)" in made
    assert "[All of it](loadtest/results/2026-11-29-aaaaaaaaaa-bench.json)" in made
    assert "older" not in made
    assert figures.readme(made, results) == made


@pytest.mark.parametrize("changes", [{"quick": True}, {"complete": False}])
def test_a_look_is_no_result(results: Path, changes: dict[str, bool]) -> None:
    """What was run quickly or in part never gets into the README, however new it is."""
    write(results, "2026-11-30-0123456789-quick.json", evidence(), **changes)
    assert figures.readme(EMPTY, results).count("No result is committed yet") == 2


def test_every_claim_is_shown_with_its_verdict(results: Path) -> None:
    """What does not hold stands out; what nobody measured has no figures."""
    write(results, "2026-11-30-0123456789.json", evidence())
    (results / "2026-11-30-0123456789.html").touch()
    made = figures.readme(EMPTY, results)
    assert "2026-11-30, commit `0123456789`: 4 cores" in made
    assert "[the report](loadtest/results/2026-11-30-0123456789.html)" in made
    rows = [line for line in made.splitlines() if line.startswith("| ")][1:]
    assert len(rows) == 7
    assert rows[0] == (
        "| A pool of connections makes a page of users ten times as fast | ≥ 10× | 12.0× | 10.9× to 13.1× | holds |"
    )
    assert rows[1].endswith("| ≥ 0.8× | 0.710× | 0.690× to 0.740× | **does not hold** |")
    assert rows[3].endswith("| ≥ 1× |  |  | **too noisy to say** |")
    assert rows[4].endswith("| ≤ 1,024 MiB |  |  | **not measured** |")


def test_what_makes_no_headline_is_shown_if_it_does_not_hold(results: Path) -> None:
    """The claims that hold are counted, so that a long list does not hide the others."""
    made = evidence()
    for part in made["parts"]:
        for claim in part["claims"]:
            claim["headline"] = False
    write(results, "2026-11-30-0123456789.json", made)
    shown = figures.readme(EMPTY, results)
    assert "| holds |" not in shown
    assert "**does not hold**" in shown
    assert "3 more claims hold; the report has them." in shown


def test_a_sentence_makes_no_table_of_its_own(results: Path) -> None:
    """Bars, lines and tags in a claim stay in its cell."""
    made = evidence()
    made["parts"][0]["claims"][0]["sentence"] = "a | b\n<script>"
    write(results, "2026-11-30-0123456789.json", made)
    assert r"| a \| b &lt;script> | ≥ 10× |" in figures.readme(EMPTY, results)


@pytest.mark.parametrize("mark", ["<!-- evidence -->", "<!-- end of figures -->"])
def test_a_readme_without_a_place_is_an_error(results: Path, mark: str) -> None:
    """Rather than one without figures."""
    with pytest.raises(ValueError, match="has no lines"):
        figures.readme(EMPTY.replace(mark, ""), results)
