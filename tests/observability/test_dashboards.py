"""Dashboards as Grafana reads them: the rules of grafana/dashboard-linter, and more that go wrong without a word.

Grafana itself is not asked: what it would take is known from its own types, made from its schema.

Of the linter's rules one does not apply: a templated data source. Data sources are provisioned with fixed uids, so a
dashboard needs no choice of them. The templated job is the service here, as a job is what is scraped.
"""

import configparser
import copy
import itertools
import json
import re
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from observability.grafana.generator.__main__ import DASHBOARDS, made
from observability.grafana.generator.queries import NOT_ASKED_FOR
from observability.grafana.generator.services import SERVICES
from stack.plan import SERVICES as SERVED
from tests.observability.queries import Node, filled, parse

pytestmark = pytest.mark.rules

GRAFANA = DASHBOARDS.parent
OBSERVABILITY = GRAFANA.parent
FILES = sorted(path.relative_to(DASHBOARDS).as_posix() for path in DASHBOARDS.rglob("*.json"))
FORMULA = re.compile(r"[a-z0-9_]+:[a-z0-9_:]+")
DATA_SOURCES = {"prometheus", "loki", "alertmanager"}
EXPECTED = {
    "storefront-slo",
    "storefront-gateway",
    *(f"storefront-service-{service.name}" for service in SERVED),
    "storefront-postgres",
    "storefront-redis",
    "storefront-python",
    "storefront-logs",
    "storefront-load",
    "storefront-monitoring",
    "storefront-runbook",
}
UNITS = {
    *("none", "short", "percentunit", "string", "bool"),
    *("s", "ms", "bytes", "Bps", "dateTimeAsIso"),
    *("cps", "ops", "reqps", "wps", "rps"),
}
MOST_PANELS = 24
OF_NO_INSTANCE = re.compile(
    r'job="(?:node|probe|prometheus|alertmanager|loki|grafana)"|job=~"promtail\|alloy"|service=~"\.\+"'
)
"""Selectors that a choice of instance is not for: what is about everything, or beside the theme of the dashboard."""

each_file = pytest.mark.parametrize("name", FILES)


@cache
def read(name: str) -> dict[str, Any]:
    """The dashboard of a file."""
    dashboard: dict[str, Any] = json.loads((DASHBOARDS / name).read_text("utf-8"))
    return dashboard


def panels(dashboard: dict[str, Any], *, rows: bool = False) -> list[dict[str, Any]]:
    """Its panels; with `rows`, the headings too."""
    return [panel for panel in dashboard["panels"] if rows or panel["type"] != "row"]


def targets(dashboard: dict[str, Any], language: str) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Panels and their queries to one kind of data source, `prometheus` or `loki`."""
    for panel in panels(dashboard):
        for target in panel.get("targets", []):
            if target["datasource"]["type"] == language:
                yield panel, target


@cache
def every_tree() -> dict[str, list[tuple[str, str, Node]]]:
    """Of each file: title of the panel, expression, and syntax tree of every PromQL query. One run of the parser."""
    found = [
        (name, panel["title"], target["expr"]) for name in FILES for panel, target in targets(read(name), "prometheus")
    ]
    parsed = parse("promql", [filled(expr) for *_, expr in found])
    trees: dict[str, list[tuple[str, str, Node]]] = {name: [] for name in FILES}
    for (name, title, expr), result in zip(found, parsed, strict=True):
        assert result.tree is not None, f"{title}: {result.error}: {expr}"
        trees[name].append((title, expr, result.tree))
    return trees


def beneath(tree: Node, name: str, above: tuple[Node, ...] = ()) -> Iterator[tuple[Node, tuple[Node, ...]]]:
    """Nodes of that name, each with the nodes above it, outermost first."""
    if tree.name == name:
        yield tree, above
    for child in tree.children:
        yield from beneath(child, name, (*above, tree))


def functions(above: tuple[Node, ...]) -> set[str]:
    """The functions that a node is an argument of, at whatever depth."""
    return {node.text.partition("(")[0].strip() for node in above if node.name == "FunctionCall"}


def metric_of(selector: Node) -> str:
    """The name of a selector's metric, or the pattern of its name."""
    named = re.search(r'__name__=~"([^"]*)"', selector.text)
    return named[1] if named else selector.text.partition("{")[0]


# --- all of them ---


