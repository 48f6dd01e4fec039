"""The processes of a run: their output, line by line behind their name, and their end."""

import asyncio
import os
import signal
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from chassis.children import signal_group, spawn

_LONGEST_LINE_BYTES = 1 << 20
_COLOURS = {"green": 32, "yellow": 33, "blue": 34, "magenta": 35, "cyan": 36}


class Output:
    """Writes lines to a stream, each behind the padded name of its process; in colour on a terminal."""

    def __init__(self, *, width: int, colours: Mapping[str, str]) -> None:
        self._width = width
        self._colours = colours if sys.stdout.isatty() and not os.environ.get("NO_COLOR") else {}

    def line(self, name: str, text: str) -> None:
        """Write one line of a process."""
        prefix = f"{name:<{self._width}} | "
        if colour := _COLOURS.get(self._colours.get(name, "")):
            prefix = f"\x1b[{colour}m{prefix}\x1b[0m"
        self.write(f"{prefix}{text}\n")

    def write(self, text: str) -> None:
        """Write as it is. A terminal that is gone must not keep us from stopping what runs."""
        try:
            sys.stdout.write(text)
            sys.stdout.flush()
        except OSError:
            # As the documentation of SIGPIPE in Python advises: the next flush would fail again, the last one too.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@dataclass
class Child:
    """A process of ours whose output is being read."""

    name: str
    process: "subprocess.Popen[bytes]"
    last_lines: "deque[str]" = field(default_factory=lambda: deque(maxlen=15))
    reader: "asyncio.Task[None] | None" = None

    async def read(self, output: Output) -> None:
        """Pass on what the process writes, from now on and in the background."""
        stream = asyncio.StreamReader(limit=_LONGEST_LINE_BYTES)
        loop = asyncio.get_running_loop()
        await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), self.process.stdout)
        self.reader = asyncio.create_task(self._pass_on(stream, output))

    async def wait(self) -> int:
        """Wait for the end, and for all that it has written; return the exit code."""
        while (code := self.process.poll()) is None:  # noqa: ASYNC110 - not every system makes an event of it
            await asyncio.sleep(0.02)
        if self.reader is not None:
            # Not for ever: what the process has started may hold the pipe open.
            await asyncio.wait([self.reader], timeout=1)
        return code

    def last_words(self) -> str:
        """Its last lines, for below an error."""
        return "\n".join(f"{self.name} | {line}" for line in self.last_lines)

    async def _pass_on(self, stream: asyncio.StreamReader, output: Output) -> None:
        while True:
            try:
                raw = await stream.readline()
            except ValueError:
                raw = b"(a line of more than a megabyte)\n"
            if not raw:
                return
            line = raw.decode(errors="replace").rstrip()
            self.last_lines.append(line)
            output.line(self.name, line)


def start_child(name: str, command: Sequence[str], *, env: Mapping[str, str]) -> Child:
    """Start a process in a session of its own; its output waits to be read."""
    return Child(name, spawn(command, env=env, cwd=Path.cwd(), stdout=subprocess.PIPE))


def how_it_ended(code: int) -> str:
    """An exit code in words."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"with exit code {code}"


async def stop_children(children: Sequence[Child], *, timeout_s: float) -> None:
    """SIGTERM to all at once; SIGKILL, to the whole process group, for what is left after `timeout_s`."""
    for child in children:
        if child.process.poll() is None:
            child.process.send_signal(signal.SIGTERM)
    try:
        async with asyncio.timeout(timeout_s):
            for child in children:
                await child.wait()
    except TimeoutError:
        pass
    finally:
        for child in children:
            signal_group(child.process, signal.SIGKILL)
    for child in children:
        child.process.wait()
