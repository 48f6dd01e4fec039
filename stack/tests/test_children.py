"""Processes: their output and their end."""

import asyncio
import os
import signal
import subprocess
import sys
import time

import psutil
import pytest

from chassis.testing import wait_until
from stack.children import Child, Output, start_child, stop_children


def _run(*command: str, then: bool = False, timeout_s: float = 5.0) -> tuple[Child, int]:
    """Run a command with its output passed on; `then`: stop it once it has written a line."""

    async def run() -> tuple[Child, int]:
        child = start_child("name", command, env={"PATH": os.environ["PATH"]})
        await child.read(Output(width=6, colours={}))
        while then and not child.last_lines:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        if then:
            await stop_children([child], timeout_s=timeout_s)
        return child, await child.wait()

    return asyncio.run(run())


def test_each_line_has_its_name_in_front(capfd: pytest.CaptureFixture[str]) -> None:
    """Output and errors are passed on line by line; the last ones are kept."""
    child, code = _run("sh", "-c", "echo one; echo two >&2; printf three; exit 3")
    assert code == 3
    assert capfd.readouterr().out == "name   | one\nname   | two\nname   | three\n"
    assert list(child.last_lines) == ["one", "two", "three"]


def test_a_line_without_end(capfd: pytest.CaptureFixture[str]) -> None:
    """A line of megabytes neither ends the reading nor fills the screen."""
    _, code = _run(sys.executable, "-c", "print('x' * 3_000_000); print('after')")
    assert code == 0
    assert capfd.readouterr().out.endswith("name   | after\n")


def test_stops_on_sigterm() -> None:
    """A process that ends on SIGTERM is given the time to."""
    child, code = _run("sh", "-c", "trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.02; done", then=True)
    assert code == 7
    assert child.last_lines[-1] == "bye"


def test_kills_what_does_not_stop() -> None:
    """A process that ignores SIGTERM is killed, and what it has started as well."""
    before = time.monotonic()
    child, code = _run("sh", "-c", "trap '' TERM; sleep 600 & echo $!; wait; sleep 600", then=True, timeout_s=0.2)
    assert code == -signal.SIGKILL
    assert time.monotonic() - before < 5
    grandchild = int(child.last_lines[0])
    wait_until(lambda: not psutil.pid_exists(grandchild) or psutil.Process(grandchild).status() == "zombie")


def test_a_closed_terminal_does_not_stop_us() -> None:
    """Writing goes on, into nothing, when nobody reads any more; the exit code is that of success."""
    program = (
        "from stack.children import Output; import time\n"
        "for _ in range(3): Output(width=1, colours={}).line('n', 'x' * 100_000); time.sleep(0.05)"
    )
    command = [sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.wait(10) == 0
