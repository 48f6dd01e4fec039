"""Grafana's JSON of a dashboard: places, numbers, and what all dashboards have in common."""

from observability.grafana.generator.model import GRAFANA, PROMETHEUS, WIDTH, Board, Json, Panel, Row

SCHEMA_VERSION = 42
"""The last version of this form of dashboards; Grafana 12.2 and 13 write it."""

TAG = "storefront"


def render(board: Board) -> Json:
    """The dashboard as Grafana reads it."""
    return {
        "annotations": {"list": [_grafanas_own(), *_marks(board)]},
        "description": board.description,
        "editable": False,
        "fiscalYearStartMonth": 0,
        "graphTooltip": 1,
        "links": [_ways()],
        "panels": _panels(board.items),
        "refresh": board.refresh,
        "schemaVersion": SCHEMA_VERSION,
        "tags": [TAG, *board.tags],
        "templating": {"list": [variable.body for variable in board.variables]},
        "time": {"from": board.since, "to": "now"},
        "timepicker": {},
        "timezone": "browser",
        "title": board.title,
        "uid": board.uid,
        "version": 1,
        "weekStart": "",
    }


def _panels(items: tuple[Row | Panel, ...]) -> list[Json]:
    """Panels from left to right; one that does not fit begins a line of its own, as does a heading."""
    panels: list[Json] = []
    x = y = line = 0
    for number, item in enumerate(items, start=1):
        if isinstance(item, Row):
            x, y, line = 0, y + line, 0
            panels.append(_heading(item, number, y))
            y += 1
            continue
        if x + item.width > WIDTH:
            x, y, line = 0, y + line, 0
        panels.append(_panel(item, number, x, y))
        x, line = x + item.width, max(line, item.height)
    return panels


def _heading(row: Row, number: int, y: int) -> Json:
    return {
        "collapsed": False,
        "gridPos": {"h": 1, "w": WIDTH, "x": 0, "y": y},
        "id": number,
        "panels": [],
        "title": row.title,
        "type": "row",
    }


def _panel(panel: Panel, number: int, x: int, y: int) -> Json:
    json: Json = {
        "description": panel.description,
        "gridPos": {"h": panel.height, "w": panel.width, "x": x, "y": y},
        "id": number,
        "links": [link.json() for link in panel.links],
        "title": panel.title,
        "type": panel.kind,
        **panel.body,
    }
    if panel.queries:
        json["datasource"] = panel.queries[0].json("A")["datasource"]
        json["targets"] = [query.json(chr(ord("A") + index)) for index, query in enumerate(panel.queries)]
    return json


def _ways() -> Json:
    """The list of all dashboards, at the top right. The time goes along, and so do service and instance."""
    return {
        "asDropdown": True,
        "icon": "external link",
        "includeVars": True,
        "keepTime": True,
        "tags": [TAG],
        "targetBlank": False,
        "title": "Storefront",
        "tooltip": "All dashboards of the storefront",
        "type": "dashboards",
        "url": "",
    }


def _grafanas_own() -> Json:
    return {
        "builtIn": 1,
        "datasource": GRAFANA,
        "enable": True,
        "hide": True,
        "iconColor": "rgba(0, 211, 255, 1)",
        "name": "Annotations & Alerts",
        "type": "dashboard",
    }


def _marks(board: Board) -> list[Json]:
    """A mark where a process started, with what has been running since: a deploy, or a crash."""
    if board.restarts is None:
        return list(board.marks)
    labels = f"{{{board.restarts}}}"
    expr = (
        f"1000 * process_start_time_seconds{labels}"
        f" * on (job, instance) group_left (version, commit) build_info{labels}"
    )
    starts: Json = {
        "datasource": PROMETHEUS,
        "enable": True,
        "expr": expr,
        "hide": False,
        "iconColor": "blue",
        "name": "Starts and deploys",
        "step": "60s",
        "tagKeys": "service,version",
        "target": {"expr": expr, "interval": "60s", "refId": "Anno"},
        "textFormat": "{{instance}} runs commit {{commit}}",
        "titleFormat": "{{service}} {{version}} started",
        "useValueForTime": True,
    }
    return [starts, *board.marks]
