"""Whether an object of a kind that Kubernetes itself does not know is well: crds.yaml, and what needs code."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import yaml

CRDS: dict[str, Any] = yaml.safe_load(Path(__file__).with_name("crds.yaml").read_text("utf-8"))
MOST_MATCHES = 128
_UNITS_MS = {"y": 31_536_000_000, "w": 604_800_000, "d": 86_400_000, "h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}


def faults(found: dict[str, Any]) -> Iterator[str]:
    """What is wrong with an object, a line each."""
    errors = [error.message for error in jsonschema.Draft202012Validator(CRDS[found["kind"]]).iter_errors(found)]
    yield from errors
    if not errors:
        yield from _RULES[found["kind"]](found["spec"])


def _milliseconds(duration: str) -> int:
    return sum(int(count) * _UNITS_MS[unit] for count, unit in re.findall(r"(\d+)(ms|[ywdhms])", duration))


def _monitor(spec: dict[str, Any]) -> Iterator[str]:
    for endpoint in spec["endpoints"]:
        if _milliseconds(endpoint.get("scrapeTimeout", "0")) > _milliseconds(endpoint.get("interval", "1y")):
            yield "scrapeTimeout is longer than interval"


def _gateway(spec: dict[str, Any]) -> Iterator[str]:
    names = [each["name"] for each in spec["listeners"]]
    if len(names) != len(set(names)):
        yield "two listeners have one name"
    places = [(each["port"], each["protocol"], each.get("hostname")) for each in spec["listeners"]]
    if len(places) != len(set(places)):
        yield "two listeners have one port, protocol and hostname"


def _route(spec: dict[str, Any]) -> Iterator[str]:
    parents = [(each["name"], each.get("sectionName")) for each in spec["parentRefs"]]
    for name in {name for name, _ in parents}:
        sections = [section for parent, section in parents if parent == name]
        if len(sections) != len(set(sections)) or (None in sections and len(sections) > 1):
            yield "a parent is there twice: each time it needs another sectionName"
    if sum(len(rule.get("matches", ())) for rule in spec["rules"]) > MOST_MATCHES:
        yield f"there are more than {MOST_MATCHES} matches"
    for rule in spec["rules"]:
        timeouts = {name: _milliseconds(text) for name, text in rule.get("timeouts", {}).items()}
        if 0 < timeouts.get("request", 0) < timeouts.get("backendRequest", 0):
            yield "backendRequest is longer than request"
        if len(rule.get("filters", ())) > 1:
            yield "there are two redirects"


_RULES: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "ServiceMonitor": _monitor,
    "Gateway": _gateway,
    "HTTPRoute": _route,
}
