"""What the documents say is so: figures, variables, verbs, links."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[[^\]]*\]\((?!https?:|#)([^)#\s]+)")
DOCUMENTS = sorted(
    path
    for path in (*ROOT.glob("*.md"), *ROOT.glob("*/**/*.md"))
    if not {".venv", ".git", "node_modules"}.intersection(path.relative_to(ROOT).parts)
)


@pytest.mark.parametrize("script", ["figures", "variables"])
def test_what_is_made_from_the_code_is_up_to_date(script: str) -> None:
    """README figures are those of the committed result, and tables of variables and .env.example those of the code."""
    done = subprocess.run(
        [sys.executable, f"scripts/{script}.py", "--check"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_verb_that_a_document_names_is_there() -> None:
    """`make x` in a document is a verb of the Makefile."""
    verbs = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    named = {
        (path.name, verb)
        for path in DOCUMENTS
        for verb in re.findall(r"`(?:\w+=\S+ )*make ([a-z][a-z0-9-]+)", path.read_text())
    }
    assert {verb for _, verb in named} >= {"run", "test"}
    assert [each for each in named if each[1] not in verbs] == []


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    """A relative link in a document names a file or folder of the tree."""
    assert [link for link in LINK.findall(path.read_text()) if not (path.parent / link).exists()] == []


def test_the_first_screen_of_the_readme_is_the_two_commands() -> None:
    """The first code block, near the top, is `make run` and `make test`."""
    lines = (ROOT / "README.md").read_text().splitlines()
    first = lines.index("```sh")
    assert first < 10
    assert [line.split("  ")[0] for line in lines[first + 1 : first + 3]] == ["make run", "make test"]


@pytest.mark.parametrize(
    ("service", "prefixes", "fewest"), [("gateway", "gateway|kafka|api", 16), ("links", "links", 1)]
)
def test_a_readme_names_every_module_and_metric(service: str, prefixes: str, fewest: int) -> None:
    """Every module of the service stands in its README and none that there is not; so do its own metrics."""
    package = ROOT / "services" / service / "src" / service
    readme = (ROOT / "services" / service / "README.md").read_text()
    modules = {path for path in package.rglob("*.py") if path.name != "__init__.py" and path.parent.name != "versions"}
    named = {name.rpartition("/")[2] for name in re.findall(r"`([a-z_/]+\.py)`", readme)}
    assert named - {"__init__.py"} == {path.name for path in modules}
    source = "".join(path.read_text() for path in modules)
    made = set(re.findall(rf'"((?:{prefixes})_[a-z_]+)",\s+"[A-Z1]', source))  # a name and what it means
    assert len(made) >= fewest
    assert sorted(name for name in made if f"`{name}" not in readme) == []
