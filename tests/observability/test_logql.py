"""Every LogQL query that is written down, on the recorded lines as our pipeline sends them.

Queries are parsed by Grafana's own grammar and evaluated by tests/observability/logql.py and logql_metrics.py, whose
docstrings say what is modelled; time is not. What they do not model fails here, so that no query passes unseen. Limits
of Loki are not modelled but for one: a query must not make a series of every request.
"""

import json
from functools import cache
from pathlib import Path

import gunicorn
import pytest

from tests.observability.collected import OURS, collectors, of_compose, of_kubernetes, written
from tests.observability.logql import Line, Row
from tests.observability.logql_metrics import QueryFailed, answer
from tests.observability.logql_tree import NotModelled, maybe, unquoted
from tests.observability.queries import ROOT, Expression, Node, every_expression, filled, parse

pytestmark = pytest.mark.rules

DOCUMENTED = (
    '{app="catalogue"}',
    '{app="catalogue"} |= "ERROR"',
    '{app="catalogue"} |= "Database error"',
    '{app="catalogue"} |~ "GET|POST" |~ "/api/"',
    '{app="catalogue"} | json | __error__=""',
    r'{app="catalogue"} |~ "\" 500"',
    '{app="catalogue"} |= "Falling back to JSON"',
    '{app="catalogue"} |~ "GET.*200" | line_format "{{.duration}}"',
)
"""The queries that users of the catalogue know from its documentation."""

EXAMPLE = (
    Line({"app": "x"}, {"id": "1"}, '{"level":"info","n":5,"deep":{"a b":"c"},"app":"other","none":null}'),
    Line({"app": "x"}, {"id": "2"}, 'level=warn took=1.5s msg="a b"'),
    Line({"app": "y"}, {}, "no"),
)

BOUNDS = [
    ('sum by (a) (rate({a="b"}[5m]))', True),
    ('sum(rate({a="b"}[5m]))', True),
    ('rate({a="b"}[5m])', False),
    ('max by (a) (max_over_time({a="b"} | unwrap x [5m]))', False),
    ('max_over_time({a="b"} | unwrap x [5m]) by (a)', True),
    ('topk(5, count_over_time({a="b"}[5m]))', False),
    ('topk(5, sum by (a) (count_over_time({a="b"}[5m])))', True),
]

PIPELINES = [
    ('{app=~"x|y"} != "level"', ["no"]),
    ('{app=~"x|"} | id="2" | line_format "{{.id}} {{.gone}}{{.app}}"', ["2 x"]),
    ('{app="x"} | json | __error__="" | line_format "{{.deep_a_b}}{{.app}}{{.app_extracted}}"', ["cxother"]),
    ('{app="x"} | json | n > 4 and level=~"i.*" | line_format "{{.n}}"', ["5"]),
    ('{app="x"} | json | n > 5 or none!=""', []),
    ('{app="x"} | logfmt | took > 1s | line_format "{{.msg}}"', ["a b"]),
    ('{app="x"} | json z="deep" | z != "" | line_format "{{.z}}"', ['{"a b": "c"}']),
    ('{app="x"} |= "5" or "warn" |~ `\\d` | drop id | id="" | keep app | line_format "{{.id}}"', ["", ""]),
]

METRICS: list[tuple[str, dict[str, float]]] = [
    ('sum by (app) (count_over_time({app=~".+"}[1m]))', {"x": 2, "y": 1}),
    ('sum(rate({app=~".+"}[1m])) * 60', {"": 3}),
    ('sum(rate({app="z"}[1m])) or vector(0)', {"": 0}),
    ('topk(1, sum by (app) (count_over_time({app=~".+"}[1m])))', {"x": 2}),
    ('sum by (app) (count_over_time({app=~".+"}[1m])) > 1', {"x": 2}),
    ('max_over_time({app="x"} | json | __error__="" | unwrap n [1m]) by (app)', {"x": 5}),
    ('count(count_over_time({app="x"}[1m]))', {"": 2}),
]

