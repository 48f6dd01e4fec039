"""Panels by kind. Each says what good looks like and what to do when it does not look like that."""

from typing import Any

from observability.grafana.generator.model import HALF, THIRD, Json, Link, Panel, Query

Steps = tuple[tuple[float, str], ...]
"""Where a colour begins: ((0.9, "orange"), (1, "red")). Below the first it is green."""


def said(good: str, act: str) -> str:
    """The description of a panel: what good looks like, and what to do otherwise."""
    return f"**Good:** {good}\n\n**If not:** {act}"


def steps_json(steps: Steps, base: str = "green") -> Json:
    """Grafana's thresholds; `base` is the colour below the first."""
    return {
        "mode": "absolute",
        "steps": [{"color": base, "value": None}, *({"color": colour, "value": value} for value, colour in steps)],
    }


def lines(
    title: str,
    unit: str,
    *queries: Query,
    good: str,
    act: str,
    width: int = THIRD,
    height: int = 8,
    steps: Steps = (),
    base: str = "green",
    stacked: bool = False,
    minimum: float | None = 0,
    maximum: float | None = None,
    log_scale: bool = False,
    links: tuple[Link, ...] = (),
) -> Panel:
    """Series over time. `steps` are drawn as lines. What may be negative has no `minimum`."""
    custom: Json = {
        "drawStyle": "line",
        "fillOpacity": 25 if stacked else 8,
        "lineInterpolation": "linear",
        "lineWidth": 1,
        "scaleDistribution": {"type": "log", "log": 10} if log_scale else {"type": "linear"},
        "showPoints": "auto",
        "spanNulls": False,
        "stacking": {"group": "A", "mode": "normal" if stacked else "none"},
        "thresholdsStyle": {"mode": "line" if steps else "off"},
    }
    defaults: Json = {
        "color": {"mode": "palette-classic"},
        "custom": custom,
        "mappings": [],
        "thresholds": steps_json(steps, base),
        "unit": unit,
    }
    if minimum is not None and not log_scale:
        defaults["min"] = minimum
    if maximum is not None:
        defaults["max"] = maximum
    body = {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {
                "calcs": ["mean", "max"],
                "displayMode": "table",
                "placement": "bottom",
                "showLegend": True,
                "sortBy": "Max",  # counters begin at 0, so most series of trouble are flat: what is not comes first
                "sortDesc": True,
            },
            "tooltip": {"hideZeros": False, "mode": "multi", "sort": "desc"},
        },
    }
    return Panel("timeseries", title, said(good, act), queries, width, height, body, links)


def number(
    title: str,
    unit: str,
    *queries: Query,
    good: str,
    act: str,
    width: int = 4,
    height: int = 4,
    steps: Steps = (),
    base: str = "green",
    decimals: int | None = None,
    names: dict[int, tuple[str, str]] | None = None,
    named: bool = False,
    maximum: float | None = None,
    nothing: str = "no data",
    links: tuple[Link, ...] = (),
) -> Panel:
    """The last value, large. `names` puts words and colours for numbers; `named` shows each series' name.

    `nothing` is shown when there is no series.
    """
    defaults: Json = {
        "color": {"mode": "thresholds"},
        "mappings": _named_values(names or {}),
        "noValue": nothing,
        "thresholds": steps_json(steps, base),
        "unit": unit,
    }
    if decimals is not None:
        defaults["decimals"] = decimals
    if maximum is not None:
        defaults |= {"min": 0, "max": maximum}
    body = {
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "colorMode": "value",
            "graphMode": "none" if names else "area",
            "justifyMode": "auto",
            "orientation": "auto",
            "percentChangeColorMode": "standard",
            "reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False},
            "showPercentChange": False,
            "textMode": "value_and_name" if named else "auto",
            "wideLayout": True,
        },
    }
    return Panel("stat", title, said(good, act), queries, width, height, body, links)


def states(
    title: str,
    *queries: Query,
    good: str,
    act: str,
    names: dict[int, tuple[str, str]],
    width: int = THIRD,
    height: int = 8,
    links: tuple[Link, ...] = (),
) -> Panel:
    """What something was, over time: a band for each series, coloured and named by value."""
    body = {
        "fieldConfig": {
            "defaults": {
                "color": {"mode": "thresholds"},
                "custom": {"fillOpacity": 70, "insertNulls": False, "lineWidth": 0, "spanNulls": False},
                "mappings": _named_values(names),
                "thresholds": steps_json(()),
                "unit": "none",
            },
            "overrides": [],
        },
        "options": {
            "alignValue": "left",
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": False},
            "mergeValues": True,
            "rowHeight": 0.85,
            "showValue": "auto",
            "tooltip": {"mode": "single", "sort": "none"},
        },
    }
    return Panel("state-timeline", title, said(good, act), queries, width, height, body, links)


