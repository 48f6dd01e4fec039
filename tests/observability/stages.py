"""What the stages of Promtail and of Alloy's loki.process do to a line.

After the documentation of the stages (grafana.com/docs/loki/latest/send-data/promtail/stages and
grafana.com/docs/alloy/latest/reference/components/loki/loki.process) and, where that is silent, after what both
programs do: a pipeline, a nested one too, begins with the labels as extracted values; JSON's null is extracted but is
neither a label nor metadata; a template that fails changes nothing, one that prints nothing removes its value; metadata
takes a label of that name away. Only what this tree uses is here; an unknown stage or option is an error.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any

from tests.observability.gotemplate import TemplateError, execute
from tests.observability.logql import Selector

Stage = tuple[str, Any]
_CRI = re.compile(r"(?s)^(?P<time>\S+?) (?P<stream>stdout|stderr) (?P<flags>\S+?) (?P<content>.*)$")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")


@dataclass
class Entry:
    """A line on its way. `timestamp_ns` is Unix time."""

    line: str
    labels: dict[str, str]
    timestamp_ns: int = 0
    extracted: dict[str, Any] = field(default_factory=dict)
    metadata: dict[str, str] = field(default_factory=dict)


def rfc3339_ns(text: str) -> int | None:
    """Unix time of `2026-11-22T04:00:00.123456789Z`, or None."""
    found = _RFC3339.fullmatch(text)
    if not found:
        return None
    seconds = int(datetime.fromisoformat(f"{found[1]}{found[3].replace('Z', '+00:00')}").timestamp())
    return seconds * 10**9 + int((found[2] or "0")[:9].ljust(9, "0"))


def as_text(value: Any) -> str | None:
    """An extracted value as a string; None if it has none."""
    match value:
        case bool():
            return "true" if value else "false"
        case str():
            return value
        case int() | float():
            return format(Decimal(repr(value)).normalize(), "f")
        case _:
            return None


class Pipeline:
    """Stages in order. It remembers halves of lines, so it is for the lines of one source."""

    def __init__(self, stages: Iterable[Stage]) -> None:
        self._stages = [_STAGES[name](config) for name, config in stages]

    def run(self, entry: Entry) -> Entry | None:
        """The entry as it is sent, or None if it is not (yet)."""
        entry.extracted.update(entry.labels)
        for stage in self._stages:
            after = stage(entry)
            if after is None:
                return None
            entry = after
        return entry


Step = Callable[[Entry], Entry | None]


def _checked(config: Mapping[str, Any], *known: str) -> Mapping[str, Any]:
    unknown = set(config) - set(known)
    if unknown:
        raise ValueError(f"options that are not modelled: {sorted(unknown)}")
    return config


def _source(entry: Entry, config: Mapping[str, Any]) -> str | None:
    return as_text(entry.extracted.get(config["source"])) if "source" in config else entry.line


def _json(config: Mapping[str, Any]) -> Step:
    expressions = _checked(config, "expressions", "source")["expressions"]

    def step(entry: Entry) -> Entry:
        try:
            data = json.loads(_source(entry, config) or "")
        except ValueError:
            return entry
        if not isinstance(data, dict):
            return entry
        for name, path in expressions.items():
            value: Any = data
            for part in (path or name).split("."):
                value = value.get(part) if isinstance(value, dict) else None
            entry.extracted[name] = json.dumps(value) if isinstance(value, dict | list) else value
        return entry

    return step


def _regex(config: Mapping[str, Any]) -> Step:
    expression = re.compile(_checked(config, "expression", "source")["expression"], re.ASCII)

    def step(entry: Entry) -> Entry:
        text = _source(entry, config)
        if text is not None and (found := expression.search(text)):
            entry.extracted.update({name: value or "" for name, value in found.groupdict().items()})
        return entry

    return step


def _template(config: Mapping[str, Any]) -> Step:
    source, template = _checked(config, "source", "template")["source"], config["template"]

    def step(entry: Entry) -> Entry:
        data = {name: text for name, value in entry.extracted.items() if (text := as_text(value)) is not None}
        if source in data:
            data["Value"] = data[source]
        try:
            text = execute(template, {**data, "Entry": entry.line})
        except TemplateError:
            return entry
        if text:
            entry.extracted[source] = text
        else:
            entry.extracted.pop(source, None)
        return entry

    return step


def _found(entry: Entry, values: Mapping[str, str | None]) -> dict[str, str]:
    texts = {name: as_text(entry.extracted.get(source or name)) for name, source in values.items()}
    return {name: text for name, text in texts.items() if text is not None}


def _labels(config: Mapping[str, str | None]) -> Step:
    def step(entry: Entry) -> Entry:
        entry.labels.update(_found(entry, config))
        return entry

    return step


def _structured_metadata(config: Mapping[str, str | None]) -> Step:
    def step(entry: Entry) -> Entry:
        entry.metadata.update(_found(entry, config))
        for name, source in config.items():
            if (label := entry.labels.pop(source or name, None)) is not None:
                entry.metadata[name] = label
        return entry

    return step


def _timestamp(config: Mapping[str, Any]) -> Step:
    _checked(config, "source", "format", "action_on_failure")
    if (config["format"], config.get("action_on_failure")) != ("RFC3339Nano", "skip"):
        raise ValueError("only RFC3339Nano is modelled, and to skip what is none")

    def step(entry: Entry) -> Entry:
        text = _source(entry, config)
        if text is not None and (timestamp_ns := rfc3339_ns(text)) is not None:
            entry.timestamp_ns = timestamp_ns
        return entry

    return step


def _output(config: Mapping[str, Any]) -> Step:
    _checked(config, "source")

    def step(entry: Entry) -> Entry:
        text = _source(entry, config)
        entry.line = entry.line if text is None else text
        return entry

    return step


def _match(config: Mapping[str, Any]) -> Step:
    _checked(config, "selector", "stages", "action", "drop_counter_reason")
    selector = Selector(config["selector"])
    inner = Pipeline(config.get("stages", []))
    drops = config.get("action") == "drop"

    def step(entry: Entry) -> Entry | None:
        if not selector.takes(entry.labels, entry.line):
            return entry
        return None if drops else inner.run(entry)

    return step


def _labelallow(config: Iterable[str]) -> Step:
    allowed = set(config)

    def step(entry: Entry) -> Entry:
        entry.labels = {name: value for name, value in entry.labels.items() if name in allowed}
        return entry

    return step


def _cri(config: Mapping[str, Any] | None) -> Step:
    _checked(config or {})
    halves: dict[tuple[tuple[str, str], ...], str] = {}

    def step(entry: Entry) -> Entry | None:
        found = _CRI.match(entry.line)
        if not found:
            return entry
        entry.extracted.update(found.groupdict())
        entry.labels["stream"] = found["stream"]
        entry.timestamp_ns = rfc3339_ns(found["time"]) or entry.timestamp_ns
        stream = tuple(sorted(entry.labels.items()))
        entry.line = halves.pop(stream, "") + found["content"]
        if found["flags"] == "P":
            halves[stream] = entry.line
            return None
        return entry

    return step


_STAGES: Mapping[str, Callable[[Any], Step]] = {
    "cri": _cri,
    "json": _json,
    "labelallow": _labelallow,
    "labels": _labels,
    "match": _match,
    "output": _output,
    "regex": _regex,
    "structured_metadata": _structured_metadata,
    "template": _template,
    "timestamp": _timestamp,
}