STORIES = "docs/"
JSON_OF_OURS = '{app="catalogue"} | json | __error__="" | version!=""'
FAILING = 'rate({app="x"} | json [1m])'
REFUSED = (
    '{app="x"} | decolorize',
    'quantile_over_time(0.9, {app="x"} | unwrap n [1m])',
    '{app="x"} | pattern "<a>"',
)

WITH_INJECTED_GROUPING = {"Rate", "CountOverTime", "BytesRate", "BytesOverTime", "SumOverTime"}
"""`sum by` around these is what Loki counts by (canInjectVectorGrouping in its engine); around others, it is not."""


@cache
def _lines(place: str = "compose") -> tuple[Line, ...]:
    collect = of_compose if place == "compose" else of_kubernetes
    sent = collect(collectors(place)["promtail"], written(*OURS))
    return tuple(Line(entry.labels, entry.metadata, entry.line) for entry in sent if entry)


@cache
def _ids() -> dict[str, str]:
    """The ids of a request that several lines are about."""
    return next(
        {"request_id": one.metadata["request_id"], "trace_id": one.metadata["trace_id"]}
        for one in _lines()
        if "It failed" in one.text
    )


@cache
def _written() -> list[tuple[Expression, Node]]:
    """The queries of dashboards and documents, and what they are to the grammar."""
    queries = [found for found in every_expression() if found.language == "logql"]
    parsed = parse("logql", [_filled(query) for query in queries])
    assert [f"{query.where}: {got.error}" for query, got in zip(queries, parsed, strict=True) if got.error] == []
    return [(query, got.tree) for query, got in zip(queries, parsed, strict=True) if got.tree]


@cache
def _trees() -> dict[str, Node]:
    """The queries of this module, parsed in one go."""
    queries = [*DOCUMENTED, *(query for query, _ in (*BOUNDS, *PIPELINES, *METRICS)), JSON_OF_OURS, FAILING, *REFUSED]
    return {query: got.tree for query, got in zip(queries, parse("logql", queries), strict=True) if got.tree}


def _tree(query: str) -> Node:
    return _trees()[query]


def _filled(query: Expression) -> str:
    text = filled(query.raw, {**_ids(), "search": ""})
    return text.replace("put-the-id-here", _ids()["request_id"])


@cache
def _sources() -> str:
    """What our services, their chassis and gunicorn say, as they are written."""
    folders = (ROOT / "chassis" / "src", *(ROOT / "services").glob("*/src"), Path(gunicorn.__file__).parent)
    return "\n".join(path.read_text("utf-8") for folder in folders for path in sorted(folder.rglob("*.py")))


@pytest.mark.parametrize("place", ["compose", "kubernetes"])
@pytest.mark.parametrize("query", DOCUMENTED)
def test_documented_queries_give_lines(query: str, place: str) -> None:
    """Each gives lines of the catalogue, and of nobody else, wherever the storefront runs."""
    rows = answer(_tree(query), _lines(place))
    assert isinstance(rows, list)
    assert {row.labels["service"] for row in rows} == {"catalogue"}


def test_durations_are_printed() -> None:
    """The documented query for slow requests prints milliseconds, for every one of its lines that is a request."""
    rows = answer(_tree(DOCUMENTED[-1]), _lines())
    printed = [row.text for row in rows if isinstance(row, Row)]
    assert "12.346" in printed
    assert [text for text in printed if text and not text.replace(".", "", 1).isdigit()] == []
    assert printed.count("") == 1  # a line of odd.log that looks like a request, and is none of ours


def test_every_json_line_of_ours_is_understood() -> None:
    """`| json` finds an error only in lines that are no JSON; `__error__=""` leaves all others."""
    rows = answer(_tree(JSON_OF_OURS), _lines())
    assert isinstance(rows, list)
    whole = [line for line in _lines() if line.labels["app"] == "catalogue" and _is_ours(line.text)]
    assert len(rows) == len(whole) > 20


