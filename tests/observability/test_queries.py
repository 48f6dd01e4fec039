"""Every expression of rules, dashboards and documents, by the grammars of Prometheus' and Grafana's editors."""

import re
from pathlib import Path

import pytest

from tests.observability.queries import (
    NODE,
    Expression,
    every_expression,
    filled,
    of_dashboard,
    parse,
    parse_logql,
    parse_promql,
)

pytestmark = pytest.mark.rules


def test_every_expression_is_parsed() -> None:
    """No rule, panel, annotation, variable or document has an expression that its language does not know."""
    expressions = every_expression()
    assert expressions
    for language in ("promql", "logql"):
        chosen = [found for found in expressions if found.language == language]
        parsed = parse(language, [found.text for found in chosen])
        wrong = [f"{at.where}: {got.error}: {at.raw}" for at, got in zip(chosen, parsed, strict=True) if got.error]
        assert wrong == []


def test_a_wrong_expression_is_refused() -> None:
    """An error says where in the text it is; what is right around it is not held against it."""
    assert parse_promql(["up == 0", "sum(rate(a[5m])", "rate(a[5m]) by (x)", "a >", ""]) == [
        None,
        "character 16: something is missing at the end",
        "character 13: not understood: by (x)",
        "character 4: something is missing at the end",
        "empty",
    ]
    assert parse_logql(['{a="b"} | json | x = "y"', '{a="b"', '{a="b"} |= x'])[0] is None
    assert None not in parse_logql(['{a="b"', '{a="b"} |= x', 'rate({a="b"}[five])', "sum by (x) (up)"])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rate(a[$__rate_interval])", "rate(a[5m])"),
        ("a[${__range}]", "a[1h]"),
        ('{s=~"${service:regex}",i=~"$instance"}', '{s=~"gateway",i=~".+"}'),
        ('{s=~"[[service]]"} |~ "end$"', '{s=~"gateway"} |~ "end$"'),
    ],
)
def test_variables_are_filled_in(text: str, expected: str) -> None:
    """Grafana's own variables get durations, a dashboard's what is given or "All"; a regex's `$` is none."""
    assert filled(text, {"service": "gateway"}) == expected


def test_expressions_are_found_wherever_a_dashboard_has_them(tmp_path: Path) -> None:
    """Panels in rows, annotations and variables are read, each in the language of its own or its panel's source."""
    path = tmp_path / "some.json"
    path.write_text(
        """{"title": "Some", "annotations": {"list": [{"name": "deploys", "expr": "changes(b[1m])"}]},
        "templating": {"list": [{"type": "query", "name": "service", "query": {"query": "label_values(up, service)"}},
          {"type": "query", "name": "x", "datasource": {"uid": "loki"}, "query": "label_values({a=\\"b\\"}, x)"}]},
        "panels": [{"type": "row", "panels": [{"title": "Logs", "datasource": {"type": "loki", "uid": "loki"},
          "targets": [{"refId": "A", "expr": "{a=\\"b\\"}"}]}]}, {"title": "Up", "targets": [{"expr": "up"}]}]}""",
        "utf-8",
    )
    assert {(found.language, found.raw) for found in of_dashboard(path)} == {
        ("promql", "changes(b[1m])"),
        ("promql", "up"),
        ("logql", '{a="b"}'),
    }
    assert of_dashboard(path)[0] == Expression("some.json: Some: deploys", "promql", "changes(b[1m])")


def test_the_lock_file_names_no_place() -> None:
    """The parsers' versions and hashes are pinned; where to get them from is the user's own choice."""
    text = (NODE / "package-lock.json").read_text("utf-8")
    assert "resolved" not in text
    assert re.findall(r"https?://\S+", text) == []
    wanted = set(re.findall(r'"(@[\w/-]+)": "[\d.]+"', (NODE / "package.json").read_text("utf-8")))
    assert wanted == set(re.findall(r'"node_modules/([^"]+)": \{\s+"version": "[\d.]+",\s+"integrity": "sha512-', text))
