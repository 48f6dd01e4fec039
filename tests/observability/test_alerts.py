"""What every alert has, whoever wrote it."""

import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.observability.promtool import alert_files, rule_files, unit_tests

pytestmark = pytest.mark.rules

DASHBOARDS = Path(__file__).parents[2] / "observability" / "grafana" / "dashboards"
_RECORDED = re.compile(r"(?<![\w:])[a-zA-Z_]\w*:[\w:]+")


def _rules(kind: str) -> list[dict[str, Any]]:
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in rule_files()]
    groups = [group for document in documents for group in document["groups"]]
    return [rule for group in groups for rule in group["rules"] if kind in rule]


ALERTS = _rules("alert")
NAMES = sorted({rule["alert"] for rule in ALERTS})


@cache
def _expected() -> list[tuple[str, list[dict[str, str]]]]:
    """(alert, labels of what is expected) of every check of an alert in the unit tests."""
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in unit_tests()]
    tests = [test for document in documents for test in document["tests"]]
    checks = [check for test in tests for check in test.get("alert_rule_test", [])]
    return [
        (check["alertname"], [alert.get("exp_labels") or {} for alert in check.get("exp_alerts") or []])
        for check in checks
    ]


def test_there_are_alerts() -> None:
    """The files are where the other tests look for them."""
    assert len(alert_files()) >= 4
    assert len(NAMES) >= 30


@pytest.mark.parametrize("name", NAMES)
def test_alerts_say_what_to_do(name: str) -> None:
    """An alert has a severity that has a receiver, says what it means, and leads to its section and to a dashboard."""
    for rule in (rule for rule in ALERTS if rule["alert"] == name):
        assert rule["labels"]["severity"] in {"critical", "warning", "none"}
        notes = rule["annotations"]
        assert notes.keys() == {"summary", "description", "runbook_url", "dashboard_url"}
        assert len(notes["summary"]) <= 80 + notes["summary"].count("{{") * 20
        assert notes["description"].endswith(".")
        assert notes["runbook_url"] == f"{{{{ $externalLabels.runbook }}}}#{name.lower()}"
        assert notes["dashboard_url"].startswith("{{ $externalLabels.grafana }}/d/storefront-")


def test_links_choose_what_their_dashboard_lets_one_choose() -> None:
    """A `var-x` of a link to a dashboard is a variable of that dashboard, which would be passed over otherwise."""
    boards = [json.loads(path.read_text(encoding="utf-8")) for path in DASHBOARDS.rglob("*.json")]
    variables = {board["uid"]: {variable["name"] for variable in board["templating"]["list"]} for board in boards}
    links = [rule["annotations"]["dashboard_url"].partition("/d/")[2].partition("?") for rule in ALERTS]
    assert any(query for _, _, query in links)
    for link, _, query in links:
        pattern = re.compile(re.sub(r"\{\{.*\}\}", ".+", link))  # storefront-service-{{ … }}: one for each service
        uids = [uid for uid in variables if pattern.fullmatch(uid)]
        assert uids, link
        assert [uid for uid in uids if not variables[uid].issuperset(re.findall(r"var-(\w+)=", query))] == []


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"Watchdog"}))
def test_alerts_are_shown_silent(name: str) -> None:
    """A unit test gives it no reason to fire, and it does not."""
    assert [] in [labels for alert, labels in _expected() if alert == name]


@pytest.mark.parametrize("name", NAMES)
def test_alerts_are_shown_firing(name: str) -> None:
    """A unit test makes it fire, each of the alerts of that name by itself: other severities, other burn rates."""
    fired = [labels for alert, batch in _expected() if alert == name for labels in batch]
    for rule in (rule for rule in ALERTS if rule["alert"] == name):
        fixed = {label: text for label, text in rule["labels"].items() if "{{" not in text}
        assert any(labels.items() >= fixed.items() for labels in fired), fixed


def test_what_rules_read_is_recorded() -> None:
    """A name with a colon, in any expression of a rule, is one that a rule records."""
    recorded = {rule["record"] for rule in _rules("record")}
    expressions = [rule["expr"] for rule in [*_rules("record"), *ALERTS]]
    read = {name for text in expressions for name in _RECORDED.findall(re.sub(r'"[^"]*"', "", text))}
    assert read - recorded == set()
    assert "service:http_requests:rate5m" in read