def test_queries_give_data() -> None:
    """Every query of dashboards and documents gives data on what a run of the storefront with an outage wrote. One that
    looks for what did not happen in it looks for words that a service can say. Those of docs/ tell of runs of their
    own: they are evaluated, and may find nothing.
    """
    failures = []
    for query, tree in _written():
        try:
            found = answer(tree, _lines())
        except (QueryFailed, NotModelled, ValueError) as error:
            failures.append(f"{query.where}: {error!r}: {query.raw}")
            continue
        if not found and not _could_be_said(tree) and not query.where.startswith(STORIES):
            failures.append(f"{query.where}: no data: {query.raw}")
    assert _written()
    assert failures == []


def test_no_query_makes_a_series_of_every_request() -> None:
    """Ids and durations are part of what a line is told apart by. Loki gives up at 500 series, so a query has to say
    what it counts by: by `sum by` directly around a range, or by the range's own `by`.
    """
    unbounded = [
        f"{query.where}: {query.raw}"
        for query, tree in _written()
        if any(not _bounded(found) for found in _ranges(tree))
    ]
    assert unbounded == []


@pytest.mark.parametrize(("query", "bounded"), BOUNDS)
def test_unbounded_queries_are_told(query: str, bounded: bool) -> None:
    """The check above finds them, whatever is around."""
    assert all(_bounded(node) for node in _ranges(_tree(query))) == bounded


@pytest.mark.parametrize(("query", "texts"), PIPELINES)
def test_pipelines_are_modelled_as_documented(query: str, texts: list[str]) -> None:
    """Filters, parsers, formats: on three lines what Loki's documentation says."""
    rows = answer(_tree(query), EXAMPLE)
    assert [row.text for row in rows if isinstance(row, Row)] == texts


@pytest.mark.parametrize(("query", "vector"), METRICS)
def test_metrics_are_modelled_as_documented(query: str, vector: dict[str, float]) -> None:
    """Ranges and aggregations: what Loki's documentation says, at one moment."""
    found = answer(_tree(query), EXAMPLE)
    assert isinstance(found, dict)
    assert {dict(labels).get("app", ""): value for labels, value in found.items()} == pytest.approx(vector)


def test_what_is_not_modelled_is_refused() -> None:
    """Nothing is silently taken for something else; a line that fails fails its query."""
    for query in REFUSED:
        with pytest.raises(NotModelled):
            answer(_tree(query), EXAMPLE)
    with pytest.raises(QueryFailed):
        answer(_tree(FAILING), EXAMPLE)


def _is_ours(text: str) -> bool:
    try:
        line = json.loads(text)
    except ValueError:
        return False
    return isinstance(line, dict) and "version" in line


def _could_be_said(tree: Node) -> bool:
    """Whether the query looks for exact words, and they are in the source of our services."""
    words = [
        unquoted(string) for one in tree.all("LineFilter") if maybe(one, "PipeExact") for string in one.all("String")
    ]
    return bool(words) and all(word in _sources() for word in words)


def _ranges(tree: Node, around: tuple[Node, ...] = ()) -> list[tuple[Node, Node | None]]:
    """Range aggregations, each with what is directly around it."""
    if tree.name == "RangeAggregationExpr":
        outer = [node for node in around if node.name not in ("MetricExpr", "Expr")]
        return [(tree, outer[-1] if outer else None)]
    return [found for child in tree.children for found in _ranges(child, (*around, tree))]


def _bounded(found: tuple[Node, Node | None]) -> bool:
    node, outer = found
    if maybe(node, "Grouping"):
        return True
    sums = outer is not None and outer.name == "VectorAggregationExpr" and bool(maybe(outer.children[0], "Sum"))
    return sums and node.children[0].children[0].name in WITH_INJECTED_GROUPING
