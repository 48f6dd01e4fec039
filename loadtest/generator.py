"""The load: wrk, run for a number of seconds against one address.

A generator of our own in Python would be the bottleneck and measure itself, so there is no fallback, only a remedy.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from loadtest.errors import BenchError

_REPORT = Path(__file__).with_name("wrk_report.lua")
_REMEDY = "wrk is not installed: `apt-get install wrk` (Debian, Ubuntu), `dnf install wrk` (Fedora), `brew install wrk`"


@dataclass(frozen=True, kw_only=True)
class Load:
    """What one run of wrk saw, and what it cost. Latencies are of answered requests, in milliseconds."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float
    max_ms: float
    bad_status: int
    socket_errors: int
    timeouts: int
    server_cpu_s: float = 0.0
    """CPU time that the server spent meanwhile: says more than a rate when the machine is not quiet."""

    @property
    def server_cpu_us(self) -> float:
        """CPU time of the server for one request, in microseconds."""
        return self.server_cpu_s / self.requests * 1e6

    @property
    def per_second(self) -> float:
        """Answers a second."""
        return self.requests / self.seconds


def require_wrk() -> None:
    """Raises BenchError with the remedy when wrk is not on the PATH."""
    if shutil.which("wrk") is None:
        raise BenchError(_REMEDY)


def run_wrk(
    url: str,
    *,
    seconds: float,
    connections: int,
    headers: Mapping[str, str] | None = None,
    paths: Sequence[str] = (),
) -> Load:
    """Load `url` over `connections` keep-alive connections from one thread, with `headers` in every request.

    With `paths`, those of the server in `url` are asked for instead, one after the other, again and again.

    Raises BenchError if wrk fails or saw no answer at all. Errors of single requests are counted, not raised.
    """
    command = ["wrk", "-t1", f"-c{connections}", f"-d{max(1, round(seconds))}s", "-s", str(_REPORT)]
    command += [part for name, value in (headers or {}).items() for part in ("-H", f"{name}: {value}")]
    command += [url, *(("--", *paths) if paths else ())]
    finished = subprocess.run(command, capture_output=True, text=True, timeout=seconds + 30, check=False)
    reported = [line.removeprefix("WRK ") for line in finished.stdout.splitlines() if line.startswith("WRK ")]
    if finished.returncode or not reported:
        raise BenchError(f"wrk failed on {url}: {finished.stderr.strip() or finished.stdout.strip()}")
    return parse_report(reported[-1])


def parse_report(text: str) -> Load:
    """A Load from the JSON object that `wrk_report.lua` prints. Raises BenchError if nothing was answered."""
    seen = json.loads(text)
    if not seen["requests"]:
        raise BenchError("wrk got no answer at all")
    return Load(
        requests=seen["requests"],
        seconds=seen["duration_us"] / 1e6,
        p50_ms=seen["p50_us"] / 1e3,
        p99_ms=seen["p99_us"] / 1e3,
        max_ms=seen["max_us"] / 1e3,
        bad_status=seen["bad_status"],
        socket_errors=seen["socket_errors"],
        timeouts=seen["timeouts"],
    )
