"""What LogQL's metric queries make of lines, over the tree of Grafana's own grammar.

After grafana.com/docs/loki/latest/query/metric_queries. Time is not modelled: every line given counts as in range, at
one moment. Modelled: rate, count_over_time, bytes_rate, bytes_over_time; sum, avg, min, max over `unwrap`; sum, count,
avg, min, max, topk, bottomk with by and without; numbers, vector(), arithmetic, comparison, `or` and `and` between
vectors that have the same labels. A line with `__error__` fails the query, as in Loki.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from statistics import fmean

from tests.observability.logql import Line, Row, log_rows
from tests.observability.logql_tree import NotModelled, duration_s, first, maybe_child
from tests.observability.queries import Node

Labels = frozenset[tuple[str, str]]
Vector = dict[Labels, float]

_OF_LINES: Mapping[str, Callable[[list[Row], float], float]] = {
    "Rate": lambda rows, range_s: len(rows) / range_s,
    "CountOverTime": lambda rows, _: float(len(rows)),
    "BytesRate": lambda rows, range_s: sum(len(row.text.encode()) for row in rows) / range_s,
    "BytesOverTime": lambda rows, _: float(sum(len(row.text.encode()) for row in rows)),
    "SumOverTime": lambda rows, _: sum(row.value for row in rows),
    "AvgOverTime": lambda rows, _: fmean(row.value for row in rows),
    "MinOverTime": lambda rows, _: min(row.value for row in rows),
    "MaxOverTime": lambda rows, _: max(row.value for row in rows),
}
_OF_SERIES: Mapping[str, Callable[[list[float]], float]] = {
    "Sum": sum,
    "Count": lambda values: float(len(values)),
    "Avg": fmean,
    "Min": min,
    "Max": max,
}
_ARITHMETIC: Mapping[str, Callable[[float, float], float]] = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mul": operator.mul,
    "Div": lambda left, right: left / right if right else float("nan"),
}
_COMPARISON: Mapping[str, Callable[[float, float], bool]] = {
    "Gtr": operator.gt,
    "Gte": operator.ge,
    "Lss": operator.lt,
    "Lte": operator.le,
    "Eql": operator.eq,
    "Neq": operator.ne,
}


class QueryFailed(RuntimeError):
    """Loki would answer with an error."""


def answer(tree: Node, lines: Iterable[Line]) -> list[Row] | Vector:
    """What the query gives: lines, or a vector."""
    lines = list(lines)
    body = first(tree, "LogExpr", "MetricExpr") if tree.name == "LogQL" else tree
    if body.name == "LogExpr":
        return log_rows(body, lines)
    value = _metric(body, lines)
    return {frozenset(): value} if isinstance(value, float) else value


def _metric(node: Node, lines: list[Line]) -> Vector | float:
    match node.name:
        case "Expr" | "MetricExpr":
            return _metric(next(child for child in node.children if child.name != "LineComment"), lines)
        case "LiteralExpr":
            return float(node.text)
        case "VectorExpr":
            return {frozenset(): float(first(node, "Number").text)}
        case "RangeAggregationExpr":
            return _range(node, lines)
        case "VectorAggregationExpr":
            return _aggregation(node, lines)
        case "BinOpExpr":
            return _binary(node, lines)
    raise NotModelled(f"{node.name}: {node.text}")


def _grouped(node: Node, labels: Iterable[tuple[str, str]]) -> Labels:
    grouping = maybe_child(node, "Grouping")
    names = {label.text for label in grouping.all("Identifier")} if grouping else set()
    if grouping and maybe_child(grouping, "Without"):
        return frozenset(pair for pair in labels if pair[0] not in names)
    return frozenset(pair for pair in labels if pair[0] in names)


def _range(node: Node, lines: list[Line]) -> Vector:
    operation, log_range = first(node, "RangeOp").children[0].name, first(node, "LogRangeExpr")
    if operation not in _OF_LINES or maybe_child(node, "Number"):
        raise NotModelled(node.text)
    range_s = duration_s(first(log_range, "Range").text.strip("[]"))
    series: dict[Labels, list[Row]] = {}
    for row in log_rows(log_range, lines):
        if "__error__" in row.labels:
            raise QueryFailed(f"{row.labels['__error__']} in {node.text}: {row.text}")
        labels = _grouped(node, row.labels.items()) if maybe_child(node, "Grouping") else frozenset(row.labels.items())
        series.setdefault(labels, []).append(row)
    return {labels: _OF_LINES[operation](rows, range_s) for labels, rows in series.items()}


def _aggregation(node: Node, lines: list[Line]) -> Vector:
    operation = first(node, "VectorOp").children[0].name
    inner = _metric(next(child for child in node.children if child.name == "MetricExpr"), lines)
    if isinstance(inner, float):
        raise NotModelled(node.text)
    if operation in ("Topk", "Bottomk"):
        if maybe_child(node, "Grouping"):
            raise NotModelled(node.text)
        number = int(first(node, "Number").text)
        best = sorted(inner.items(), key=lambda item: item[1], reverse=operation == "Topk")
        return dict(best[:number])
    if operation not in _OF_SERIES:
        raise NotModelled(node.text)
    groups: dict[Labels, list[float]] = {}
    for labels, value in inner.items():
        groups.setdefault(_grouped(node, labels), []).append(value)
    return {labels: _OF_SERIES[operation](values) for labels, values in groups.items()}


def _binary(node: Node, lines: list[Line]) -> Vector | float:
    left_node, sign, modifier, right_node = node.children
    if modifier.children:
        raise NotModelled(node.text)
    left, right = _metric(left_node, lines), _metric(right_node, lines)
    if isinstance(left, dict) and isinstance(right, dict):
        return _of_vectors(sign.name, left, right)
    if sign.name not in _ARITHMETIC and sign.name not in _COMPARISON:
        raise NotModelled(node.text)
    if isinstance(left, float) and isinstance(right, float):
        return _ARITHMETIC[sign.name](left, right)
    return _with_number(sign.name, left, right)


def _with_number(sign: str, left: Vector | float, right: Vector | float) -> Vector:
    pairs: dict[Labels, tuple[float, float]] = {}
    if isinstance(left, dict) and isinstance(right, float):
        pairs = {labels: (value, right) for labels, value in left.items()}
    elif isinstance(left, float) and isinstance(right, dict):
        pairs = {labels: (left, value) for labels, value in right.items()}
    if sign in _ARITHMETIC:
        return {labels: _ARITHMETIC[sign](*pair) for labels, pair in pairs.items()}
    kept = 0 if isinstance(left, dict) else 1
    return {labels: pair[kept] for labels, pair in pairs.items() if _COMPARISON[sign](*pair)}


def _of_vectors(sign: str, left: Vector, right: Vector) -> Vector:
    if sign == "Or":
        return {**right, **left}
    common = [labels for labels in left if labels in right]
    if sign == "And":
        return {labels: left[labels] for labels in common}
    if sign in _ARITHMETIC:
        return {labels: _ARITHMETIC[sign](left[labels], right[labels]) for labels in common}
    return {labels: left[labels] for labels in common if _COMPARISON[sign](left[labels], right[labels])}
