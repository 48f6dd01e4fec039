"""`make lock-check` on copies of this tree's pins, each damaged in one way."""

import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Check = Callable[[], subprocess.CompletedProcess[str]]


@pytest.fixture
def tree(tmp_path: Path, root: Path) -> Path:
    """A copy of the pins and of every pyproject.toml."""
    shutil.copytree(root / "requirements", tmp_path / "requirements")
    for project in [root / "chassis", root / "stack", *(root / "functions").iterdir(), *(root / "services").iterdir()]:
        if (project / "pyproject.toml").is_file():
            copy = tmp_path / project.relative_to(root)
            copy.mkdir(parents=True)
            shutil.copy(project / "pyproject.toml", copy)
            if (project / "requirements.txt").is_file():
                shutil.copy(project / "requirements.txt", copy)
    return tmp_path


@pytest.fixture
def check(tree: Path, root: Path) -> Check:
    """Run the check on the copy."""
    return lambda: subprocess.run(
        [sys.executable, root / "scripts" / "check_pins.py", tree], capture_output=True, text=True, check=False
    )


def replace(path: Path, pattern: str, by: str) -> None:
    """Replace the one place in a file that matches."""
    text, count = re.subn(pattern, by, path.read_text("utf-8"), count=1)
    assert count == 1, f"nothing in {path.name} matches {pattern}"
    path.write_text(text, "utf-8")


def test_the_pins_of_this_tree_are_right(check: Check) -> None:
    """What is committed passes, and nothing is printed."""
    done = check()
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("name", ["flask", "werkzeug"])
def test_a_missing_pin_is_named(tree: Path, check: Check, name: str) -> None:
    """Direct or not, a package that is needed and not pinned is an error that says who needs it."""
    replace(tree / "requirements/user.txt", rf"(?m)^{name}==.*\n(?:    .*\n)+", "")
    done = check()
    assert done.returncode == 1
    assert f"requirements/user.txt: {name} is not pinned; " in done.stderr


def test_a_pin_below_the_bound_is_an_error(tree: Path, check: Check) -> None:
    """A pyproject.toml that asks for more than is pinned is not satisfied."""
    replace(tree / "chassis/pyproject.toml", r'"flask>=[\d.]+"', '"flask>=99"')
    done = check()
    assert done.returncode == 1
    assert "is not what storefront-chassis needs: flask>=99" in done.stderr


def test_a_new_dependency_needs_a_pin(tree: Path, check: Check) -> None:
    """A dependency added to a pyproject.toml without `make lock` is named."""
    replace(tree / "services/user/pyproject.toml", r'"storefront-chassis",', '"storefront-chassis", "left-pad",')
    done = check()
    assert done.returncode == 1
    assert "left-pad is not pinned; storefront-user needs left-pad" in done.stderr


def test_a_pin_that_nothing_needs_is_an_error(tree: Path, check: Check) -> None:
    """What no package needs is not shipped."""
    replace(tree / "services/user/pyproject.toml", r'\n    "email-validator[^\n]*', "")
    done = check()
    assert done.returncode == 1
    assert "requirements/user.txt: email-validator is pinned, but nothing needs it" in done.stderr


def test_services_ship_what_is_tested(tree: Path, check: Check) -> None:
    """A service's pin that differs from dev.txt is an error."""
    replace(tree / "requirements/gateway.txt", r"(?m)^flask==[\d.]+", "flask==3.1.1")
    done = check()
    assert done.returncode == 1
    assert "requirements/gateway.txt: flask==3.1.1 is not what is tested" in done.stderr


def test_optional_peers_need_a_pin_and_no_installation(tree: Path, check: Check) -> None:
    """What only `make evidence` installs is pinned like the rest; that it is not installed is no error."""
    path = tree / "requirements/peers.in"
    path.write_text(f"{path.read_text('utf-8')}left-pad\n", "utf-8")
    done = check()
    assert done.returncode == 1
    assert "requirements/peers.txt: left-pad is not pinned; peers.in needs left-pad" in done.stderr
    pins = tree / "requirements/peers.txt"
    pins.write_text(f"{pins.read_text('utf-8')}left-pad==1.0 \\\n    --hash=sha256:{'0' * 64}\n", "utf-8")
    assert check().returncode == 0


def test_a_pin_has_a_hash(tree: Path, check: Check) -> None:
    """A pin without a hash is an error."""
    replace(tree / "requirements/user.txt", r"(?m)^flask==(\S+) \\\n(?:    --hash.*\n)+", r"flask==\1\n")
    done = check()
    assert done.returncode == 1
    assert "requirements/user.txt: flask has no hash" in done.stderr


def test_of_pins_for_several_pythons_the_one_that_applies_counts(tree: Path, check: Check) -> None:
    """Whichever comes first: a universal pin file may have one for older Pythons and another for newer ones."""
    path = tree / "requirements/dev.txt"
    other = f"flask==0.1 ; python_full_version < '3' \\\n    --hash=sha256:{'0' * 64}\n"
    for text in (other + path.read_text("utf-8"), path.read_text("utf-8") + other):
        path.write_text(text, "utf-8")
        done = check()
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "line",
    [
        "--index-url https://index.example/simple",
        "# from https://index.example/simple",
        "--find-links wheels",
        "flask @ file:flask.whl",
        "-e chassis",
    ],
)
def test_pins_name_no_place(tree: Path, check: Check, line: str) -> None:
    """Pins are versions and hashes: the place to download from is the user's own choice."""
    path = tree / "requirements/user.txt"
    path.write_text(f"{line}\n{path.read_text('utf-8')}", "utf-8")
    done = check()
    assert done.returncode == 1
    assert "requirements/user.txt: " in done.stderr
