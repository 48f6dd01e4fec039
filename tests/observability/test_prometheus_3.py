"""The rules as Prometheus 3 reads them, without having it."""

import re
import shutil
from pathlib import Path

import pytest

from tests.observability.promtool import PROMETHEUS, promtool, unit_tests

pytestmark = pytest.mark.slow

_RANGE = re.compile(r"\[(\d+)([smhd])(?=[]:])")
_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def left_open(text: str) -> str:
    """Rules in which each range is a millisecond shorter: so it leaves out the sample at its left edge, as it does in
    Prometheus 3, and nothing else.
    """
    return _RANGE.sub(lambda found: f"[{int(found[1]) * _MS[found[2]] - 1}ms", text)


@pytest.fixture(scope="module")
def rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the directory of rules and tests, with ranges that are open on the left."""
    copy = tmp_path_factory.mktemp("prometheus-3") / "prometheus"
    shutil.copytree(PROMETHEUS, copy)
    for folder in ("rules", "alerts"):
        for path in (copy / folder).glob("*.yml"):
            path.write_text(left_open(path.read_text("utf-8")), "utf-8")
    return copy


def test_ranges_lose_their_left_edge() -> None:
    """Ranges and subqueries are shorter; steps, selectors and durations elsewhere are as they were."""
    assert left_open('rate(a{b="[5m]"}[5m]) + c[1h:30s]') == 'rate(a{b="[299999ms]"}[299999ms]) + c[3599999ms:30s]'
    assert left_open("for: 5m") == "for: 5m"


@pytest.mark.parametrize("path", unit_tests(), ids=lambda path: path.stem)
def test_rules_do_the_same_without_the_left_edge(rules: Path, path: Path) -> None:
    """The unit tests of rules and alerts pass with the ranges of Prometheus 3 as well, to the last figure."""
    promtool("test", "rules", rules / "tests" / path.name)