def table(
    title: str,
    unit: str,
    query: Query,
    *,
    good: str,
    act: str,
    columns: dict[str, str],
    sort_by: str | None = None,
    width: int = HALF,
    height: int = 8,
    steps: Steps = (),
    units: dict[str, str] | None = None,
    links: tuple[Link, ...] = (),
) -> Panel:
    """One row a series. `columns` are the labels shown, in this order, and their headings; `Value` is the value.

    `units` gives columns a unit of their own, by heading.
    """
    transformation = {
        "id": "organize",
        "options": {
            "excludeByName": {"Time": True, **({} if "Value" in columns else {"Value": True})},
            "indexByName": {name: position for position, name in enumerate(columns)},
            "renameByName": columns,
        },
    }
    shown = {"id": "filterFieldsByName", "options": {"include": {"names": list(columns)}}}
    overrides = [
        {"matcher": {"id": "byName", "options": heading}, "properties": [{"id": "unit", "value": its}]}
        for heading, its in (units or {}).items()
    ]
    body: Json = {
        "fieldConfig": {
            "defaults": {
                "color": {"mode": "thresholds"},
                "custom": {"align": "auto", "cellOptions": {"type": "auto"}, "filterable": True, "inspect": False},
                "mappings": [],
                "thresholds": steps_json(steps),
                "unit": unit,
            },
            "overrides": overrides,
        },
        "options": {
            "cellHeight": "sm",
            "showHeader": True,
            "sortBy": [{"desc": True, "displayName": sort_by}] if sort_by else [],
        },
        "transformations": [shown, transformation],
    }
    asked = Query(query.expr, query.legend, instant=True, format="table", source=query.source)
    return Panel("table", title, said(good, act), (asked,), width, height, body, links)


def heatmap(
    title: str, query: Query, *, good: str, act: str, width: int = HALF, height: int = 9, links: tuple[Link, ...] = ()
) -> Panel:
    """How many observations fell into each bucket of a histogram of seconds, over time."""
    body = {
        "fieldConfig": {
            "defaults": {
                "custom": {"hideFrom": {"legend": False, "tooltip": False, "viz": False}},
                "thresholds": steps_json(()),
                "unit": "s",
            },
            "overrides": [],
        },
        "options": {
            "calculate": False,
            "cellGap": 1,
            "color": {"exponent": 0.5, "fill": "dark-orange", "mode": "scheme", "scheme": "Oranges", "steps": 64},
            "filterValues": {"le": 1e-9},
            "legend": {"show": True},
            "rowsFrame": {"layout": "auto"},
            "tooltip": {"mode": "single", "showColorScale": True, "yHistogram": False},
            "yAxis": {"axisPlacement": "left", "reverse": False, "unit": "s"},
        },
    }
    asked = Query(query.expr, query.legend, format="heatmap")
    return Panel("heatmap", title, said(good, act), (asked,), width, height, body, links)


def log_lines(
    title: str, query: Query, *, good: str, act: str, width: int = 24, height: int = 14, oldest_first: bool = False
) -> Panel:
    """Lines of logs, each to be opened; ids in them lead on."""
    body = {
        "fieldConfig": {"defaults": {"unit": "none"}, "overrides": []},
        "options": {
            "dedupStrategy": "none",
            "enableLogDetails": True,
            "prettifyLogMessage": False,
            "showCommonLabels": False,
            "showLabels": False,
            "showTime": True,
            "sortOrder": "Ascending" if oldest_first else "Descending",
            "wrapLogMessage": True,
        },
    }
    return Panel("logs", title, said(good, act), (query,), width, height, body)


def text(title: str, content: str, *, description: str, width: int = 24, height: int = 4) -> Panel:
    """Markdown."""
    body = {
        "fieldConfig": {"defaults": {}, "overrides": []},
        "options": {
            "code": {"language": "plaintext", "showLineNumbers": False, "showMiniMap": False},
            "content": content,
            "mode": "markdown",
        },
    }
    return Panel("text", title, description, (), width, height, body)


def _named_values(names: dict[int, tuple[str, str]]) -> list[Any]:
    if not names:
        return []
    options = {
        str(value): {"color": colour, "index": index, "text": name}
        for index, (value, (name, colour)) in enumerate(names.items())
    }
    return [{"options": options, "type": "value"}]
