"""A disk that can be full: a small file system in memory. Only root may mount one, or who may become root unasked.

with disk(path, megabytes=2):      # mounted at `path`
    fill(path)                     # not a byte is free
    make_room(path)
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from chassis.testing.tools import missing

DEVICE = "storefront-faults"
"""By this name Prometheus' node exporter knows it."""
_FILLING = "filling"
_PIECES = (65536, 4096, 1)


@contextmanager
def disk(path: Path, *, megabytes: int) -> Iterator[None]:
    """A file system of that size at `path`, an empty directory. Skips the test where none can be mounted, and fails it
    under CI.
    """
    as_root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    options = f"size={megabytes}m,mode=0755,uid={os.geteuid()},gid={os.getegid()}"
    try:
        subprocess.run(
            [*as_root, "mount", "-t", "tmpfs", "-o", options, DEVICE, str(path)], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        missing("no file system can be mounted without a password")
    try:
        yield
    finally:
        # Lazily: whoever has files open there keeps them.
        subprocess.run([*as_root, "umount", "--lazy", str(path)], check=True)


def fill(path: Path) -> None:
    """Take all the room that there is."""
    file = os.open(path / _FILLING, os.O_CREAT | os.O_WRONLY | os.O_APPEND)
    try:
        for size in _PIECES:
            try:
                while os.write(file, b"x" * size):
                    pass
            except OSError:
                continue
    finally:
        os.close(file)


def make_room(path: Path) -> None:
    """Give it back."""
    (path / _FILLING).unlink()
