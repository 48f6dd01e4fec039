"""A container's memory limit is hit: the kernel kills the process that wants another page.

As root it is a control group with hardly any memory, in which a process has to live from one moment to the next. Pages
that it has stay where they were charged, so what kills it is the next one that it touches. Without root, or without
control groups, SIGKILL comes from here: what a process sees of it is the same.
"""

from __future__ import annotations

import contextlib
import os
import signal
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from chassis.testing import wait_until

_ROOT = Path("/sys/fs/cgroup")
_LIMIT = "65536"
KILLED_S = 2.0
"""One that does not want a page for so long is killed from here."""


@contextmanager
def limited() -> Iterator[Callable[[int], str]]:
    """Gives a function that lets a process hit the limit, and returns how that was done once it has been killed."""
    group = _group()

    def hit(pid: int) -> str:
        if group is not None:
            with contextlib.suppress(OSError, TimeoutError):
                (group / "cgroup.procs").write_text(str(pid))
                wait_until(lambda: not _lives(pid), timeout_s=KILLED_S)
                return "the kernel"
        os.kill(pid, signal.SIGKILL)
        return "SIGKILL"

    try:
        yield hit
    finally:
        if group is not None:
            wait_until(lambda: _removed(group), what=f"{group} to be empty")


def _group() -> Path | None:
    """A new group without processes, None if there can be none. Version 1 has a hierarchy for memory, 2 one for all."""
    name = f"storefront-faults-{uuid.uuid4().hex[:8]}"
    for parent, limit in ((_ROOT / "memory", "memory.limit_in_bytes"), (_ROOT, "memory.max")):
        group = parent / name
        try:
            if limit == "memory.max":
                (parent / "cgroup.subtree_control").write_text("+memory")
            group.mkdir()
            (group / limit).write_text(_LIMIT)
            return group
        except OSError:
            with contextlib.suppress(OSError):
                group.rmdir()
    return None


def _lives(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


def _removed(group: Path) -> bool:
    try:
        group.rmdir()
    except FileNotFoundError:
        return True
    except OSError:  # a process is still ending
        return False
    return True
