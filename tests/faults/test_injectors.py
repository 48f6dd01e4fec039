"""What does the faults really does them, to those it is meant for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.faults import disk
from tests.faults.clock import Clock
from tests.faults.memory import limited
from tests.faults.signals import Heard, Signal
from tests.observability.faster import hasty
from tests.observability.promtool import rule_files

pytestmark = pytest.mark.faults

_GROWING = "import itertools\nheld = []\nfor n in itertools.count():\n    held.append(bytes(4096))"
_TELLING = """
import datetime, sys, time
for line in sys.stdin:
    print(time.time(), time.monotonic(), datetime.datetime.now().timestamp(), flush=True)
    time.sleep(0.01)
"""

_WAITING = """
import ctypes, sys, time
library = ctypes.CDLL(None)
woken, held = (ctypes.c_long * 16)(), (ctypes.c_long * 16)()  # more than either takes
library.mtx_init(held, 0), library.cnd_init(woken), library.mtx_lock(held)
for line in sys.stdin:
    began_s, until_ns = time.monotonic(), time.time_ns() + int(float(line) * 1e9)
    until = (ctypes.c_long * 2)(*divmod(until_ns, 10**9))
    print("waits", flush=True)
    result = library.cnd_timedwait(woken, held, until)
    print(time.monotonic() - began_s, result, flush=True)
"""
_TIMED_OUT = "4"
"""C11's thrd_timedout, as glibc numbers it."""


@contextmanager
def python(program: str, **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process that runs it."""
    process = subprocess.Popen(
        [sys.executable, "-c", program], env={**os.environ, **environment}, text=True, stdin=-1, stdout=-1
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def asked(process: subprocess.Popen[str], line: str) -> str:
    """The line with which it answers a line."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()
    return process.stdout.readline()


def test_a_process_without_memory_is_killed_and_its_parent_is_not() -> None:
    """SIGKILL, as from the kernel; as root and with control groups it is the kernel's."""
    with limited() as hit, python(_GROWING) as process:
        way = hit(process.pid)
        assert process.wait(5) == -9
    assert way in ("the kernel", "SIGKILL")


def test_a_disk_is_full_to_the_last_byte(tmp_path: Path) -> None:
    """Nothing can be written, and again something can."""
    with disk.disk(tmp_path, megabytes=1):
        disk.fill(tmp_path)
        with pytest.raises(OSError, match="No space left"):
            (tmp_path / "file").write_bytes(b"x")
        disk.make_room(tmp_path)
        (tmp_path / "file").write_bytes(b"x")


def test_a_clock_is_wrong_for_those_that_have_it(tmp_path: Path) -> None:
    """Python's two ways to know the time of day jump, and back; the monotonic clock and sleeps do not."""
    clock = Clock(tmp_path)

    def told(process: subprocess.Popen[str]) -> list[float]:
        return [float(word) for word in asked(process, "").split()]

    with python(_TELLING, **clock.environment) as process:
        before = told(process)
        for ahead_s in (3600, -3600, 0):
            clock.set(ahead_s)
            day, monotonic, date = told(process)
            passed_s = monotonic - before[1]
            assert 0 <= passed_s < 60
            assert abs(day - before[0] - ahead_s - passed_s) < 1
            assert abs(date - before[2] - ahead_s - passed_s) < 1


def test_a_wait_until_a_time_of_day_ends_by_the_wrong_clock(tmp_path: Path) -> None:
    """Neither at once nor an hour late when the clock was wrong before; when it jumps meanwhile, then with that."""
    clock = Clock(tmp_path)
    with python(_WAITING, **clock.environment) as process:
        assert process.stdout is not None
        for before_s, wait_s, after_s in ((3600, 0.1, 3600), (-3600, 0.1, -3600), (0, 3600.1, 3600)):
            clock.set(before_s)
            assert asked(process, str(wait_s)) == "waits\n"
            clock.set(after_s)
            waited_s, result = process.stdout.readline().split()
            assert 0.05 < float(waited_s) < 30
            assert result == _TIMED_OUT


def test_what_is_not_heard_breaks_the_promise() -> None:
    """Be it a metric, a log line or an alert."""
    rows: list[bool | None] = []

    def promise(fault: str, promise: str, measured: object, *, holds: bool | None) -> None:
        rows.append(holds)

    heard = Heard(Signal(metric="up == 0", log=("user", "Cache is"), alerts=("TargetDown",)))
    assert heard.wanted == ["up == 0", "user: Cache is …", "TargetDown"]
    for what in heard.wanted:
        heard.say(promise, "a fault")
        heard.after_s[what] = 1.0
    heard.say(promise, "a fault")
    assert rows == [False, False, False, True]


def test_rules_in_a_hurry_are_the_same_rules() -> None:
    """Nothing is left that waits for minutes, and nothing else has changed."""
    for path in rule_files():
        text = path.read_text(encoding="utf-8")
        fast = hasty(text)
        assert len(fast.splitlines()) == len(text.splitlines())
        assert "m]" not in fast
        assert "for: 5m" not in fast
    (file,) = (path for path in rule_files() if path.name == "stores.yml")
    assert 'scrape_duration_seconds{job="redis"} > 0.5' in hasty(file.read_text(encoding="utf-8"))
