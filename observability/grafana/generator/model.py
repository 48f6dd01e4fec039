"""What a dashboard is made of: queries, panels, variables. Plain values; `frame` makes Grafana's JSON out of them."""

from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]

PROMETHEUS: Json = {"type": "prometheus", "uid": "prometheus"}
LOKI: Json = {"type": "loki", "uid": "loki"}
GRAFANA: Json = {"type": "grafana", "uid": "-- Grafana --"}

WIDTH = 24
"""Columns of Grafana's grid."""

FULL, HALF, THIRD, QUARTER, SIXTH = 24, 12, 8, 6, 4


@dataclass(frozen=True)
class Query:
    """One query of a panel. `legend` names its series; `instant` asks for one point, the last."""

    expr: str
    legend: str = ""
    instant: bool = False
    format: str = "time_series"
    source: str = "prometheus"

    def json(self, ref_id: str) -> Json:
        """The query as Grafana's target `ref_id`."""
        if self.source == "loki":
            return {
                "datasource": LOKI,
                "editorMode": "code",
                "expr": self.expr,
                "legendFormat": self.legend,
                "queryType": "instant" if self.instant else "range",
                "refId": ref_id,
            }
        return {
            "datasource": PROMETHEUS,
            "editorMode": "code",
            "expr": self.expr,
            "format": self.format,
            "instant": self.instant,
            "legendFormat": self.legend,
            "range": not self.instant,
            "refId": ref_id,
        }


@dataclass(frozen=True)
class Row:
    """A heading; what follows stands below it."""

    title: str


@dataclass(frozen=True)
class Link:
    """A way from a panel to another dashboard. `query` is what its URL has behind the question mark."""

    title: str
    uid: str
    query: str = "${__url_time_range}"

    def json(self) -> Json:
        """The link as Grafana's panel link."""
        return {
            "targetBlank": False,
            "title": self.title,
            "url": f"/d/{self.uid}" + f"?{self.query}" * bool(self.query),
        }


@dataclass(frozen=True)
class Panel:
    """One panel: `body` is what its kind needs beyond what all have. `width` and `height` are in cells of the grid."""

    kind: str
    title: str
    description: str
    queries: tuple[Query, ...]
    width: int
    height: int
    body: Json
    links: tuple[Link, ...] = ()


@dataclass(frozen=True)
class Variable:
    """A choice at the top of a dashboard, as the JSON that Grafana wants."""

    name: str
    body: Json


@dataclass(frozen=True)
class Board:
    """A dashboard. `folder` is a directory of `dashboards/`; `restarts` selects what the start marks are of."""

    uid: str
    title: str
    description: str
    folder: str
    items: tuple[Row | Panel, ...]
    variables: tuple[Variable, ...] = ()
    restarts: str | None = None
    marks: tuple[Json, ...] = ()
    tags: tuple[str, ...] = field(default=())
    since: str = "now-1h"
    refresh: str = "30s"
