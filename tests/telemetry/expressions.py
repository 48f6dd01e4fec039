"""Every PromQL expression of rules, alerts, dashboards and documents, asked of a Prometheus that has seen it all."""

import math
import re
from collections.abc import Iterator

from tests.observability.faster import faster
from tests.observability.queries import Expression, Node, every_expression, parse
from tests.telemetry.stage import Stage

SEED = """
rate(catalogue_http_requests_total[5m])
rate(catalogue_http_request_duration_seconds_sum[5m]) / rate(catalogue_http_request_duration_seconds_count[5m])
rate(catalogue_http_requests_total{status="500"}[5m])
catalogue_db_connection_status
catalogue_products_total
process_resident_memory_bytes
process_resident_memory_bytes{app="catalogue"}
histogram_quantile(0.95, rate(catalogue_http_request_duration_seconds_bucket[5m]))
"""
"""What operators of the catalogue have asked for years."""

ABSENT = {
    r'job=~?"((loki|promtail|alloy|grafana)\|?)+"|\b(loki|promtail|alloy|grafana)_': "comes with Compose alone",
    r"^ALERTS\b": "nothing has been wrong for as long as an alert waits",
    r"^probe_ssl_": "nothing here has a certificate",
}
"""Selectors that cannot have data here, and why."""

_COMPARISONS = ("Eql", "Neq", "Gtr", "Lss", "Gte", "Lte")


def check_seed(stage: Stage) -> list[str]:
    """The old queries give data."""
    return [text for text in SEED.strip().splitlines() if not _has_data(stage, text)]


def check_recorded(stage: Stage) -> list[str]:
    """Prometheus has evaluated every rule without an error, and every recorded name is there."""
    rules = stage.rules()
    wrong = [f"{rule['name']}: {rule.get('lastError')}" for rule in rules if rule["health"] != "ok"]
    names = {rule["name"] for rule in rules if rule["type"] == "recording"}
    return wrong + [f"{name}: nothing is recorded" for name in sorted(names) if not stage.query(name)]


def check_delivery(stage: Stage) -> list[str]:
    """Alertmanager has the alert that always fires."""
    names = [alert["labels"]["alertname"] for alert in stage.alerts()]
    return [] if "Watchdog" in names else [f"Alertmanager has {names}"]


def check_expressions(stage: Stage) -> list[str]:
    """Each gives data; where a healthy system has nothing to say, each of its selectors does."""
    expressions = [found for found in every_expression() if found.language == "promql"]
    trees = parse("promql", [found.text for found in expressions])
    wrong = []
    for expression, parsed in zip(expressions, trees, strict=True):
        assert parsed.tree is not None, f"{expression.where}: {parsed.error}"
        if not _has_data(stage, faster(expression.text)):
            wrong += [f"{expression.where}: {reason}" for reason in _silent(stage, expression, parsed.tree)]
    return wrong


def _silent(stage: Stage, expression: Expression, tree: Node) -> Iterator[str]:
    """What of an expression without data should have some."""
    selectors = {selector.text for selector in tree.all("VectorSelector")}
    expected = {text for text in selectors if not any(re.search(pattern, text) for pattern in ABSENT)}
    empty = sorted(text for text in expected if not stage.query(text))
    if empty:
        yield f"no series: {', '.join(empty)}"
    elif expected == selectors and not _may_be_silent(expression, tree):
        yield f"no data: {expression.text}"


def _may_be_silent(expression: Expression, tree: Node) -> bool:
    """Alerts are silent where nothing is wrong, and so is what compares."""
    return expression.where.startswith("alerts/") or any(any(tree.all(name)) for name in _COMPARISONS)


def _has_data(stage: Stage, text: str) -> bool:
    """Whether there is a number in the answer."""
    return any(not math.isnan(float(series["value"][1])) for series in stage.query(text))
