"""scripts/setup.sh, and the Makefile around it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

# As a user's shell has it: not as a part of another make.
ENV = {name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKELEVEL", "PYTHON")}


def make(folder: Path, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run make in a folder, with these variables in its environment besides those of a user's shell."""
    env = {**ENV, **variables}
    return subprocess.run(["make", *words], cwd=folder, env=env, capture_output=True, text=True, check=False)


def fake_python(folder: Path, body: str) -> Path:
    """A program that passes for a Python."""
    path = folder / "python3"
    path.write_text(f"#!/bin/sh\n{body}\n", "utf-8")
    path.chmod(0o755)
    return path


def complaint(done: subprocess.CompletedProcess[str]) -> str:
    """The one line that setup.sh says when it gives up; make's own line follows it."""
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make")]
    assert done.returncode != 0
    assert len(lines) == 1, done.stderr
    return lines[0]


def test_a_python_that_is_too_old_is_named(checkout: Path) -> None:
    """Python 3.9 is refused in one line that says which will do."""
    old = fake_python(checkout, 'if [ "$1" = --version ]; then echo Python 3.9.2; else exit 1; fi')
    line = complaint(make(checkout, "setup", f"PYTHON={old}"))
    assert "is Python 3.9.2: give a Python 3.11 to 3.14" in line


def test_a_python_that_is_not_there_is_named(checkout: Path) -> None:
    """A PYTHON that is no command is refused in one line."""
    assert "PYTHON=python3.99 is no command" in complaint(make(checkout, "setup", "PYTHON=python3.99"))


def test_a_missing_venv_module_is_named(checkout: Path) -> None:
    """Debian's Python without python3-venv is refused in one line that says what to install."""
    bare = fake_python(checkout, f'case "$*" in *ensurepip*) exit 1;; *) exec {sys.executable} "$@";; esac')
    done = make(checkout, "setup", f"PYTHON={bare}")
    assert "apt-get install python3-venv" in complaint(done)


def test_help_has_a_line_for_every_verb(root: Path) -> None:
    """`make` alone lists what there is to do, each in one line that fits a terminal."""
    done = make(root)
    assert done.returncode == 0
    verbs = re.findall(r"^  make ([a-z-]+) +\S", done.stdout, flags=re.MULTILINE)
    assert set(verbs) >= {"setup", "run", "test", "lint", "format", "typecheck", "lock", "lock-check", "bench", "clean"}
    assert all(len(line) <= 110 for line in done.stdout.splitlines())


@pytest.mark.slow
def test_setup_from_nothing_happens_once(checkout: Path) -> None:
    """Two shells that begin at the same time in a new clone get one .venv; then nothing is done until pins change."""
    begin = ["make", "setup", f"PYTHON={sys.executable}"]
    both = [subprocess.Popen(begin, cwd=checkout, env=ENV, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    said = [process.communicate(timeout=600)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert sorted(map(bool, said)) == [False, True], said
    again = make(checkout, "setup")
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    with (checkout / "requirements/dev.txt").open("a") as pins:
        pins.write("# another day\n")
    later = make(checkout, "setup")
    assert (later.returncode, later.stdout, later.stderr) == (0, "Bringing .venv up to date.\n", "")
    for command in ("catalogue-db", "user-db", "stack"):
        assert (checkout / ".venv/bin" / command).exists()


@pytest.mark.slow
def test_setup_without_uv(checkout: Path) -> None:
    """Where uv cannot be had, the same pins install with pip."""
    pins = checkout / "requirements/uv.txt"
    pins.write_text(re.sub(r"sha256:[0-9a-f]{64}", f"sha256:{'0' * 64}", pins.read_text("utf-8")), "utf-8")
    done = make(checkout, "setup", PIP_COMPILE="0")  # a quarter of the time, and pip's own affair
    assert done.returncode == 0, done.stderr
    assert "going on with pip" in done.stderr
    assert make(checkout, "lock-check").stderr.startswith("requirements/uv.txt: uv")
