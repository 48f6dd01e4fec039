"""A service as it runs in production: gunicorn with its workers, on a free port, with its logs read."""

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

import psutil

from chassis.children import free_port, signal_group, spawn, wait_until

# Of the test run's own environment nothing reaches a service but this.
_INHERITED = ("PATH", "HOME", "PYTHONPATH", "TMPDIR", "LANG", "CI")


class GunicornProcess:
    """`gunicorn -c python:<service>.gunicorn_conf <service>.wsgi:app` (`module` for another one than `wsgi`, `app` for
    one from elsewhere).

    `env` is added to a bare environment; `PORT` is free unless given, `METRICS_DIR` is under
    `directory`, and `DRAIN_SECONDS` is 0.
    """

    def __init__(
        self, service: str, *, directory: Path, env: Mapping[str, str], module: str = "wsgi", app: str = ""
    ) -> None:
        port = env.get("PORT") or str(free_port())
        metrics = directory / f"{service}-metrics-{port}"
        inherited = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        own = {"PORT": port, "METRICS_DIR": str(metrics), "DRAIN_SECONDS": "0", "PYTHONUNBUFFERED": "1"}
        self._metrics = Path(env.get("METRICS_DIR", metrics))
        self.service = service
        self.port = int(port)
        self.url = f"http://127.0.0.1:{port}"
        self.lines: list[str] = []
        application = app or f"{service}.{module}:app"
        self._process = spawn(
            [sys.executable, "-m", "gunicorn", "-c", f"python:{service}.gunicorn_conf", application],
            env={**inherited, **own, **env},
            cwd=directory,
            death_signal=signal.SIGKILL,
            stdout=subprocess.PIPE,
        )
        self._reader = threading.Thread(target=self._read, name=f"{service}-logs", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        """The process id of gunicorn's arbiter."""
        return self._process.pid

    @property
    def workers(self) -> list[int]:
        """The process ids of the workers that live."""
        try:
            return [child.pid for child in psutil.Process(self.pid).children()]
        except psutil.NoSuchProcess:
            return []

    @property
    def logs(self) -> list[dict[str, Any]]:
        """What was logged until now, one dictionary a line; lines that are no JSON object have only `raw`."""
        return [parsed(line) for line in list(self.lines)]

    def wait_alive(self, *, timeout_s: float = 20.0) -> Self:
        """Wait for 200 from /health/live, and until every worker has made its application: the one that answered may be
        the only one. Raises RuntimeError with the log, if that does not come.
        """
        try:
            wait_until(lambda: self._alive() and self._all_made(), timeout_s=timeout_s)
        except TimeoutError as error:
            raise RuntimeError(f"{self.service} is not alive after {timeout_s:g} s:\n{self.text()}") from error
        return self

    def wait_log(self, message: str, *, timeout_s: float = 10.0) -> dict[str, Any]:
        """Wait for a line whose message contains `message`; return it."""

        def found() -> list[dict[str, Any]]:
            return [line for line in self.logs if message in str(line.get("message", line.get("raw")))]

        return wait_until(found, timeout_s=timeout_s, what=f"{message!r} in the log of {self.service}")[0]

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal to the arbiter alone."""
        self._process.send_signal(signum)

    def wait(self, *, timeout_s: float = 20.0) -> int:
        """Wait for the end; return the exit code, negative for a signal. Raises TimeoutError."""
        try:
            code = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"{self.service} still runs after {timeout_s:g} s") from error
        self._reader.join(5)
        return code

    def stop(self, *, timeout_s: float = 10.0) -> int:
        """SIGTERM, SIGKILL to all of it after `timeout_s`; return the exit code. Stopping twice is no error."""
        try:
            if self._process.poll() is None:
                self._process.terminate()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self._process.wait(timeout_s)
        finally:
            signal_group(self._process, signal.SIGKILL)
        return self.wait()

    def text(self) -> str:
        """The whole log, for the message of a failed test."""
        return "\n".join(self.lines)

    def __enter__(self) -> Self:
        return self.wait_alive()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _alive(self) -> bool:
        if self._process.poll() is not None:
            self._reader.join(5)
            raise RuntimeError(f"{self.service} ended with exit code {self._process.returncode}:\n{self.text()}")
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/health/live")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def _all_made(self) -> bool:
        """Whether each worker has a file of metrics, which one of ours has when its application is made."""
        if not self._metrics.is_dir():
            return True
        workers = self.workers
        return bool(workers) and all(any(self._metrics.glob(f"*_{pid}.db")) for pid in workers)

    def _read(self) -> None:
        if self._process.stdout is not None:
            with self._process.stdout as stream:
                for line in stream:
                    self.lines.append(line.decode(errors="replace").rstrip("\n"))


def parsed(line: str) -> dict[str, Any]:
    """A line of a log as a dictionary; one that is no JSON object has only `raw`."""
    try:
        value = json.loads(line)
    except ValueError:
        return {"raw": line}
    return value if isinstance(value, dict) else {"raw": line}
