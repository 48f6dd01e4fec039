"""Child processes that do not outlive their parent, ports to give them, and waiting for what they do."""

import os
import random
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

T = TypeVar("T")

# Below the range that Linux (32768) and macOS (49152) take the ports of outgoing connections from: there, a client
# that keeps dialling a dead server's port is in the end connected to itself, and the server cannot come back.
_PORTS = range(15_000, 32_000)
_LAUNCHER = Path(__file__).with_name("launch.py")


@dataclass(frozen=True)
class Account:
    """Whom a child runs as when we are root."""

    name: str
    uid: int
    gid: int


def port_is_free(port: int, *, host: str = "127.0.0.1") -> bool:
    """True if a server could listen on `host`:`port` now."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, port))
        except OSError:
            return False
        return True


def free_port() -> int:
    """A TCP port of 127.0.0.1 on which nothing listens.

    Raises OSError if two hundred picks at random are all taken.
    """
    picks = random.SystemRandom()  # not the seeded generator: parallel test runs must not pick alike
    for _ in range(200):
        port = picks.choice(_PORTS)
        if port_is_free(port):
            return port
    raise OSError(f"no free port found between {_PORTS.start} and {_PORTS.stop}")


def wait_until(condition: Callable[[], T], *, timeout_s: float = 10.0, interval_s: float = 0.02, what: str = "") -> T:
    """Call `condition` every `interval_s` until it returns something true; return that.

    Raises TimeoutError, naming `what`, after `timeout_s`. What `condition` raises goes through.
    """
    give_up = time.monotonic() + timeout_s
    while not (value := condition()):
        if time.monotonic() >= give_up:
            raise TimeoutError(f"not within {timeout_s:g} s: {what or condition}")
        time.sleep(interval_s)
    return value


def spawn(
    command: Sequence[str | Path],
    *,
    env: Mapping[str, str],
    cwd: Path | str = "/",
    account: Account | None = None,
    death_signal: signal.Signals = signal.SIGTERM,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = subprocess.STDOUT,
) -> "subprocess.Popen[bytes]":
    """Start `command` in a session of its own, so that a Ctrl-C in the terminal does not reach it.

    On Linux the child gets `death_signal` when the *thread* that called this ends, however it ends: call from a
    thread that lives as long as the child should. Elsewhere a killed parent leaves the child behind.
    """
    who = f"{account.uid}:{account.gid}" if account else "-"
    tie = [str(os.getpid()), str(int(death_signal)), who, str(cwd)]
    return subprocess.Popen(
        [sys.executable, "-I", "-S", _LAUNCHER, *tie, *map(str, command)],
        env=dict(env),
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )


def signal_group(process: "subprocess.Popen[bytes]", signum: signal.Signals) -> None:
    """Send a signal to every process of the group that `spawn` started; none left is no error."""
    try:
        os.killpg(process.pid, signum)
    except (ProcessLookupError, PermissionError):  # macOS says EPERM of a group of zombies
        return
