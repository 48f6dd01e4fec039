"""A clock that can be set while programs run, for those alone that were started with it.

A library in front of the C library's (`clock.c`) tells another time of day. The monotonic clock is left as it is, as no
administrator and no NTP can set that one. libfaketime, which does the same and more, also bends sleeps, and Python's
`time.sleep` then fails with EINVAL.
"""

from __future__ import annotations

import struct
import subprocess
from pathlib import Path

from chassis.testing import require

_SOURCE = Path(__file__).with_suffix(".c")


class Clock:
    """The library, and a file that says by how much the clock is wrong. Skips the test without a C compiler."""

    def __init__(self, directory: Path) -> None:
        self._file, library = directory / "clock", directory / "clock.so"
        self.set(0)
        command = [require("cc"), "-shared", "-fPIC", "-O2", "-o", str(library), str(_SOURCE), "-ldl"]
        subprocess.run(command, check=True)
        self.environment = {"LD_PRELOAD": str(library), "CLOCK_FILE": str(self._file)}
        """What a program is started with to have this clock."""

    def set(self, ahead_s: int) -> None:
        """Put it ahead, or behind if that is negative. It holds at once."""
        with self._file.open("r+b" if self._file.exists() else "xb") as file:
            file.write(struct.pack("=q", ahead_s))
