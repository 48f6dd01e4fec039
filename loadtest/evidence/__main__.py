"""`make evidence`: every claim before and after, peers, and how it scales, in one run on this machine.

Writes loadtest/results/<date>-<commit>.json and a report of the same name that needs no other file.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from loadtest import command, machine
from loadtest.errors import BenchError
from loadtest.evidence import blip, claims, memory, peers, report, scale, yardstick
from loadtest.evidence.record import Part
from loadtest.evidence.stage import Stage
from loadtest.generator import require_wrk
from loadtest.stores import running_stores
from loadtest.subjects import Fleet

RESULTS = Path(__file__).parent.parent / "results"
PARTS: dict[str, ModuleType] = {
    "yardstick": yardstick, "claims": claims, "blip": blip, "memory": memory, "peers": peers, "scale": scale,
}  # fmt: skip
"""Each has `expected_s(quick)` and `measure(stage) -> Part`; in the order in which they are run."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write. 0: it was measured, whatever the verdicts; 2: it could not be."""
    parser = argparse.ArgumentParser(prog="evidence", description="Is it as fast as it is said to be, here?")
    parser.add_argument("--quick", action="store_true", help="under 3 minutes: a look, not a result")
    parser.add_argument("--parts", default=",".join(PARTS), help=f"of {','.join(PARTS)}")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the results are written")
    options = parser.parse_args(arguments)

    def work(console: Console) -> int:
        _write(run(options.parts.split(","), quick=options.quick, console=console), options.out, console)
        return 0

    return command.run("evidence", work)


def run(names: Sequence[str], *, quick: bool, console: Console) -> dict[str, Any]:
    """Measure those parts; the whole record.

    Raises:
        BenchError: it cannot be measured here, or a server did not do what it should.
    """
    if unknown := set(names) - set(PARTS):
        raise BenchError(f"--parts takes {', '.join(PARTS)}, not {', '.join(sorted(unknown))}")
    require_wrk()
    modules = {name: module for name, module in PARTS.items() if name in names}
    commit = machine.commit()  # before a long run: the tree may be another one after it
    cores = machine.split_cores()
    if not cores.pinned:
        console.print("No core can be set aside for the server under test here: ratios are rougher.", style="yellow")
    began_s = time.monotonic()
    parts: list[dict[str, Any]] = []
    with (
        tempfile.TemporaryDirectory(prefix="storefront-evidence-") as directory,
        running_stores(Path(directory)) as stores,
        _progress(console) as progress,
    ):
        tasks = {name: progress.add_task(name, total=module.expected_s(quick)) for name, module in modules.items()}
        for name, module in modules.items():
            fleet = Fleet(stores=stores, directory=Path(directory), cores=cores)
            stage = Stage(
                stores=stores,
                directory=Path(directory),
                cores=cores,
                progress=progress,
                task=tasks[name],
                fleet=fleet,
                quick=quick,
            )
            part_began_s = time.monotonic()
            try:
                part: Part = module.measure(stage)
            finally:
                fleet.stop()
            parts.append({**part.record(), "took_s": round(time.monotonic() - part_began_s)})
            progress.update(tasks[name], completed=progress.tasks[tasks[name]].total, description=f"{name}: done")
    return {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "quick": quick,
        "complete": set(names) == set(PARTS),
        "took_s": round(time.monotonic() - began_s),
        "machine": machine.facts(cores),
        "parts": parts,
    }


def _write(record: dict[str, Any], directory: Path, console: Console) -> None:
    path = command.result_path(record, directory)
    path.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
    page = path.with_suffix(".html")
    page.write_text(report.page(record, data=path.name), encoding="utf-8")
    console.print(report.summary(record))
    console.print(f"The data: {path}\nThe report, for a browser: {page}", highlight=False)


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn(), console=console
    )


if __name__ == "__main__":
    sys.exit(main())
