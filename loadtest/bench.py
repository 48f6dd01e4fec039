"""`make bench`: our services beside their peers, in one run, as ratios.

Each server under test has one core to itself; wrk, the stores and upstreams share the others. Rounds are interleaved
(A B C … A B C …), each begins with a warm-up that is not counted, and a ratio is taken within a round.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from loadtest import checks, command, machine, memory, report, resilience, walk
from loadtest.errors import BenchError
from loadtest.generator import Load, require_wrk, run_wrk
from loadtest.stores import running_stores
from loadtest.subjects import SUBJECTS, Fleet, Subject, chosen, require_nginx

RESULTS = Path(__file__).with_name("results")
CONNECTIONS = 32


def measure(
    subjects: Sequence[Subject], *, rounds: int, seconds: float, warm_up_s: float, progress: Progress
) -> dict[str, list[Load]]:
    """The loads of every subject, in the order of the rounds. Raises BenchError if any request fails."""
    loads: dict[str, list[Load]] = {subject.name: [] for subject in subjects}
    task = progress.add_task("measuring", total=rounds * len(subjects))
    for number in range(1, rounds + 1):
        for subject in subjects:
            progress.update(task, description=f"round {number}: {subject.name}")
            loads[subject.name].append(one_round(subject, seconds=seconds, warm_up_s=warm_up_s))
            progress.advance(task)
    return loads


def one_round(subject: Subject, *, seconds: float, warm_up_s: float, recorded: bool = True) -> Load:
    """One round of a subject, whole seconds each; 0 for no warm-up.

    Args:
        recorded: whether to wait until every request is in its log and its metrics, if it has them.

    Raises:
        BenchError: a request fails, or is not recorded.
    """
    url = subject.server.url + subject.path
    subject.check_state()
    if warm_up_s:
        run_wrk(url, seconds=warm_up_s, connections=CONNECTIONS, headers=subject.headers)
    observed = recorded and subject.server.launch.observed
    counted = checks.requests_counted(subject.server) if observed else 0.0
    subject.server.empty_log()
    cpu_before_s = subject.server.cpu_s()
    load = run_wrk(url, seconds=seconds, connections=CONNECTIONS, headers=subject.headers)
    load = replace(load, server_cpu_s=subject.server.cpu_s() - cpu_before_s)
    checks.require_clean(subject.name, load)
    if observed:
        checks.require_all_recorded(subject.server, requests=load.requests, counted_before=counted)
    return load


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the bench. 0: everything demanded holds; 1: something is missed; 2: it could not be measured."""
    options = _parser().parse_args(arguments)
    options.rounds = options.rounds or (3 if options.quick else 5)
    options.seconds = options.seconds or (2.0 if options.quick else 5.0)
    return command.run("bench", lambda console: _run(options, console))


def _run(options: argparse.Namespace, console: Console) -> int:
    names, comparisons = chosen(options.only)
    parts = set(options.parts.split(",")) if options.parts else {"rates"} if options.only or options.quick else _PARTS
    if parts - _PARTS:
        raise BenchError(f"--parts takes {', '.join(sorted(_PARTS))}, not {', '.join(sorted(parts - _PARTS))}")
    require_wrk()
    if "rates" in parts and any(name.startswith("nginx") for name in names):
        require_nginx()
    cores = machine.split_cores()
    if not cores.pinned:
        console.print("No core can be set aside for the server under test here: ratios are rougher.", style="yellow")
    record: dict[str, Any] = {
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": machine.commit(),
        "machine": machine.facts(cores),
    }
    verdicts: list[report.Verdict] = []
    limits: list[report.Limit] = []
    with (
        tempfile.TemporaryDirectory(prefix="storefront-bench-") as directory,
        running_stores(Path(directory)) as stores,
        _progress(console) as progress,
    ):
        fleet = Fleet(stores=stores, directory=Path(directory), cores=cores)
        try:
            if "rates" in parts:
                loads = _rates(fleet, names, options, progress)
                verdicts = [report.judge(comparison, loads) for comparison in comparisons]
                record["settings"] = {"rounds": options.rounds, "seconds": options.seconds, "connections": CONNECTIONS}
                record["rates"] = report.rounds_record(loads)
                record["ratios"] = [report.verdict_record(verdict) for verdict in verdicts]
                console.print(report.rates_table(loads, verdicts))
                fleet.stop()
            if "walk" in parts:
                seen = walk.measure(stores, directory=Path(directory), cores=cores, progress=progress)
                limits.append(seen.limit)
                record["walk"] = seen.record
                console.print(report.limits_table([seen.limit], title=seen.title))
            if "memory" in parts:
                found = memory.measure(stores, directory=Path(directory), cores=cores, progress=progress)
                limits.extend(found.limits)
                record["memory"] = found.record
                console.print(report.limits_table(found.limits, title=memory.TITLE))
            if "resilience" in parts:
                endured = resilience.measure(directory=Path(directory), cores=cores, progress=progress)
                limits.extend(endured.limits)
                record["resilience"] = endured.record
                console.print(report.limits_table(endured.limits, title=resilience.TITLE))
        finally:
            fleet.stop()
    holds = report.all_hold(verdicts, limits)
    record["limits"] = [report.limit_record(limit) for limit in limits]
    record["holds"] = holds
    if not options.no_save:
        console.print(f"written: {_save(record)}", highlight=False)
    console.print("Everything demanded holds." if holds else "Something demanded is MISSED.")
    return 0 if holds else 1


_PARTS = {"rates", "walk", "memory", "resilience"}


def _rates(fleet: Fleet, names: list[str], options: argparse.Namespace, progress: Progress) -> dict[str, list[Load]]:
    task = progress.add_task("starting", total=len(names))
    subjects = []
    for name in names:
        progress.update(task, description=f"starting and checking {name}")
        subject = SUBJECTS[name](fleet)
        subject.check()
        subjects.append(subject)
        progress.advance(task)
    return measure(
        subjects, rounds=options.rounds, seconds=options.seconds, warm_up_s=options.warm_up, progress=progress
    )


def _save(record: dict[str, Any]) -> str:
    """Write the record; its path, from the root of the tree."""
    path = command.result_path(record, RESULTS, kind="bench")
    path.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    return str(path.relative_to(RESULTS.parent.parent))


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="3 rounds of 2 s, rates only: a look, not a result")
    parser.add_argument(
        "--only", action="append", default=[], metavar="NAME", help=f"with its references; of {', '.join(SUBJECTS)}"
    )
    parser.add_argument(
        "--parts", metavar="A,B", help="of rates, walk, memory, resilience; all, but for --quick and --only"
    )
    parser.add_argument("--rounds", type=int, help="interleaved rounds (5)")
    parser.add_argument("--seconds", type=float, help="measured seconds a round (5)")
    parser.add_argument("--warm-up", type=float, default=1.0, help="seconds before each round that do not count (1)")
    parser.add_argument("--no-save", action="store_true", help="write no results file")
    return parser


if __name__ == "__main__":
    sys.exit(main())