def test_what_is_committed_is_what_is_made() -> None:
    """`make dashboards` would change nothing, and it makes the same twice."""
    committed = {name: (DASHBOARDS / name).read_text("utf-8") for name in FILES}
    assert made() == committed, "run make dashboards"
    assert made() == made()


def test_every_service_has_its_dashboard_and_every_uid_is_there_once() -> None:
    """Links and alerts go by uid. A service that is served has an entry in `services.py`."""
    found = [read(name)["uid"] for name in FILES]
    assert sorted(found) == sorted(EXPECTED)
    assert [service.name for service in SERVICES] == [service.name for service in SERVED]


def test_titles_differ() -> None:
    """People find dashboards by their titles."""
    assert [title for title, count in Counter(read(name)["title"] for name in FILES).items() if count > 1] == []


# --- one dashboard ---


@each_file
def test_it_is_of_a_form_that_grafana_takes(name: str) -> None:
    """uneditable-dashboard; the last version of the schema; no id that a database gave; no input to be asked for."""
    dashboard = read(name)
    assert dashboard["editable"] is False
    assert dashboard["schemaVersion"] == 42
    assert {"id", "__inputs", "__requires", "gnetId"} & set(dashboard) == set()
    assert "${DS_" not in json.dumps(dashboard)
    assert "storefront" in dashboard["tags"]
    assert dashboard["description"]


def lost(given: Any, kept: Any, path: str) -> Iterator[str]:
    """Where in `given` is what `kept` has not, or has otherwise."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, value in given.items():
            yield from lost(value, kept.get(name), f"{path}.{name}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for number, (ours, theirs) in enumerate(zip(given, kept, strict=True)):
            yield from lost(ours, theirs, f"{path}[{number}]")
    elif given != kept:
        yield f"{path}: {given!r:.60} became {kept!r:.60}"


def through_grafanas_types(dashboard: dict[str, Any]) -> Any:
    """The dashboard read into the types that Grafana's schema was made into, and written again."""
    with warnings.catch_warnings(
        action="ignore", category=DeprecationWarning
    ):  # they have a form of dashboards to come
        from grafana_foundation_sdk.cog.encoder import JSONEncoder
        from grafana_foundation_sdk.cog.plugins import register_default_plugins
        from grafana_foundation_sdk.models.dashboard import Dashboard
    register_default_plugins()
    return json.loads(JSONEncoder().encode(Dashboard.from_json(dashboard)))


@each_file
def test_grafanas_own_types_know_every_field(name: str) -> None:
    """What Grafana does not know it passes over without a word: an option with a slip of the pen does nothing."""
    dashboard = read(name)
    assert list(lost(dashboard, through_grafanas_types(dashboard), name)) == []


def test_a_field_that_grafana_does_not_know_is_found() -> None:
    """In a panel, in its options, in its look, and in its queries."""
    dashboard = copy.deepcopy(read("storefront/slo.json"))
    panel = next(panel for panel in dashboard["panels"] if panel["type"] == "timeseries")
    for place in (panel, panel["options"], panel["fieldConfig"]["defaults"]["custom"], panel["targets"][0]):
        place["slip"] = "of the pen"
    assert len(list(lost(dashboard, through_grafanas_types(dashboard), ""))) == 4


@each_file
def test_panels_are_numbered_placed_and_not_too_many(name: str) -> None:
    """Ids are unique, nothing overlaps or leaves the 24 columns or a hole in them, and one can take it in."""
    everything = panels(read(name), rows=True)
    assert len({panel["id"] for panel in everything}) == len(everything)
    taken: Counter[tuple[int, int]] = Counter()
    for panel in everything:
        place = panel["gridPos"]
        assert place["w"] > 0, panel["title"]
        assert place["h"] > 0, panel["title"]
        assert place["x"] + place["w"] <= 24, panel["title"]
        columns, lines = range(place["x"], place["x"] + place["w"]), range(place["y"], place["y"] + place["h"])
        taken.update(itertools.product(columns, lines))
    assert max(taken.values()) == 1
    assert len(taken) == 24 * (max(line for _, line in taken) + 1), "a hole"
    if name != "storefront/runbook.json":
        assert len(panels(read(name))) <= MOST_PANELS


