"""What LogQL's selectors and pipelines make of lines, over the tree of Grafana's own grammar.

After grafana.com/docs/loki/latest/query/log_queries. Modelled: matchers, line filters (with `or`), json with and
without expressions, logfmt, label filters on text, numbers and durations joined by and, or and comma, line_format,
label_format, drop, keep, unwrap. A label is one of the stream, then structured metadata, then what is parsed; a name
that is there already gets `_extracted`; an empty label is none. Whatever else is met is an error, so a query is either
evaluated or refused, never half of it.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tests.observability.gotemplate import execute
from tests.observability.logql_tree import NotModelled, duration_s, first, maybe, maybe_child, tree_of, unquoted
from tests.observability.queries import Node

_LOGFMT = re.compile(r'([^\s="]+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))')
_COMPARE: Mapping[str, Callable[[float, float], bool]] = {
    "Eql": float.__eq__,
    "Eq": float.__eq__,
    "Neq": float.__ne__,
    "Gtr": float.__gt__,
    "Gte": float.__ge__,
    "Lss": float.__lt__,
    "Lte": float.__le__,
}


class Zero(dict[str, str]):
    """Labels for line_format, where one that is missing is empty."""

    def get(self, key: str, default: Any = "") -> Any:
        return super().get(key, default)


@dataclass(frozen=True)
class Line:
    """A stored line: the stream's labels, its own structured metadata."""

    labels: Mapping[str, str]
    metadata: Mapping[str, str]
    text: str


@dataclass
class Row:
    """A line in the middle of a query; `value` is what `unwrap` took."""

    labels: dict[str, str]
    text: str
    value: float = 0.0


def _matches(operator: str, value: str, operand: str) -> bool:
    """A matcher of labels: its regular expression is for the whole value."""
    match operator:
        case "Eq":
            return value == operand
        case "Neq":
            return value != operand
        case "Re":
            return re.fullmatch(f"(?s:{operand})", value) is not None
        case "Nre":
            return re.fullmatch(f"(?s:{operand})", value) is None
    raise NotModelled(operator)


def _matcher(node: Node, labels: Mapping[str, str]) -> bool:
    name, operator, operand = node.children
    return _matches(operator.name, labels.get(name.text, ""), unquoted(operand))


class Selector:
    """`{a="b"} |= "c"`: labels and line filters, as stages know it."""

    def __init__(self, query: str) -> None:
        self._tree = tree_of(query)
        if maybe(self._tree, "MetricExpr", "Pipe"):
            raise NotModelled(query)

    def takes(self, labels: Mapping[str, str], text: str) -> bool:
        """Whether this line is one of them."""
        return all(_matcher(node, labels) for node in self._tree.all("Matcher")) and _filters(self._tree, text)


def log_rows(node: Node, lines: Iterable[Line]) -> list[Row]:
    """The lines that a LogExpr, or the log part of a LogRangeExpr, gives, changed as it says."""
    matchers = list(first(node, "Selector").all("Matcher"))
    rows = [
        Row({**line.metadata, **line.labels}, line.text)
        for line in lines
        if all(_matcher(matcher, line.labels) for matcher in matchers)
    ]
    for stage in _stages(node):
        rows = [changed for row in rows if (changed := _run(stage, row))]
    return rows


def _stages(node: Node) -> list[Node]:
    """Pipeline stages and unwraps, in order."""
    found: list[Node] = []
    for child in node.children:
        if child.name == "PipelineStage":
            found.append(next((one for one in child.children if one.name != "Pipe"), child))
        elif child.name == "UnwrapExpr":
            found += _unwrap(child)
        elif child.name in ("PipelineExpr", "LogExpr"):
            found += _stages(child)
    return found


def _unwrap(node: Node) -> list[Node]:
    inner = [child for child in node.children if child.name == "UnwrapExpr"]
    if not inner:
        return [node]
    return [*_unwrap(inner[0]), *(child for child in node.children if child.name == "LabelFilter")]


def _run(stage: Node, row: Row) -> Row | None:
    match stage.name:
        case "LineFilters":
            return row if _filters(stage, row.text) else None
        case "LabelFilter":
            return row if _label_filter(stage, row) else None
    if stage.name not in _CHANGES:
        raise NotModelled(f"{stage.name}: {stage.text}")
    _CHANGES[stage.name](stage, row)
    return row


def _filters(node: Node, text: str) -> bool:
    return all(_line_filter(one, text) for one in node.all("LineFilter"))


