"""What `make lint` says of committed text."""

import subprocess
import sys
from pathlib import Path

import pytest


def complaints(root: Path, folder: Path, text: str) -> str:
    """What the check prints about a tree that has one file with this text."""
    subprocess.run(["git", "init", "--quiet", folder], check=True)
    (folder / "notes.md").write_text(f"first\n{text}\n", "utf-8")
    done = subprocess.run(
        [sys.executable, root / "scripts/check_text.py", folder], capture_output=True, text=True, check=False
    )
    assert bool(done.stderr) == bool(done.returncode)
    return done.stderr


# Put together here, so that this file passes the check itself.
@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("see ", "/home", "/ada/x"), "a home directory"),
        (('"', "/root", "/.cache"), "a home directory"),
        (("C:", "\\Users\\ada"), "a home directory"),
        (("https:", "//pypi.", "org/simple"), "a package index"),
        (("https:", "//registry.", "npmjs.org"), "a package index"),
        (("<<<<", "<<< HEAD"), "a merge conflict"),
    ],
)
def test_text_of_one_machine_is_named(root: Path, tmp_path: Path, words: tuple[str, ...], what: str) -> None:
    """A path of somebody's machine, an index or a left-over is named with file and line."""
    assert complaints(root, tmp_path, "".join(words)).startswith(f"notes.md:2: names {what}: ")


def test_the_path_of_the_checkout_is_named(root: Path, tmp_path: Path) -> None:
    """Wherever the checkout is, its own path is in no file."""
    assert "this checkout's own path" in complaints(root, tmp_path, f"cd {tmp_path}/services")


@pytest.mark.parametrize(
    "text", ["services/home/page.py", "GET /users/7", "curl http://127.0.0.1:8000/home/x", "======="]
)
def test_other_text_passes(root: Path, tmp_path: Path, text: str) -> None:
    """Routes, packages and rules in Markdown are no paths of a machine."""
    assert complaints(root, tmp_path, text) == ""
