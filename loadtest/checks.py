"""Is the thing under test what it claims to be? Asked before a round, and after it."""

from __future__ import annotations

import json
import time
import uuid
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

from loadtest.errors import BenchError
from loadtest.generator import Load
from loadtest.servers import RunningServer, http_get

_PROBES = 5
_SETTLE_S = 5.0
_LOST_LINES_ALLOWED = 64
"""Requests in flight when wrk hangs up may be counted on one side only; there are as many as connections, or fewer."""


def answer_body(server: RunningServer, path: str, *, headers: Mapping[str, str] | None = None) -> bytes:
    """The body of `GET path`. Raises BenchError if the answer is not 200 with a JSON body of the declared length."""
    answer = http_get(server.url + path, headers=headers)
    body = answer.data
    if answer.status != 200:
        raise BenchError(f"{server.launch.name}: GET {path} answered {answer.status}: {body[:200]!r}")
    if not answer.headers.get("Content-Type", "").startswith("application/json"):
        raise BenchError(f"{server.launch.name}: GET {path} is {answer.headers.get('Content-Type')}, not JSON")
    if int(answer.headers.get("Content-Length", "-1")) != len(body):
        raise BenchError(f"{server.launch.name}: GET {path} does not declare its length")
    return body


def require_redirect(server: RunningServer, path: str, url: str) -> None:
    """Raises BenchError unless `GET path` leads to `url`, also the second time, when a cache knows it."""
    for _ in range(2):
        answer = http_get(server.url + path)
        if (answer.status, answer.headers.get("Location")) != (302, url):
            raise BenchError(f"{server.launch.name}: GET {path} answered {answer.status} and leads nowhere it should")


def require_cache_state(
    server: RunningServer, path: str, wanted: str, *, name: str = "X-Cache", headers: Mapping[str, str] | None = None
) -> None:
    """Raises BenchError unless header `name` becomes one that begins with `wanted` within a few requests (the first one
    fills the cache).
    """
    seen = [http_get(server.url + path, headers=headers).headers.get(name, "") for _ in range(3)]
    if not seen[-1].startswith(wanted):
        raise BenchError(f"{server.launch.name}: GET {path} has {name} {seen}, wanted {wanted}")


def require_observed(
    server: RunningServer, path: str, *, headers: Mapping[str, str] | None = None, status: int = 200
) -> None:
    """Raises BenchError unless ids are taken and answered, every request is a JSON line in the log, and counted."""
    name = server.launch.name
    before = requests_counted(server)
    ids = [f"bench-{uuid.uuid4().hex}" for _ in range(_PROBES)]
    for request_id in ids:
        given = {**(headers or {}), "X-Request-ID": request_id}
        answered = http_get(server.url + path, headers=given).headers.get("X-Request-ID")
        if answered != request_id:
            raise BenchError(f"{name}: X-Request-ID {request_id} was answered as {answered}")
    plain_path = path.partition("?")[0]

    def logged() -> bool:
        lines = [line for line in _json_lines(server) if line.get("request_id") in ids and "duration_ms" in line]
        return sorted(line["request_id"] for line in lines) == sorted(ids) and all(
            (line["method"], line["path"], line["status"]) == ("GET", plain_path, status) for line in lines
        )

    if not _becomes_true(logged):
        raise BenchError(f"{name}: the access log does not hold one line for each of {_PROBES} requests")
    if not _becomes_true(lambda: requests_counted(server) >= before + _PROBES):
        raise BenchError(f"{name}: /metrics did not count {_PROBES} requests")
    if not http_get(server.url + path, headers=headers).headers.get("X-Request-ID"):
        raise BenchError(f"{name}: no X-Request-ID is made for a request without one")


def failed(load: Load) -> int:
    """How many of its requests were not answered as they should be."""
    return load.bad_status + load.socket_errors + load.timeouts


def failures(server: RunningServer, load: Load) -> Counter[str]:
    """What became of those: numbers by status, which the access log has, and of the rest by what wrk calls it."""
    found = Counter(str(status) for line in _json_lines(server) if (status := line.get("status", 0)) >= 400)
    found.update({"socket errors": load.socket_errors, "timeouts": load.timeouts})
    return +found


def require_clean(name: str, load: Load, *, at_most: float = 0.0) -> None:
    """Raises BenchError if a larger part of the load's requests failed than may."""
    if failed(load) > at_most * load.requests:
        raise BenchError(
            f"{name}: {load.bad_status} bad answers, {load.socket_errors} socket errors, {load.timeouts} timeouts "
            f"among {load.requests} requests"
        )


def require_all_recorded(server: RunningServer, *, requests: int, counted_before: float) -> None:
    """Raises BenchError unless the log and the metrics have all requests of a load but a few: no sampling."""
    least = requests - _LOST_LINES_ALLOWED
    if not _becomes_true(lambda: server.access_lines() >= least):
        raise BenchError(f"{server.launch.name}: {server.access_lines()} log lines for {requests} requests")
    if not _becomes_true(lambda: requests_counted(server) - counted_before >= least):
        counted = requests_counted(server) - counted_before
        raise BenchError(f"{server.launch.name}: /metrics counted {counted:.0f} of {requests} requests")


def exposition(server: RunningServer) -> str:
    """What `/metrics` says. Raises BenchError if it does not answer."""
    answer = http_get(server.url + "/metrics")
    if answer.status != 200:
        raise BenchError(f"{server.launch.name}: /metrics answered {answer.status}")
    return answer.data.decode()


def requests_counted(server: RunningServer) -> float:
    """The sum of every `*_http_requests_total` sample of `/metrics`. Raises BenchError if there is no such metric."""
    text = exposition(server)
    if "_http_requests_total" not in text:
        raise BenchError(f"{server.launch.name}: /metrics has no *_http_requests_total")
    samples = [line for line in text.splitlines() if "_http_requests_total{" in line and not line.startswith("#")]
    return sum(float(line.rsplit(" ", 1)[1]) for line in samples)


def require_same_answer(ours: bytes, theirs: bytes, *, name: str) -> None:
    """Raises BenchError unless both bodies are the same JSON: peers that answer less would win by that."""
    if _comparable(json.loads(ours)) != _comparable(json.loads(theirs)):
        raise BenchError(f"{name} does not answer what our service answers: {theirs[:300]!r} against {ours[:300]!r}")


def _comparable(page: dict[str, Any]) -> dict[str, Any]:
    """Times as far as the second: `Z` and `+00:00`, with or without a fraction, say the same."""
    users = [
        {key: value[:19] if key.endswith("_at") and value else value for key, value in user.items()}
        for user in page["users"]
    ]
    return {**page, "users": users}


def _json_lines(server: RunningServer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in server.log_path.read_bytes().splitlines() if line.startswith(b"{")]


def _becomes_true(condition: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + _SETTLE_S
    while time.monotonic() < end_s:
        if condition():
            return True
        time.sleep(0.05)
    return condition()
