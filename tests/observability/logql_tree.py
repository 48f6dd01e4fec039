"""What is common to the readers of LogQL's syntax trees."""

import json
import re
from functools import cache

from tests.observability.queries import Node, parse

_UNITS = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1,
    "m": 60,
    "h": 3600,
    "d": 86400,
    "w": 604800,
    "y": 31536000,
}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ns|us|µs|ms|s|m|h|d|w|y)")


class NotModelled(NotImplementedError):
    """The query uses what is not evaluated here."""


@cache
def tree_of(query: str) -> Node:
    """The tree. Raises ValueError if the query is wrong."""
    parsed = parse("logql", [query])[0]
    if parsed.tree is None:
        raise ValueError(f"{parsed.error}: {query}")
    return parsed.tree


def first(node: Node, *names: str) -> Node:
    """The outermost node below, or this one, that has one of these names."""
    if found := maybe(node, *names):
        return found
    raise NotModelled(f"no {' or '.join(names)} in {node.text}")


def maybe(node: Node, *names: str) -> Node | None:
    """The same, or None."""
    return next((found for name in names for found in node.all(name)), None)


def unquoted(node: Node) -> str:
    """The value of a String. Raises ValueError for an escape that Go does not know."""
    return node.text[1:-1] if node.text[0] == "`" else str(json.loads(node.text))


def duration_s(text: str) -> float:
    """`1m30s` in seconds. Raises ValueError if it is none."""
    if not re.fullmatch(rf"(?:{_DURATION.pattern})+", text):
        raise ValueError(f"no duration: {text}")
    return sum(float(number) * _UNITS[unit] for number, unit in _DURATION.findall(text))


def maybe_child(node: Node, name: str) -> Node | None:
    """The child of this name, or None."""
    return next((child for child in node.children if child.name == name), None)
