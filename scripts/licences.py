"""The list of licences in docs/licences.md, made from what the shipped packages say of themselves.

python -m scripts.licences           write it
python -m scripts.licences --check   say what is out of date or not allowed, and exit 1 if anything is
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from scripts.shipped import SHIPPED, LicenceUnknown, allows, licence, shipped

ROOT = Path(__file__).resolve().parent.parent
LIST = "docs/licences.md"
BEGIN, END = "<!-- licences: made by `make licences` -->", "<!-- end of licences -->"
ROW = re.compile(r"\| ([\w.-]+) \| (\S+) \| ([^|]+) \| [^|]+ \|")

ALLOWED = frozenset(
    {
        "0BSD",
        "Apache-2.0",
        "BSD-2-Clause",
        "BSD-3-Clause",
        "ISC",
        "MIT",
        "MIT-0",
        "MPL-2.0",  # asks for the source of its own files only, and these are shipped as they are
        "PSF-2.0",
        "Unlicense",
        "ZPL-2.1",
        "Zlib",
    }
)
"""Any package may have these. Copyleft that reaches further than a package's own files is not among them."""

EXCEPTIONS = {"psycopg2-binary": "LGPL-3.0-or-later"}
"""A package, and the licence that only it may have. docs/licences.md says why."""

Licences = Mapping[tuple[str, str], str]


def licences(root: Path) -> tuple[dict[tuple[str, str], str], list[str]]:
    """The licence of each shipped (package, version), and what is wrong.

    What is not installed here, as it is for another Python, is taken from the list as it stands.
    """
    known = {(name, version): text.strip() for name, version, text in ROW.findall((root / LIST).read_text("utf-8"))}
    found: dict[tuple[str, str], str] = {}
    errors = []
    for each in shipped(root):
        key = each.pinned.name, str(each.pinned.version)
        try:
            text = licence(*key) or known.get(key)
        except LicenceUnknown as error:
            errors.append(str(error))
            continue
        if text is None:
            errors.append(f"{key[0]} {key[1]} is shipped and not installed here: run `make setup`")
            continue
        found[key] = text
    return found, list(dict.fromkeys(errors))


def refused(found: Licences) -> list[str]:
    """What may not be shipped, and exceptions that are none."""
    errors = [
        f"{name} {version}: {text} is not allowed in what is shipped (scripts/licences.py)"
        for (name, version), text in found.items()
        if not allows(text, ALLOWED | {EXCEPTIONS.get(name, "")})
    ]
    left = [name for name in EXCEPTIONS if name not in {name for name, _ in found}]
    return errors + [f"{name} is not shipped any more: take it out of EXCEPTIONS" for name in left]


def table(root: Path, found: Licences) -> str:
    """The Markdown table of what is shipped."""
    into: dict[tuple[str, str], list[str]] = defaultdict(list)
    for each in shipped(root):
        into[each.pinned.name, str(each.pinned.version)].append(each.into)
    rows = ["| package | version | licence | in |", "|---|---|---|---|"]
    for name, version in sorted(found):
        places = into[name, version]
        where = "all" if len(places) == len(SHIPPED) else ", ".join(places)
        rows.append(f"| {name} | {version} | {found[name, version]} | {where} |")
    return "\n".join(rows)


def page(text: str, made: str) -> str:
    """The page `text` with that table. Raises ValueError if it has no place for one."""
    if text.count(BEGIN) != 1 or text.count(END) != 1:
        raise ValueError(f"{LIST} has no place for the list")
    before, _, rest = text.partition(BEGIN)
    return f"{before}{BEGIN}\n{made}\n{END}{rest.partition(END)[2]}"


def main(arguments: list[str] | None = None) -> int:
    """Write the list, or with --check compare it. The exit status is 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="make licences", description="List what is shipped, with licences.")
    parser.add_argument("root", nargs="?", type=Path, default=ROOT, help="another tree")
    parser.add_argument("--check", action="store_true", help="compare, and write nothing")
    options = parser.parse_args(arguments)
    found, errors = licences(options.root)
    errors += refused(found)
    path = options.root / LIST
    old = path.read_text("utf-8")
    if not errors and (new := page(old, table(options.root, found))) != old:
        if options.check:
            errors.append(f"{LIST} is not what is shipped: run `make licences`")
        else:
            path.write_text(new, "utf-8")
    for each in errors:
        print(each, file=sys.stderr)
    return 1 if errors else 0


if __name__ == "__main__":
    sys.exit(main())
