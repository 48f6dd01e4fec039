"""What the tests of the tree itself share."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    """The folder of this checkout."""
    return ROOT


@pytest.fixture
def checkout(tmp_path: Path, root: Path) -> Path:
    """A copy of this tree as it would be committed: without .venv and caches."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=root, capture_output=True, check=True, text=True).stdout.split("\0")
    copy = tmp_path / "checkout"
    for name in filter(None, names):
        if (root / name).is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(root / name, copy / name)
    return copy
