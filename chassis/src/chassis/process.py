"""What the whole service, gunicorn's master and its workers, uses of the machine. Read from /proc; zeros without it."""

from __future__ import annotations

import ctypes
import os
import resource
from dataclasses import dataclass
from pathlib import Path

_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_PROC = Path("/proc")
_M_ARENA_MAX = -8  # of glibc's malloc.h

MASTER_PID_VARIABLE = "CHASSIS_MASTER_PID"
"""Set by `chassis.gunicorn` in the master and inherited by its workers."""


def limit_malloc_arenas(count: int = 2) -> None:
    """Let the threads of this process and of those it forks share `count` malloc arenas (glibc; elsewhere no effect).

    glibc gives threads arenas of their own, up to eight a core, each with its own free memory that it keeps. Python's
    threads take turns anyway, so all that brings here is memory that grows for a long time.
    """
    try:
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, count)
    except (AttributeError, OSError, TypeError):
        return


@dataclass
class Usage:
    """Sums over the processes; `start_time_s` (Unix time) is the master's.

    `resident_bytes` counts what the master and its workers share once, as a container's limit does: of anonymous pages
    each process' proportional part, of pages of files (`file_bytes`) the most that one of them has. Proportional parts
    of file pages would shrink whenever an unrelated Python program starts.
    """

    cpu_s: float = 0.0
    resident_bytes: int = 0
    virtual_bytes: int = 0
    open_fds: int = 0
    max_fds: int = 0
    start_time_s: float = 0.0
    file_bytes: int = 0


def tree_usage() -> Usage:
    """The usage of the master and its live workers, or of this process when there is no master.

    CPU time never falls when a worker ends: the kernel adds a reaped child's to its parent's.
    """
    root = int(os.environ.get(MASTER_PID_VARIABLE, "0")) or os.getpid()
    usage = Usage()
    for pid in (root, *_children(root)):
        try:
            _add(usage, pid, is_root=pid == root)
        except (OSError, IndexError):
            continue  # it ended while we looked, or there is no /proc
    return usage


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in (_PROC / str(pid) / "task" / str(pid) / "children").read_text().split()]
    except OSError:
        return []


def _add(usage: Usage, pid: int, *, is_root: bool) -> None:
    # Fields of proc(5) `stat`, counted after the command's closing bracket: utime 11, stime 12, cutime 13, cstime 14,
    # starttime 19, vsize 20, rss 21.
    stat = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    usage.cpu_s += sum(map(int, stat[11 : 15 if is_root else 13])) / _TICKS_PER_S
    usage.virtual_bytes += int(stat[20])
    anonymous, of_files = _resident_bytes(pid) or (int(stat[21]) * _PAGE_BYTES, 0)
    usage.resident_bytes += anonymous + max(0, of_files - usage.file_bytes)
    usage.file_bytes = max(usage.file_bytes, of_files)
    usage.open_fds += sum(1 for _ in (_PROC / str(pid) / "fd").iterdir())
    usage.max_fds += resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    if is_root:
        usage.start_time_s = _boot_time_s() + int(stat[19]) / _TICKS_PER_S


def _resident_bytes(pid: int) -> tuple[int, int] | None:
    """Resident anonymous bytes (a page that n processes share counts 1/n) and file bytes; None: the kernel is mute."""
    try:
        text = (_PROC / str(pid) / "smaps_rollup").read_text()
    except OSError:
        return None
    kib = {line.split(":")[0]: int(line.split()[1]) for line in text.splitlines()[1:]}
    if "Pss_Anon" not in kib:
        return None
    return (kib["Pss_Anon"] + kib["Pss_Shmem"]) * 1024, (kib["Rss"] - kib["Anonymous"]) * 1024


def _boot_time_s() -> float:
    for line in (_PROC / "stat").read_text().splitlines():
        if line.startswith("btime "):
            return float(line.split()[1])
    return 0.0
