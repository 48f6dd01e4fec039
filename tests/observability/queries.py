"""Every PromQL and LogQL expression of this tree, and the grammars of Prometheus' and Grafana's editors."""

import fcntl
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from chassis.testing import require
from chassis.testing.tools import missing

ROOT = Path(__file__).parents[2]
OBSERVABILITY = ROOT / "observability"
NODE = Path(__file__).with_name("node")

Language = Literal["promql", "logql"]

GRAFANA_VARIABLES: Mapping[str, str] = {
    "__auto": "5m",
    "__interval": "1m",
    "__interval_ms": "60000",
    "__range": "1h",
    "__range_ms": "3600000",
    "__range_s": "3600",
    "__rate_interval": "5m",
}
"""What Grafana fills in by itself. A dashboard's own variables are taken for `.+`, Grafana's "All"."""

_VARIABLE = re.compile(r"\$(?P<plain>[A-Za-z_]\w*)|\$\{(?P<braces>\w+)(?:[.:][^}]*)?\}|\[\[(?P<old>\w+)\]\]")
_FENCE = re.compile(r"^(?P<indent> *)```(?P<language>promql|logql)\n(?P<text>.*?)^ *```", re.DOTALL | re.MULTILINE)
_VARIABLE_QUERY = re.compile(
    r"^\s*(?:label_values\((?P<series>.*),\s*\w+\s*\)|query_result\((?P<query>.*)\))\s*$", re.DOTALL
)


@dataclass(frozen=True)
class Expression:
    """One expression: where it stands, for people; as it stands there; and ready to be parsed."""

    where: str
    language: Language
    raw: str

    @property
    def text(self) -> str:
        """The expression with Grafana's variables filled in."""
        return filled(self.raw)


@dataclass(frozen=True)
class Node:
    """A node of a syntax tree: its name in the grammar, its text, its children in order."""

    name: str
    text: str
    children: tuple["Node", ...]

    def all(self, name: str) -> Iterator["Node"]:
        """This node and those below it that have this name, outermost first."""
        if self.name == name:
            yield self
        for child in self.children:
            yield from child.all(name)


@dataclass(frozen=True)
class Parsed:
    """An error that says where, or a tree."""

    error: str | None
    tree: Node | None


def filled(text: str, values: Mapping[str, str] | None = None, *, default: str = ".+") -> str:
    """`text` with Grafana's variables replaced: by `values`, by what Grafana fills in itself, else by `default`."""
    known = {**GRAFANA_VARIABLES, **(values or {})}
    return _VARIABLE.sub(lambda found: known.get(found["plain"] or found["braces"] or found["old"], default), text)


def parse(language: Language, texts: Sequence[str]) -> list[Parsed]:
    """Parse all of them, in the same order. Without Node.js or its packages the test is skipped, or fails in CI."""
    if not texts:
        return []
    node = install()
    asked = json.dumps([{"language": language, "text": text} for text in texts])
    command = [node, str(NODE / "parse.mjs")]
    done = subprocess.run(command, input=asked, capture_output=True, text=True, timeout=60, check=True)
    return [Parsed(answer["error"], answer["tree"] and _node(answer["tree"])) for answer in json.loads(done.stdout)]


def parse_promql(texts: Sequence[str]) -> list[str | None]:
    """For each what is wrong with it, or None."""
    return [parsed.error for parsed in parse("promql", texts)]


def parse_logql(texts: Sequence[str]) -> list[str | None]:
    """For each what is wrong with it, or None."""
    return [parsed.error for parsed in parse("logql", texts)]


def install() -> str:
    """Put the parsers into `node/node_modules` unless they are there, one process at a time. Returns node's path."""
    node, npm = require("node"), require("npm")
    lock = NODE / "package-lock.json"
    stamp = NODE / "node_modules" / ".storefront"
    with lock.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        digest = hashlib.sha256(file.read()).hexdigest()
        if not stamp.is_file() or stamp.read_text("utf-8") != digest:
            done = subprocess.run([npm, "ci"], cwd=NODE, capture_output=True, text=True, timeout=180, check=False)
            if done.returncode:
                missing(f"npm cannot install the parsers of {NODE.relative_to(ROOT)}: {done.stderr.strip()[-500:]}")
            stamp.write_text(digest, "utf-8")
    return node


def every_expression() -> list[Expression]:
    """What rules, alerts, dashboards, and the ```promql and ```logql fences of documents ask."""
    return [
        *(found for path in _files("prometheus", "rules/*.yml", "alerts/*.yml") for found in _of_rules(path)),
        *(found for path in _files("grafana", "dashboards/**/*.json") for found in of_dashboard(path)),
        *(found for path in _documents() for found in of_document(path)),
    ]


def of_dashboard(path: Path) -> list[Expression]:
    """The expressions of a dashboard's panels, annotations and variables."""
    return list(_in_json(json.loads(path.read_text("utf-8")), where=path.name, language="promql"))


def of_document(path: Path) -> list[Expression]:
    """The expressions in a Markdown file's fences. A blank line ends one, `#` begins a comment line."""
    text = path.read_text("utf-8")
    found = []
    for fence in _FENCE.finditer(text):
        line = text.count("\n", 0, fence.start()) + 2
        where = f"{path.relative_to(ROOT)}:{line}"
        language: Language = "promql" if fence["language"] == "promql" else "logql"
        code = "\n".join(one for one in fence["text"].splitlines() if not one.lstrip().startswith("#"))
        found += [Expression(where, language, one.strip()) for one in re.split(r"\n\s*\n", code) if one.strip()]
    return found


def _files(folder: str, *patterns: str) -> list[Path]:
    return sorted(path for pattern in patterns for path in (OBSERVABILITY / folder).glob(pattern))


def _documents() -> list[Path]:
    return sorted([*OBSERVABILITY.rglob("*.md"), *(ROOT / "docs").rglob("*.md")])


def _of_rules(path: Path) -> Iterator[Expression]:
    for group in yaml.safe_load(path.read_text("utf-8"))["groups"]:
        for rule in group["rules"]:
            name = rule.get("record") or rule["alert"]
            yield Expression(f"{path.parent.name}/{path.name}: {name}", "promql", rule["expr"])


def _in_json(value: Any, *, where: str, language: Language) -> Iterator[Expression]:
    if isinstance(value, list):
        for item in value:
            yield from _in_json(item, where=where, language=language)
    if not isinstance(value, dict):
        return
    language = _language(value.get("datasource"), language)
    if name := value.get("title") or value.get("name") or value.get("refId"):
        where = f"{where}: {name}"
    if isinstance(value.get("expr"), str) and value["expr"].strip():
        yield Expression(where, language, value["expr"])
    if value.get("type") == "query" and "query" in value:
        yield from _of_variable(value["query"], where=where, language=language)
    for item in value.values():
        yield from _in_json(item, where=where, language=language)


def _of_variable(query: Any, *, where: str, language: Language) -> Iterator[Expression]:
    text = query.get("query", query.get("stream", "")) if isinstance(query, dict) else query
    if isinstance(text, str) and (found := _VARIABLE_QUERY.fullmatch(text)):
        yield Expression(where, language, found["series"] or found["query"])


def _language(datasource: Any, inherited: Language) -> Language:
    named = (datasource.get("type"), datasource.get("uid")) if isinstance(datasource, dict) else (datasource,)
    if "loki" in named:
        return "logql"
    return "promql" if "prometheus" in named else inherited


def _node(raw: list[Any]) -> Node:
    name, text, children = raw
    return Node(name, text, tuple(_node(child) for child in children))
