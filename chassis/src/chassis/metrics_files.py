"""Metric files that a full disk does not turn into a killer.

prometheus_client makes its files sparse and maps them into memory. Where the disk has no room for a page of such a
file, the first write to it is a SIGBUS: the worker is gone, so is the next one, and the service with them. Here every
page is on the disk before it is written to. When there is no room the values live in memory alone: the service goes on,
`/metrics` lacks what this worker counts, and a moment after there is room again all of it is where it belongs.
"""

from __future__ import annotations

import logging
import mmap
import os
import time
from pathlib import Path
from typing import Any

from prometheus_client import mmap_dict, values

log = logging.getLogger(__name__)

TRY_EVERY_S = 1.0
"""How often a write looks whether there is room again."""
_FIRST_BYTES = mmap_dict._INITIAL_MMAP_SIZE  # noqa: SLF001 - as the original
_HEAD_BYTES = 8
_AROUND_KEY_BYTES = 64
"""More than a value takes beside its name: length, padding, two numbers."""


class MetricsFile(mmap_dict.MmapedDict):
    """A file of one worker's metrics, in the format of prometheus_client. As there, the caller holds a lock."""

    _f: Any
    _m: mmap.mmap
    _used: int

    def __init__(self, filename: str, read_mode: bool = False) -> None:
        self._home = filename
        self._homeless = False
        self._try_at_s = 0.0
        if not read_mode:
            try:
                _reserve(filename, _FIRST_BYTES)
            except OSError as error:
                self._begin_homeless(error)
                return
        super().__init__(filename, read_mode)  # type: ignore[no-untyped-call]

    def write_value(self, key: str, value: float, timestamp: float) -> None:
        if self._homeless and time.monotonic() >= self._try_at_s:
            self._return()
        super().write_value(key, value, timestamp)  # type: ignore[no-untyped-call]

    def _init_value(self, key: str) -> None:
        """Make room for a value, so that the original need not."""
        while self._used + len(key.encode()) + _AROUND_KEY_BYTES > self._capacity:
            self._grow()
        super()._init_value(key)  # type: ignore[no-untyped-call]

    def _grow(self) -> None:
        size = 2 * self._capacity
        if not self._homeless:
            try:
                _reserve(self._home, size)
            except OSError as error:
                self._leave(error)
            else:
                self._m = mmap.mmap(self._f.fileno(), size)
                self._capacity = size
                return
        self._move(_Nowhere(), size)

    def _begin_homeless(self, error: OSError) -> None:
        """As the original's `__init__`, with nothing but memory."""
        self._leave(error)
        self._f, self._fname = _Nowhere(), self._home
        self._m, self._capacity = mmap.mmap(-1, _FIRST_BYTES), _FIRST_BYTES
        self._positions: dict[str, int] = {}
        self._used = _HEAD_BYTES
        mmap_dict._pack_integer(self._m, 0, self._used)  # type: ignore[no-untyped-call]  # noqa: SLF001

    def _leave(self, error: OSError) -> None:
        self._homeless = True
        self._try_at_s = time.monotonic() + TRY_EVERY_S
        log.error("Metrics cannot be kept in %s, they wait in memory: %s", Path(self._home).parent, error.strerror)

    def _return(self) -> None:
        """Go back to the disk if it has room."""
        self._try_at_s = time.monotonic() + TRY_EVERY_S
        try:
            _reserve(self._home, self._capacity)
            file = Path(self._home).open("r+b")  # noqa: SIM115 - it lives as long as this object
        except OSError:
            return
        self._move(file, self._capacity)
        self._homeless = False
        log.info("Metrics are kept in %s again", Path(self._home).parent)

    def _move(self, file: Any, size: int) -> None:
        """Go on in `file`, with all that there is."""
        moved = mmap.mmap(file.fileno(), size)
        moved[_HEAD_BYTES : self._used] = self._m[_HEAD_BYTES : self._used]
        moved[:_HEAD_BYTES] = self._m[:_HEAD_BYTES]  # last: it says how much is to be read
        self._m.close()
        self._f.close()
        self._f, self._m, self._capacity = file, moved, size


class _Nowhere:
    """In the place of a file: memory of the process."""

    def fileno(self) -> int:
        """What `mmap` takes for no file."""
        return -1

    def close(self) -> None:
        """Nothing."""


def install() -> None:
    """Let prometheus_client use these files. Before the first metric is made."""
    values.MmapedDict = MetricsFile  # type: ignore[attr-defined]


def _reserve(path: str, size: int) -> None:
    """Have the first `size` bytes of a file on the disk, new ones as zeros. Raises OSError if there is no room.

    A new file has its name once it has its size: who is killed while making one leaves nothing that cannot be read.
    """
    is_new = not Path(path).exists()
    name = f"{path}.new" if is_new else path
    file = os.open(name, os.O_RDWR | os.O_CREAT, 0o666)
    before = there = os.fstat(file).st_size
    try:
        while there < size:
            there += os.pwrite(file, bytes(size - there), there)
    except OSError:
        os.ftruncate(file, before)
        raise
    finally:
        os.close(file)
    if is_new:
        Path(name).rename(path)