@each_file
def test_panels_say_what_they_show_and_what_to_do(name: str) -> None:
    """panel-title-description: a title of its own; what good looks like, and what to do when it does not."""
    titles = [panel["title"] for panel in panels(read(name))]
    assert len(set(titles)) == len(titles)
    for panel in panels(read(name)):
        assert panel["title"]
        if panel["type"] != "text":
            good, act = panel["description"].split("\n\n")
            assert good.startswith("**Good:** "), panel["title"]
            assert act.startswith("**If not:** "), panel["title"]


@each_file
def test_panels_have_units(name: str) -> None:
    """panel-units: a unit that Grafana knows, also where one column has its own."""
    for panel in panels(read(name)):
        if panel["type"] == "text":
            continue
        config = panel["fieldConfig"]
        properties = [each for override in config["overrides"] for each in override["properties"]]
        units = [config["defaults"]["unit"], *(each["value"] for each in properties if each["id"] == "unit")]
        assert set(units) <= UNITS, panel["title"]


@each_file
def test_panels_ask_known_data_sources(name: str) -> None:
    """panel-datasource, panel-no-targets: each panel has a query, each query an expression, a letter and a legend."""
    for panel in panels(read(name)):
        if panel["type"] == "text":
            continue
        letters = [target["refId"] for target in panel["targets"]]
        assert letters, panel["title"]
        assert len(set(letters)) == len(letters), panel["title"]
        assert panel["datasource"]["uid"] in DATA_SOURCES
        for target in panel["targets"]:
            assert target["datasource"] == panel["datasource"], panel["title"]
            assert target["expr"].strip(), panel["title"]
            if panel["type"] in ("timeseries", "stat", "state-timeline"):
                assert target["legendFormat"], panel["title"]


@each_file
def test_legends_name_labels_that_are_there(name: str) -> None:
    """A legend of a label that an aggregation has dropped is empty."""
    for title, expr, tree in every_tree()[name]:
        wanted = {
            label
            for panel, target in targets(read(name), "prometheus")
            if panel["title"] == title and target["expr"] == expr
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"])
        }
        outermost = next(iter(beneath(tree, "AggregateExpr")), None)
        if outermost is None or outermost[1][1:] or not wanted:
            continue  # only where the aggregation is all of the expression is it certain which labels are left
        grouping = next(iter(beneath(outermost[0], "GroupingLabels")), None)
        left = set(re.findall(r"\w+", grouping[0].text)) if grouping else set()
        assert wanted <= left, f"{title}: {expr}"


@each_file
def test_variables_are_asked_for_anew_and_used(name: str) -> None:
    """template-on-time-change-reload, template-instance, template-label, template-unused."""
    dashboard = read(name)
    variables = dashboard["templating"]["list"]
    expressions = [target["expr"] for kind in ("prometheus", "loki") for _, target in targets(dashboard, kind)]
    for variable in variables:
        used = re.compile(rf"\$(?:{variable['name']}\b|{{{variable['name']}[:}}])")
        others = [json.dumps(other["query"]) for other in variables if other is not variable]
        assert any(used.search(text) for text in [*expressions, *others]), variable["name"]
        if variable["type"] != "query":
            continue
        assert variable["refresh"] == 2, variable["name"]
        assert variable["datasource"]["uid"] in DATA_SOURCES, variable["name"]
        assert variable["multi"], variable["name"]
        assert variable["includeAll"], variable["name"]
        assert variable["allValue"] == (".*" if variable["name"] == "level" else ".+"), variable["name"]
        assert variable["current"]["value"] == ["$__all"], variable["name"]


@each_file
def test_rates_take_the_interval_that_fits(name: str) -> None:
    """target-rate-interval: counters over $__rate_interval and nothing else; logs over $__auto, or all there is."""
    for title, expr, tree in every_tree()[name]:
        for call in tree.all("FunctionCall"):
            if call.text.startswith(("rate(", "irate(", "increase(")):
                assert "[$__rate_interval]" in expr, title
    for panel, target in targets(read(name), "loki"):
        ranges = re.findall(r"\[([^\]0-9]+?)\]", target["expr"])
        assert set(ranges) <= {"$__auto", "$__range"}, panel["title"]
        assert not re.search(r"\[\d+[smhd]\]", target["expr"]), panel["title"]


