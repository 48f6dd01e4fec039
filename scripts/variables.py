"""The tables of variables in the services' READMEs and in .env.example, made from the settings in the code.

python scripts/variables.py           write them
python scripts/variables.py --check   say which are out of date, and exit 1 if any is
"""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from chassis.settings import ServiceSettings, Variable, variables

ROOT = Path(__file__).resolve().parent.parent
SERVICES = ("catalogue", "user", "gateway", "links")
BEGIN, END = "<!-- variables: made by `make docs` -->", "<!-- end of variables -->"

RUN = (
    ("GATEWAY_PORT", "8000", "port of the gateway"),
    ("CATALOGUE_PORT", "5000", "port of the catalogue"),
    ("USER_PORT", "5001", "port of the user service"),
    ("LINKS_PORT", "5002", "port of the links service"),
    ("REDIRECT_PORT", "", "port of the redirect function; empty: it does not run, and short links do without it"),
    ("CONFIG_DIR", "", "directory with config.json, *-config/*.properties and secrets/; empty: none is read"),
)
"""Read by `make run` or before any settings, so no settings class knows them."""


def settings_of(service: str) -> type[ServiceSettings]:
    """The settings class of a service."""
    found: type[ServiceSettings] = importlib.import_module(f"{service}.settings").Settings
    return found


def table(service: str) -> str:
    """The Markdown table of a service's variables."""
    rows = ["| variable | default | meaning |", "|---|---|---|"]
    for variable in variables(settings_of(service)):
        default = "secret, none" if variable.secret else f"`{variable.default}`" if variable.default else "none"
        rows.append(f"| `{variable.name}` | {_portable(default)} | {variable.description} |")
    return "\n".join(rows)


def example() -> str:
    """The text of .env.example: what all services share once, then each one's own."""
    lines = [
        "# Every variable of storefront, with its default. Made by `make docs` from the settings in the code.",
        "# Copy what you change to your environment; secrets have no default. Times carry their unit in the meaning.",
        "",
        "# --- make run",
    ]
    for name, default, meaning in RUN:
        lines += _entry(name, default, meaning)
    tables = {service: {each.name: each for each in variables(settings_of(service))} for service in SERVICES}
    shared = [
        each for each in tables["catalogue"].values() if all(tables[name].get(each.name) == each for name in SERVICES)
    ]
    for title, chosen in [
        ("every service", shared),
        *((name, [each for each in tables[name].values() if each not in shared]) for name in SERVICES),
    ]:
        lines += ["", f"# --- {title}"]
        for variable in chosen:
            lines += _entry(variable.name, variable.default or "", variable.description, variable)
    return "\n".join(lines) + "\n"


def _entry(name: str, default: str, meaning: str, variable: Variable | None = None) -> list[str]:
    secret = " (secret)" if variable is not None and variable.secret else ""
    return [f"# {meaning}{secret}", f"#{name}={_portable(default)}"]


def _portable(default: str) -> str:
    """A default that is a path inside the package, without the machine it is on."""
    return default.replace(str(ROOT) + "/", "").replace("services/catalogue/src/", "")


def readme(path: Path, service: str) -> str:
    """The README at `path` with its table made anew. Raises ValueError if it has no place for one."""
    before, begin, rest = path.read_text().partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path.relative_to(ROOT)} has no lines {BEGIN!r} and {END!r}")
    return f"{before}{BEGIN}\n{table(service)}\n{END}{after}"


def main() -> int:
    """Write, or with `--check` compare. Returns the exit status."""
    wanted = {ROOT / ".env.example": example()}
    for service in SERVICES:
        path = ROOT / "services" / service / "README.md"
        wanted[path] = readme(path, service)
    stale = [path for path, text in wanted.items() if not path.exists() or path.read_text() != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is out of date: run `make docs`")
        return 1 if stale else 0
    for path in stale:
        path.write_text(wanted[path])
        print(f"wrote {path.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
