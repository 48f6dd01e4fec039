"""Choices at the top of dashboards."""

from observability.grafana.generator.model import LOKI, PROMETHEUS, Json, Variable

ALL: Json = {"selected": True, "text": ["All"], "value": ["$__all"]}


def choice(name: str, query: str, *, label: str, several: bool = True) -> Variable:
    """The values of a label in Prometheus, `label_values(…)`; several of them, or all. Anew when the time changes."""
    body: Json = {
        # Not .*: what has no such label is somebody else's, and Loki wants one selector that matches no empty value.
        "allValue": ".+",
        "current": ALL if several else {},
        "datasource": PROMETHEUS,
        "definition": query,
        "hide": 0,
        "includeAll": several,
        "label": label,
        "multi": several,
        "name": name,
        "options": [],
        "query": {"query": query, "refId": "StandardVariableQuery"},
        "refresh": 2,
        "regex": "",
        "skipUrlSync": False,
        "sort": 1,
        "type": "query",
    }
    return Variable(name, body)


def log_choice(name: str, *, label: str, or_none: bool = False) -> Variable:
    """The values of the label `name` in Loki; with `or_none`, all of them is also what has no such label."""
    body = {
        **choice(name, "", label=label).body,
        "allValue": ".*" if or_none else ".+",
        "datasource": LOKI,
        "definition": "",
        "query": {"label": name, "refId": "LokiVariableQueryEditor-VariableQuery", "stream": "", "type": 1},
    }
    return Variable(name, body)


def entry(name: str, *, label: str) -> Variable:
    """A field to type into."""
    empty = {"selected": True, "text": "", "value": ""}
    body = {
        "current": empty,
        "hide": 0,
        "label": label,
        "name": name,
        "options": [empty],
        "query": "",
        "skipUrlSync": False,
        "type": "textbox",
    }
    return Variable(name, body)


SERVICE = choice("service", "label_values(build_info, service)", label="Service")
INSTANCE = choice("instance", 'label_values(build_info{service=~"$service"}, instance)', label="Instance")


def instance_of(metric: str) -> Variable:
    """The instances that have `metric`."""
    return choice("instance", f"label_values({metric}, instance)", label="Instance")
