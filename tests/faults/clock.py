"""A clock that can be set while programs run, for those alone that were started with it: libfaketime.

The monotonic clock is left as it is, as no administrator and no NTP can set that one. So are the times of files: by
those gunicorn's master knows that a worker is alive.
"""

from __future__ import annotations

import subprocess
from functools import cached_property
from pathlib import Path

from chassis.testing import require

READ_EVERY_S = 1
"""How often a program looks what its clock says."""


class Clock:
    """A file that says by how much the clock is wrong."""

    def __init__(self, directory: Path) -> None:
        self._file = directory / "clock"
        self.set(0)

    @cached_property
    def environment(self) -> dict[str, str]:
        """What a program is started with to have this clock. Skips the test without libfaketime, fails it under CI."""
        # Its own command knows where the library is.
        asked = subprocess.run(
            [require("faketime"), "-f", "+0", "printenv", "LD_PRELOAD"], capture_output=True, text=True, check=True
        )
        return {
            "LD_PRELOAD": asked.stdout.strip(),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_CACHE_DURATION": str(READ_EVERY_S),
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def set(self, ahead_s: int) -> None:
        """Put it ahead, or behind if that is negative."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead_s:+d}\n")
        new.replace(self._file)
