"""docs/slow-request.md names what there is. That its queries parse is proved by `make rules`; that each gives data, by
tests/telemetry.
"""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from chassis import logging

ROOT = Path(__file__).resolve().parents[2]
OBSERVABILITY = ROOT / "observability"
PAGE = (ROOT / "docs" / "slow-request.md").read_text()


def _fences(language: str) -> str:
    return "\n".join(re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE))


def test_its_rules_and_alerts_are_there() -> None:
    """Recorded names and the alert are those of the files that Prometheus loads."""
    rules = "".join(path.read_text() for path in (OBSERVABILITY / "prometheus").glob("[ar]*/*.yml"))
    recorded = set(re.findall(r"\bservice:\w+(?::\w+)*", _fences("promql")))
    assert recorded
    assert {name for name in recorded if f"record: {name}\n" not in rules} == set()
    alerts = {name for name in re.findall(r"`([A-Z]\w+)`", PAGE) if f"alert: {name}\n" in rules}
    assert alerts == {"LatencyBudgetBurn", "Watchdog"}


def test_its_metrics_are_there() -> None:
    """The services' own metrics stand in the code that makes them."""
    code = "".join(path.read_text() for path in (ROOT / "chassis" / "src").rglob("*.py"))
    names = set(re.findall(r"\b(?:user|db|process)_\w+(?=\W)", _fences("promql")))
    made = {re.sub(r"^user_|_bucket$", "", name) for name in names}
    assert made == {"http_request_duration_seconds", "db_pool_wait_seconds", "process_cpu_seconds_total"}
    assert {name for name in made if name.removesuffix("_total") not in code} == set()


def test_its_dashboards_and_panels_are_there() -> None:
    """Each uid is that of a dashboard, and each panel that it names is on one of them."""
    boards = [json.loads(path.read_text()) for path in (OBSERVABILITY / "grafana" / "dashboards").rglob("*.json")]
    uids = set(re.findall(r"/d/([\w-]+)", PAGE))
    assert uids == {"storefront-slo", "storefront-service-user", "storefront-logs"}
    assert uids <= {board["uid"] for board in boards}
    titles = {panel["title"] for board in boards if board["uid"] in uids for panel in board["panels"]}
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.DOTALL).replace("\n", " ")
    panels = set(re.findall(r'"([A-Z0-9][^"%]+)"', prose))
    assert len(panels) == 5
    assert panels - titles == set()


@pytest.mark.parametrize("row", re.findall(r"^\| \[([^\]]+\.py)\][^,]*, `(\w+)` ", PAGE, re.MULTILINE), ids=" ".join)
def test_its_functions_are_there(row: tuple[str, str]) -> None:
    """The module has a function of that name."""
    path, name = row
    tree = ast.parse((ROOT / path).read_text())
    assert name in {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


def test_its_log_fields_are_there() -> None:
    """What it greps for is what a request's line has."""
    source = Path(logging.__file__).read_text()
    fields = set(re.findall(r'"(\w+)":', _fences("text"))) | set(re.findall(r"\b\w+(?==\")", _fences("logql")))
    assert {"request_id", "trace_id", "route", "duration_ms"} <= fields
    assert {name for name in fields if f'"{name}"' not in source} == set()
