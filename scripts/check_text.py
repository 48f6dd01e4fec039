"""`make lint`: what is committed names no machine's own folders and no package index, and has no merge left-overs."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

# Written so that none matches its own line here.
PATTERNS = {
    "a home directory": re.compile(r"(?<![\w.:/$}-])/(?:(?:home|Users)/\w|(?:root)/)|\b[A-Z]:\\+Users\b"),
    "a package index": re.compile(r"://(?:[\w.-]+\.)?(?:pypi|pythonhosted|registry)\b"),
    "a merge conflict": re.compile(r"^(?:<{7}|>{7})(?: |$)"),
}


def committed(root: Path) -> list[str]:
    """The files of the tree under `root` that git knows or would add."""
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    answer = subprocess.run(listing, cwd=root, capture_output=True, check=True, text=True)
    return [name for name in answer.stdout.split("\0") if name and (root / name).is_file()]


def check(root: Path, names: list[str]) -> Iterator[str]:
    """What is wrong with these files, one line each: `file:line: …`. Files that are not text are passed over."""
    patterns = {**PATTERNS, "this checkout's own path": re.compile(rf"(?<![\w.]){re.escape(str(root))}(?![\w-])")}
    for name in names:
        try:
            text = (root / name).read_text("utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            for what, pattern in patterns.items():
                if found := pattern.search(line):
                    yield f"{name}:{number}: names {what}: {found[0]!r}"


def main(root: Path = ROOT) -> int:
    """Print what is wrong. The exit status is 1 if anything is."""
    errors = list(check(root, committed(root)))
    for error in errors:
        print(error, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]).resolve()) if sys.argv[1:] else main())