@each_file
def test_counters_are_rated_and_buckets_are_quantiles(name: str) -> None:
    """target-counter-agg, target-histogram."""
    for title, expr, tree in every_tree()[name]:
        for selector, above in beneath(tree, "VectorSelector"):
            metric, within = metric_of(selector), functions(above)
            is_idle = "node_cpu_seconds_total" in metric and any(node.text.startswith("count") for node in above)
            if metric.endswith(("_total", "_bucket")) and not metric.startswith(("catalogue_products", "alertm")):
                assert within & {"rate", "irate", "increase"} or is_idle, f"{title}: {expr}"
            if metric.endswith("_bucket"):
                heat = next(panel for panel in panels(read(name)) if panel["title"] == title)["type"] == "heatmap"
                assert "histogram_quantile" in within or heat, f"{title}: {expr}"


@each_file
def test_selectors_say_whose_series_they_mean(name: str) -> None:
    """target-job, target-instance: `process_*` alone would be everybody's, the exporters' and Prometheus' too."""
    chosen = [variable["name"] for variable in read(name)["templating"]["list"]]
    for title, expr, tree in every_tree()[name]:
        for text in {selector.text for selector in tree.all("VectorSelector")}:
            if FORMULA.match(text) or text == "up" or text.startswith("ALERTS"):
                continue
            assert re.search(r"\b(service|job)=", text), f"{title}: {text}"
            if "instance" in chosen and name != "platform/load.json" and not OF_NO_INSTANCE.search(text):
                assert "instance=~" in text, f"{title}: {text} in {expr}"


@each_file
def test_recorded_series_are_recorded(name: str) -> None:
    """A panel on a recording rule that has another name now is empty, and nobody sees why."""
    recorded = {
        rule["record"]
        for path in (OBSERVABILITY / "prometheus" / "rules").glob("*.yml")
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
        if "record" in rule
    }
    for title, _, tree in every_tree()[name]:
        asked = {metric_of(selector) for selector in tree.all("VectorSelector")}
        assert {metric for metric in asked if ":" in metric} <= recorded, title


@each_file
def test_starts_are_marked(name: str) -> None:
    """A deploy, or a crash, is a mark on every dashboard; its time is in milliseconds, as Grafana takes it."""
    if name == "storefront/runbook.json":
        return
    marks = [mark for mark in read(name)["annotations"]["list"] if mark["name"] == "Starts and deploys"]
    assert len(marks) == 1
    assert marks[0]["expr"].startswith("1000 * process_start_time_seconds")
    assert marks[0]["useValueForTime"] is True
    assert marks[0]["datasource"]["uid"] == "prometheus"


@each_file
def test_links_lead_to_dashboards_that_are_there(name: str) -> None:
    """Of panels, of texts, and the list of all dashboards; what they hand over is a variable there."""
    boards = {read(other)["uid"]: read(other) for other in FILES}
    dashboard = read(name)
    assert [(link["type"], link["tags"], link["keepTime"]) for link in dashboard["links"]] == [
        ("dashboards", ["storefront"], True)
    ]
    handed_over = set(re.findall(r"\$\{(\w+):queryparam\}", json.dumps(panels(dashboard))))
    assert handed_over <= {variable["name"] for variable in dashboard["templating"]["list"]}
    for uid, query in re.findall(r"/d/([\w-]+)(?:\?([^)\"\\]*))?", json.dumps(dashboard)):
        assert uid in boards, name
        variables = {variable["name"] for variable in boards[uid]["templating"]["list"]}
        assert set(re.findall(r"var-(\w+)=", query)) <= variables, f"{name}: {uid}?{query}"
        for panel in re.findall(r"viewPanel=panel-(\d+)", query):
            assert int(panel) in {each["id"] for each in boards[uid]["panels"]}


# --- around them ---


def provisioned(kind: str) -> dict[str, Any]:
    """The provisioning file of `datasources` or `dashboards`."""
    document: dict[str, Any] = yaml.safe_load((GRAFANA / "provisioning" / kind / "storefront.yml").read_text("utf-8"))
    return document


def test_data_sources_have_fixed_uids_and_cannot_be_changed() -> None:
    """Dashboards name them. Rates need to know how often Prometheus scrapes."""
    sources = {source["uid"]: source for source in provisioned("datasources")["datasources"]}
    assert set(sources) == DATA_SOURCES
    assert not any(source["editable"] for source in sources.values())
    assert [uid for uid, source in sources.items() if source.get("isDefault")] == ["prometheus"]
    scraped = yaml.safe_load((OBSERVABILITY / "prometheus" / "prometheus.yml").read_text("utf-8"))
    assert sources["prometheus"]["jsonData"]["timeInterval"] == scraped["global"]["scrape_interval"]


