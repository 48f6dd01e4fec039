"""How figures in documents are made from results: which result, and in which words."""

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


def readme(before: str, results: Path) -> str:
    """A README with those results."""
    return figures.filled(figures.README, before, results)


def write(results: Path, name: str, result: dict[str, Any], **changes: object) -> None:
    """A result of that name."""
    (results / name).write_text(json.dumps(result | changes), "utf-8")


def evidence() -> dict[str, Any]:
    """Only the parts that a result can have without wishing anybody ill."""
    found = record()
    return found | {"parts": found["parts"][:2]}


def test_nothing_committed_is_said(results: Path) -> None:
    """Both kinds say so, and which verb makes one."""
    made = readme(EMPTY, results)
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
    made = readme(EMPTY, results)
    assert "[all of it](loadtest/results/2026-11-30-0123456789.json)" in made
    assert "[All of it](loadtest/results/2026-11-29-aaaaaaaaaa-bench.json)" in made
    assert "older" not in made
    assert readme(made, results) == made


@pytest.mark.parametrize("changes", [{"quick": True}, {"complete": False}])
def test_a_look_is_no_result(results: Path, changes: dict[str, bool]) -> None:
    """What was run quickly or in part never gets into the README, however new it is."""
    write(results, "2026-11-30-0123456789-quick.json", evidence(), **changes)
    assert readme(EMPTY, results).count("No result is committed yet") == 2


def test_every_claim_is_shown_with_its_verdict(results: Path) -> None:
    """What does not hold stands out; what nobody measured has no figures."""
    write(results, "2026-11-30-0123456789.json", evidence())
    (results / "2026-11-30-0123456789.html").touch()
    made = readme(EMPTY, results)
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
    shown = readme(EMPTY, results)
    assert "| holds |" not in shown
    assert "**does not hold**" in shown
    assert "3 more claims hold; the report has them." in shown


def test_a_sentence_makes_no_table_of_its_own(results: Path) -> None:
    """Bars, lines and tags in a claim stay in its cell."""
    made = evidence()
    made["parts"][0]["claims"][0]["sentence"] = "a | b\n<script>"
    write(results, "2026-11-30-0123456789.json", made)
    assert r"| a \| b &lt;script> | ≥ 10× |" in readme(EMPTY, results)


@pytest.mark.parametrize("mark", ["<!-- evidence -->", "<!-- end of figures -->"])
def test_a_readme_without_a_place_is_an_error(results: Path, mark: str) -> None:
    """Rather than one without figures."""
    with pytest.raises(ValueError, match="has no lines"):
        readme(EMPTY.replace(mark, ""), results)


SIZING = {
    "kind": "sizing",
    "taken_at": "2026-11-30T10:11:12+00:00",
    "commit": "0123456789",
    "quick": False,
    "complete": True,
    "machine": {"cores": 4, "processor": "Some Processor", "python": "3.11.7"},
    "in_time": {"percent": 99.0, "within_ms": 100.0},
    "pods": [
        {
            "service": "catalogue", "workers": 2, "cpu_limit": 0.5, "memory_limit_mib": 512, "knee_per_second": 1234.4,
            "most_per_second": 1400.2, "knee_cpus": 0.449, "rest_mib": 97.4, "peak_mib": 120.6,
        },
        {
            "service": "user", "workers": 2, "cpu_limit": 0.5, "memory_limit_mib": 512, "knee_per_second": None,
            "most_per_second": 400.0, "knee_cpus": None, "rest_mib": 90.0, "peak_mib": 110.0,
        },
    ],
}  # fmt: skip
PLACE = "# k8s\n<!-- sizing -->\nold\n<!-- end of sizing -->\nend\n"


def test_the_sizing_is_in_the_document_about_kubernetes(results: Path) -> None:
    """A row a pod, with its limits beside what it uses; a pod whose answers were never in time has no figure there."""
    write(results, "2026-11-30-0123456789-sizing.json", SIZING)
    write(results, "2026-11-29-aaaaaaaaaa-bench.json", BENCH)
    write(results, "2026-11-30-0123456789.json", evidence())
    made = figures.filled(figures.KUBERNETES, PLACE, results)
    assert "`make sizing`, 2026-11-30, commit `0123456789`: 4 cores (Some Processor)" in made
    assert "99 % are answered within 100 ms" in made
    assert "[All of it](../loadtest/results/2026-11-30-0123456789-sizing.json)" in made
    rows = [line for line in made.splitlines() if line.startswith("| ")][1:]
    assert rows == [
        "| catalogue, 2 workers | 1,234 | 1,400 | 0.45 of 0.5 | 97 MiB | 121 MiB | 512 MiB |",
        "| user, 2 workers | – | 400 | – | 90 MiB | 110 MiB | 512 MiB |",
    ]
    assert figures.filled(figures.KUBERNETES, made, results) == made
    assert "`make sizing`" not in readme(EMPTY, results)


@pytest.mark.parametrize("changes", [{"quick": True}, {"complete": False}])
def test_a_look_at_pods_is_no_sizing(results: Path, changes: dict[str, bool]) -> None:
    """What was run quickly or in part never gets into the document."""
    write(results, "2026-11-30-0123456789-sizing-quick.json", SIZING, **changes)
    made = figures.filled(figures.KUBERNETES, PLACE, results)
    assert "No result is committed yet: run `make sizing`." in made
    assert "old" not in made
