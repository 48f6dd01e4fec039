"""`python -m observability.grafana.generator` writes dashboards/ anew; `make dashboards` does it."""

import json
from pathlib import Path

from observability.grafana.generator.boards import runbook
from observability.grafana.generator.catalog import boards, path_of
from observability.grafana.generator.frame import render

DASHBOARDS = Path(__file__).parents[1] / "dashboards"


def made() -> dict[str, str]:
    """The files below `dashboards/` and their text."""
    text = runbook.SOURCE.read_text("utf-8") if runbook.SOURCE.is_file() else ""
    return {
        path_of(board): json.dumps(render(board), indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        for board in boards(text)
    }


def main() -> None:
    """Write what is made, and remove what is not made any more."""
    files = made()
    for old in DASHBOARDS.rglob("*.json"):
        if str(old.relative_to(DASHBOARDS)) not in files:
            old.unlink()
    for name, text in files.items():
        path = DASHBOARDS / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")


if __name__ == "__main__":
    main()
