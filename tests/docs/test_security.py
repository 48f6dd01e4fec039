"""SECURITY.md names proofs that exist, and settings and verbs that do."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
ROWS = [
    line.split(" | ")
    for line in TEXT.partition("### Abuse")[2].partition("### What is left")[0].splitlines()
    if line.startswith("| ") and not line.startswith("| what somebody tries")
]


def proofs(cell: str) -> list[tuple[str, str]]:
    """(file, test) of each that a cell names; a file stands once for those behind it."""
    found = []
    file = ""
    for named, test in re.findall(r"`([\w/.]*)::(\w+)`", cell):
        file = named or file
        found.append((file, test))
    return found


def test_there_are_rows() -> None:
    """What the tests below look at is there."""
    assert len(ROWS) > 20


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0].strip("| ")[:40])
def test_every_abuse_has_a_control_and_a_proof_that_exists(row: list[str]) -> None:
    """Each line names at least one test, and each of these is a function in that file."""
    _, control, cell = row
    assert control.strip()
    named = proofs(cell)
    assert named
    assert len(named) == cell.count("`") / 2, cell
    for file, test in named:
        tree = ast.parse((ROOT / file).read_text("utf-8"))
        functions = {each.name for each in tree.body if isinstance(each, ast.FunctionDef | ast.AsyncFunctionDef)}
        assert test in functions, f"{file} has no {test}"


def test_paths_and_variables_exist() -> None:
    """Other names between backticks: a path with a slash is there, a variable is one of ours or of the tree."""
    known = (ROOT / ".env.example").read_text("utf-8") + (ROOT / "docker-compose.yml").read_text("utf-8")
    prose = TEXT.partition("### Abuse")[0] + TEXT.partition("### What is left")[2]
    paths = [name for name in re.findall(r"`([a-z][\w.-]*/[\w./-]*)`", prose) if not name.startswith("/")]
    variables = re.findall(r"`([A-Z][A-Z_]+)(?:=[\w-]+)?`", prose)
    assert len(paths) > 2
    assert len(variables) > 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [name for name in variables if name not in known and name not in ("GET", "HEAD")] == []
