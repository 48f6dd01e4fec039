"""The machine under the figures: its cores, and the facts a reader needs beside a result."""

from __future__ import annotations

import itertools
import os
import platform
import shutil
import subprocess
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

_PACKAGES = (
    "flask",
    "gunicorn",
    "werkzeug",
    "psycopg2-binary",
    "sqlalchemy",
    "redis",
    "hiredis",
    "prometheus-client",
    "orjson",
    "aiohttp",
    "uvloop",
    "httptools",
    "fastapi",
    "uvicorn",
    "asyncpg",
    "urllib3",
)


@dataclass(frozen=True, kw_only=True)
class Cores:
    """Which core the server under test has to itself, and which ones the rest (wrk, stores, upstreams) share.

    Both are None where pinning is impossible: one core only, no taskset, or not Linux. Ratios then mean less.
    """

    server: int | None
    others: frozenset[int] | None

    @property
    def pinned(self) -> bool:
        """Whether the server under test has a core to itself."""
        return self.server is not None

    def pin(self, command: list[str]) -> list[str]:
        """`command`, made to run on the server's core."""
        return command if self.server is None else ["taskset", "-c", str(self.server), *command]

    def share_out(self, processes: Iterable[int]) -> None:
        """Give each process, with all threads that it has and will have, one core of all in turn. For a question that
        is not about rates: workers in Python that may change cores spend half of their time on it.
        """
        if self.server is None or self.others is None:
            return
        cores = itertools.cycle((self.server, *sorted(self.others)))
        for pid, core in zip(processes, cores, strict=False):
            for thread in Path(f"/proc/{pid}/task").iterdir():
                with suppress(ProcessLookupError):  # it has ended meanwhile
                    os.sched_setaffinity(int(thread.name), {core})


def split_cores() -> Cores:
    """Take the first usable core for the server under test and move this process, and so its children, to the rest."""
    if not hasattr(os, "sched_getaffinity") or shutil.which("taskset") is None:
        return Cores(server=None, others=None)
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < 2:
        return Cores(server=None, others=None)
    others = frozenset(usable[1:])
    os.sched_setaffinity(0, others)
    return Cores(server=usable[0], others=others)


def facts(cores: Cores) -> dict[str, object]:
    """Processor, cores, kernel and versions; nothing that names the machine or a place on it."""
    versions = {}
    for package in _PACKAGES:
        try:
            versions[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "cores": os.cpu_count(),
        "pinned": cores.pinned,
        "system": platform.system(),
        "architecture": platform.machine(),
        "python": platform.python_version(),
        "packages": versions,
    }


def commit() -> str:
    """The short commit of the tree, with `-dirty` when files differ from it; `unknown` outside git."""
    try:
        head = _git("rev-parse", "--short=10", "HEAD")
        dirty = _git("status", "--porcelain", "--untracked-files=no")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{head}-dirty" if dirty else head


def _git(*arguments: str) -> str:
    here = Path(__file__).parent
    done = subprocess.run(["git", *arguments], cwd=here, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or "unknown"
