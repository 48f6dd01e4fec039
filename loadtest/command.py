"""What the commands that measure have in common: a console, an end in order, exit codes, and the name of a result."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from loadtest.errors import BenchError

_WIDTH = 150
"""Where there is no terminal."""


def run(name: str, work: Callable[[Console], int]) -> int:
    """What `work` returns; 130 if it is interrupted, 2 if it cannot be measured, with a line that says why."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=_WIDTH)
    # As Ctrl-C does: whatever ends it, its servers end first.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        return work(console)
    except KeyboardInterrupt:
        console.print(f"{name}: interrupted, nothing is written")
        return 130
    except BenchError as error:
        console.print(f"{name}: {error}", style="red", markup=False, highlight=False)
        return 2


def result_path(record: Mapping[str, Any], directory: Path, *, kind: str = "") -> Path:
    """The file of a result in `directory`, which is made: by day, commit and kind. A part of a measurement (`complete`
    is false), or a quick one, never takes the name of a result.
    """
    directory.mkdir(parents=True, exist_ok=True)
    less = ("" if record.get("complete", True) else "-part") + ("-quick" if record.get("quick") else "")
    return directory / f"{record['taken_at'][:10]}-{record['commit']}{kind and f'-{kind}'}{less}.json"