def test_ids_in_logs_lead_to_all_lines_of_the_request_and_the_trace() -> None:
    """`$$` is Grafana's escape, without it the id would be an empty environment variable."""
    loki = next(source for source in provisioned("datasources")["datasources"] if source["uid"] == "loki")
    variables = {variable["name"] for variable in read("platform/logs.json")["templating"]["list"]}
    fields = {field["matcherRegex"]: field for field in loki["jsonData"]["derivedFields"]}
    for label in ("request_id", "trace_id"):
        field = fields[f"^{label}$"]
        assert field["matcherType"] == "label"
        assert field["url"].startswith(f"/d/storefront-logs?var-{label}=$${{__value.raw}}")
        assert label in variables


def test_every_dashboard_is_in_a_folder_that_is_provisioned() -> None:
    """A directory that no provider reads is a folder that nobody sees; nothing can be saved over a file."""
    providers = provisioned("dashboards")["providers"]
    read_from = {Path(provider["options"]["path"]).name for provider in providers}
    assert read_from == {Path(name).parent.name for name in FILES}
    assert [provider["folder"] for provider in providers] == ["Storefront", "Stores", "Platform"]
    assert not any(provider["allowUiUpdates"] for provider in providers)


def test_grafana_lets_nobody_in_and_calls_nobody() -> None:
    """No anonymous access, no sign-up, no password in the file; no statistics, updates, avatars or plugins."""
    settings = configparser.RawConfigParser(comment_prefixes=(";",))
    settings.read_string((GRAFANA / "grafana.ini").read_text("utf-8"))
    off = [
        ("auth.anonymous", "enabled"),
        ("users", "allow_sign_up"),
        ("users", "allow_org_create"),
        ("analytics", "reporting_enabled"),
        ("analytics", "check_for_updates"),
        ("analytics", "check_for_plugin_updates"),
        ("news", "news_feed_enabled"),
        ("plugins", "preinstall_auto_update"),
        ("snapshots", "external_enabled"),
    ]
    assert [name for name in off if settings.getboolean(*name)] == []
    on = [("security", "disable_gravatar"), ("plugins", "preinstall_disabled")]
    assert all(settings.getboolean(*name) for name in on)
    assert not [
        key for section in settings.sections() for key in settings[section] if re.search("password|secret", key)
    ]
    home = Path(settings["dashboards"]["default_home_dashboard_path"])
    assert f"{home.parent.name}/{home.name}" in FILES


def test_alerts_lead_to_dashboards_that_are_there() -> None:
    """The link of an alert; `{{ … }}` in it is the service or the job."""
    uids = {read(name)["uid"] for name in FILES}
    for path in (OBSERVABILITY / "prometheus" / "alerts").glob("*.yml"):
        for uid in re.findall(r"/d/([^?\"'\s]+(?:\{\{[^}]*\}\})?)", path.read_text("utf-8")):
            stem, label, _ = uid.partition("{{")
            assert (stem in uids) if not label else any(other.startswith(stem) for other in uids), f"{path.name}: {uid}"


def test_rules_leave_out_what_dashboards_leave_out() -> None:
    """Probes and pages about the service itself; and of the rest what others answer for, which dashboards show."""
    rules = (OBSERVABILITY / "prometheus" / "rules" / "recording.yml").read_text("utf-8")
    assert set(re.findall(r'endpoint!~"([^"]*)"', rules)) == {f"{NOT_ASKED_FOR}|tenant|unmatched"}


def test_every_alert_has_its_panel_in_the_runbook() -> None:
    """The dashboard that alerts' `runbook_url` leads to has the runbook's sections, whole, and links among them."""
    shown = {panel["title"]: panel["options"]["content"] for panel in panels(read("storefront/runbook.json"))}
    alerts = {
        rule["alert"]
        for path in (OBSERVABILITY / "prometheus" / "alerts").glob("*.yml")
        for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
        for rule in group["rules"]
    }
    assert alerts <= set(shown)
    assert not [title for title, content in shown.items() if "](#" in content or "](../" in content]
    written = (OBSERVABILITY / "runbook.md").read_text("utf-8")
    blocks = re.findall(r"^```.*?^```", written, re.DOTALL | re.MULTILINE)
    assert [block for block in blocks if not any(block in content for content in shown.values())] == []
