"""The Dockerfile and the files beside it, before anything is built."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.rules

ROOT = Path(__file__).parents[2]
DOCKERFILES = {"Dockerfile": ".dockerignore", "loadtest/Dockerfile": "loadtest/Dockerfile.dockerignore"}
"""Of the services and of the load test, each with what says what the builder gets."""

SERVICES = {path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml")}


@pytest.mark.parametrize("file", DOCKERFILES)
def test_hadolint_finds_nothing(file: str) -> None:
    """The Dockerfile has none of the mistakes that hadolint knows, the small ones neither."""
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    command = [hadolint, "--no-color", "--failure-threshold", "style", file]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_every_service_has_a_target_and_pins() -> None:
    """docker-bake.hcl builds the services that there are, each for both platforms, each from its own pins."""
    text = (ROOT / "docker-bake.hcl").read_text()
    (matrix,) = re.findall(r"matrix\s*=\s*\{ service = \[([^\]]*)\] \}", text)
    assert set(re.findall(r'"(\w+)"', matrix)) == SERVICES
    assert '"linux/amd64,linux/arm64"' in text
    assert all((ROOT / "requirements" / f"{service}.txt").is_file() for service in SERVICES)


@pytest.mark.parametrize(("file", "ignore"), DOCKERFILES.items())
def test_the_builder_gets_no_more_than_it_copies(file: str, ignore: str) -> None:
    """.dockerignore begins by leaving all out, and lets in what the Dockerfile copies and nothing beside it."""
    lines = [line for line in (ROOT / ignore).read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line[1:].split("/")[0] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / file).read_text(), re.MULTILINE)
    assert let_in == {path.split("/")[0] for paths in copied for path in paths.split()}


def test_the_load_tests_image_has_what_locust_imports_and_no_more() -> None:
    """Each module that the locustfile needs, directly or not, is let in by name, and none of the benchmarks."""
    folder = ROOT / "loadtest"
    needed, look = set(), ["locustfile.py"]
    while look:
        name = look.pop()
        needed.add(name)
        text = (folder / name).read_text()
        found = re.findall(r"from loadtest\.(\w+) import", text)
        for names in re.findall(r"from loadtest import (.+)", text):
            found += names.split(", ")
        look += [f"{each}.py" for each in found if f"{each}.py" not in needed and (folder / f"{each}.py").is_file()]
        if name == "locustfile.py":
            look += [str(path.relative_to(folder)) for path in folder.glob("scenarios/*.py")]
    let_in = set(re.findall(r"^!loadtest/(\S+)$", (folder / "Dockerfile.dockerignore").read_text(), re.MULTILINE))
    assert let_in == {name for name in needed if "/" not in name} | {
        "__init__.py", "scenarios", "slo.yml", "locust.conf"
    }  # fmt: skip


def test_all_stages_stand_on_one_pinned_image() -> None:
    """The base is one exact version, named once in a file and the same in all: what is compiled in one stage runs on
    the same Python in the other.
    """
    bases = set()
    for file in DOCKERFILES:
        text = (ROOT / file).read_text()
        assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2
        bases |= set(re.findall(r"^ARG PYTHON_IMAGE=(python:3\.11\.\d+-slim-bookworm)$", text, re.MULTILINE))
    assert len(bases) == 1
