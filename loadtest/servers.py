"""Processes of a measurement: started on their core, awaited by condition, ended with all their children."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import urllib3

from chassis.children import free_port, signal_group, spawn, wait_until
from loadtest.errors import BenchError
from loadtest.machine import Cores

ROOT = Path(__file__).resolve().parent.parent
# A server may close a kept connection just as it is used again (uvicorn does after 5 s): then GET is repeated.
_RETRY = urllib3.Retry(connect=False, read=2, redirect=False, status=False, other=False)
_HTTP = urllib3.PoolManager(retries=_RETRY, timeout=urllib3.Timeout(connect=1.0, read=10.0))
STOP_S = 2.5
"""gunicorn's own ASGI worker waits for half a minute for connections that are idle."""


def http_get(url: str, *, headers: Mapping[str, str] | None = None) -> urllib3.BaseHTTPResponse:
    """One GET over a kept connection. Raises `urllib3.exceptions.HTTPError` if there is no answer."""
    return _HTTP.request("GET", url, headers=headers)


@dataclass(frozen=True, kw_only=True)
class Launch:
    """How to start one server: all of its environment but PATH, PYTHONPATH and PORT.

    `command` and the values of `env` may hold `{port}` and `{metrics_dir}`, an empty directory.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    alone_on_core: bool = True
    """False for what stands beside the server under test: an upstream."""
    observed: bool = True
    """Whether it has metrics, request ids and an access log; only the bare floors have not."""


class RunningServer:
    """A started server: its address, its log, its end. Its stdout and stderr are one file."""

    def __init__(self, launch: Launch, *, directory: Path, cores: Cores) -> None:
        self.launch = launch
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log_path = directory / f"{launch.name}.log"
        metrics_dir = directory / f"{launch.name}-metrics"
        shutil.rmtree(metrics_dir, ignore_errors=True)
        metrics_dir.mkdir(parents=True)
        known = {"port": str(self.port), "metrics_dir": str(metrics_dir)}
        env = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "PORT": str(self.port),
            **{name: value.format_map(known) for name, value in launch.env.items()},
        }
        command = [part.format_map(known) for part in launch.command]
        if launch.alone_on_core:
            command = cores.pin(command)
        self._told_to_end = False
        with self.log_path.open("ab") as log:
            self._process = spawn(command, env=env, cwd=ROOT, stdout=log)

    @property
    def pid(self) -> int:
        """The process that was started: for gunicorn, its master."""
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """The children of that process."""
        return [child.pid for child in psutil.Process(self.pid).children()]

    def cpu_s(self) -> float:
        """CPU time of the server so far, master and live workers, in seconds."""
        master = psutil.Process(self.pid)
        times = [process.cpu_times() for process in (master, *master.children(recursive=True))]
        return float(sum(time.user + time.system for time in times))

    def wait_ready(self, path: str, *, timeout_s: float = 30.0) -> None:
        """Return once `path` answers 200. Raises BenchError, with the end of the log, if that does not come."""
        end_s = time.monotonic() + timeout_s
        seen = "nothing"
        while time.monotonic() < end_s:
            if self._process.poll() is not None:
                raise BenchError(f"{self.launch.name} ended at start-up:\n{self.log_tail()}")
            try:
                answer = http_get(self.url + path)
            except urllib3.exceptions.HTTPError as error:
                seen = type(error).__name__
            else:
                if answer.status == 200:
                    return
                seen = f"{answer.status} {answer.data[:200]!r}"
            time.sleep(0.05)
        raise BenchError(f"{self.launch.name} did not answer {path} (last: {seen}):\n{self.log_tail()}")

    def wait_until(
        self, condition: Callable[[], bool], otherwise: str, *, timeout_s: float = 10.0, interval_s: float = 0.05
    ) -> None:
        """Return once `condition` holds. Raises BenchError, with what it is `otherwise` and the end of the log."""
        try:
            wait_until(condition, timeout_s=timeout_s, interval_s=interval_s)
        except TimeoutError:
            raise BenchError(f"{self.launch.name} {otherwise}:\n{self.log_tail()}") from None

    def access_lines(self) -> int:
        """How many request lines its log holds."""
        return self.log_path.read_bytes().count(b'"duration_ms"')

    def empty_log(self) -> None:
        """Forget the log so far: a round writes tens of megabytes."""
        os.truncate(self.log_path, 0)

    def log_tail(self) -> str:
        """The last lines of its log."""
        return "\n".join(self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])

    def terminate(self) -> None:
        """SIGTERM, once; `stop` waits for its end."""
        if not self._told_to_end and self._process.poll() is None:
            self._process.terminate()
        self._told_to_end = True

    def stop(self, *, timeout_s: float = STOP_S) -> None:
        """SIGTERM, then SIGKILL to the whole group if it does not end in time: nobody asks it for anything any more."""
        self.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(timeout_s)
        signal_group(self._process, signal.SIGKILL)
        self._process.wait()
