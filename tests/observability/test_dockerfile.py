"""The Dockerfile and the files beside it, before anything is built."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.rules

ROOT = Path(__file__).parents[2]
SERVICES = {path.parent.name for path in (ROOT / "services").glob("*/pyproject.toml")}


def test_hadolint_finds_nothing() -> None:
    """The Dockerfile has none of the mistakes that hadolint knows, the small ones neither."""
    hadolint = str(Path(sys.executable).with_name("hadolint"))
    command = [hadolint, "--no-color", "--failure-threshold", "style", "Dockerfile"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr


def test_every_service_has_a_target_and_pins() -> None:
    """docker-bake.hcl builds the services that there are, each for both platforms, each from its own pins."""
    text = (ROOT / "docker-bake.hcl").read_text()
    (matrix,) = re.findall(r"matrix\s*=\s*\{ service = \[([^\]]*)\] \}", text)
    assert set(re.findall(r'"(\w+)"', matrix)) == SERVICES
    assert '"linux/amd64,linux/arm64"' in text
    assert all((ROOT / "requirements" / f"{service}.txt").is_file() for service in SERVICES)


def test_the_builder_gets_no_more_than_it_copies() -> None:
    """.dockerignore begins by leaving all out, and lets in what the Dockerfile copies and nothing beside it."""
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line[1:].split("/")[0] for line in lines if line.startswith("!")}
    copied = re.findall(r"^COPY (?!--from)(\S+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert let_in == {path.split("/")[0] for path in copied}


def test_both_stages_stand_on_one_pinned_image() -> None:
    """The base is one exact version, named once: what is compiled in one stage runs on the same Python in the other."""
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^FROM (\S+)", text, re.MULTILINE) == ["${PYTHON_IMAGE}"] * 2
    assert re.search(r"^ARG PYTHON_IMAGE=python:3\.11\.\d+-slim-bookworm$", text, re.MULTILINE)