def _line_filter(node: Node, text: str) -> bool:
    operator = first(node, "Filter").children[0].name
    operands = [unquoted(string) for string in node.all("String")]
    match operator:
        case "PipeExact":
            return any(operand in text for operand in operands)
        case "Neq":
            return not any(operand in text for operand in operands)
        case "PipeMatch":
            return any(re.search(operand, text) for operand in operands)
        case "Nre":
            return not any(re.search(operand, text) for operand in operands)
    raise NotModelled(node.text)


def _label_filter(node: Node, row: Row) -> bool:
    parts = [child for child in node.children if child.name == "LabelFilter"]
    if len(parts) == 2:
        left, right = (_label_filter(part, row) for part in parts)
        return (left or right) if maybe_child(node, "Or") else (left and right)
    if parts:
        return _label_filter(parts[0], row)
    kind = node.children[0]
    if kind.name == "Matcher":
        return _matcher(kind, row.labels)
    comparison = kind if kind.name == "NumberFilter" else kind.children[0]
    name, operator, operand = comparison.children
    if name.text not in row.labels:
        return False
    try:
        value = float(row.labels[name.text]) if kind.name == "NumberFilter" else duration_s(row.labels[name.text])
    except ValueError:
        row.labels["__error__"] = "LabelFilterErr"
        return True
    wanted = float(operand.text) if kind.name == "NumberFilter" else duration_s(operand.text)
    return _COMPARE[operator.name](float(value), float(wanted))


def _add(row: Row, found: Mapping[str, str]) -> None:
    before = set(row.labels)
    for name, value in found.items():
        if value:
            row.labels[f"{name}_extracted" if name in before else name] = value


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return json.dumps(value)
    return "" if value is None else value if isinstance(value, str) else json.dumps(value)


def _flat(value: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    found: dict[str, str] = {}
    for key, item in value.items():
        name = prefix + re.sub(r"\W", "_", key)
        if isinstance(item, dict):
            found.update(_flat(item, f"{name}_"))
        elif not isinstance(item, list):
            found[name] = _text(item)
    return found


def _object(row: Row) -> dict[str, Any]:
    try:
        data = json.loads(row.text)
    except ValueError:
        data = None
    if isinstance(data, dict):
        return data
    row.labels["__error__"] = "JSONParserErr"
    return {}


def _label_parser(stage: Node, row: Row) -> None:
    if stage.children[0].name != "Json":
        raise NotModelled(stage.text)
    _add(row, _flat(_object(row)))


def _json_expressions(stage: Node, row: Row) -> None:
    data = _object(row)
    for expression in stage.all("LabelExtractionExpression"):
        value: Any = data
        name = expression.children[0].text
        for part in (unquoted(string) for string in expression.all("String")):
            for key in part.split("."):
                value = value.get(key) if isinstance(value, dict) else None
        _add(row, {name: _text(value if value is not data else data.get(name))})


def _logfmt(_stage: Node, row: Row) -> None:
    _add(row, {key: quoted or plain for key, quoted, plain in _LOGFMT.findall(row.text)})


def _line_format(stage: Node, row: Row) -> None:
    row.text = execute(unquoted(first(stage, "String")), Zero(row.labels))


def _label_format(stage: Node, row: Row) -> None:
    for one in stage.all("LabelFormatMatcher"):
        target, _, source = one.children
        if source.name == "String":
            row.labels[target.text] = execute(unquoted(source), Zero(row.labels))
        elif source.text in row.labels:
            row.labels[target.text] = row.labels.pop(source.text)


def _drop(stage: Node, row: Row) -> None:
    for label in stage.all("DropLabel"):
        row.labels.pop(label.text, None)


def _keep(stage: Node, row: Row) -> None:
    kept = {label.text for label in stage.all("KeepLabel")}
    row.labels = {name: value for name, value in row.labels.items() if name in kept or name == "__error__"}


def _take_value(stage: Node, row: Row) -> None:
    value = row.labels.pop(first(stage, "Identifier").text, "")
    try:
        row.value = duration_s(value) if maybe(stage, "DurationConv") else float(value)
    except ValueError:
        row.labels["__error__"] = "SampleExtractionErr"


_CHANGES: Mapping[str, Callable[[Node, Row], None]] = {
    "DropLabelsExpr": _drop,
    "JsonExpressionParser": _json_expressions,
    "KeepLabelsExpr": _keep,
    "LabelFormatExpr": _label_format,
    "LabelParser": _label_parser,
    "LineFormatExpr": _line_format,
    "LogfmtParser": _logfmt,
    "UnwrapExpr": _take_value,
}
