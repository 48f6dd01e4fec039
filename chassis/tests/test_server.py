"""The chassis under gunicorn: logs, metrics over workers, deadlines, draining, stopping."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from chassis.children import wait_until
from chassis.testing.gunicorn import GunicornProcess

Sample = Callable[..., GunicornProcess]


def get(server: GunicornProcess, path: str, **headers: str) -> tuple[int, bytes]:
    """Status and body of one request on a connection of its own."""
    request = urllib.request.Request(server.url + path, headers=headers)
    try:
        with urllib.request.urlopen(request, timeout=15) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def metric(server: GunicornProcess, name: str) -> float:
    """The sum of the samples whose name and labels begin with `name`."""
    text = get(server, "/metrics")[1].decode()
    return sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if line.startswith(name))


def test_every_line_is_one_json_object_gunicorns_too(sample: Sample, database_url: str) -> None:
    """Start, requests, errors and stop: every line parses, and a request's has the contract's fields."""
    server = sample(DATABASE_URL=database_url)
    get(server, "/notes?stars=1", **{"X-Request-ID": "req-7", "traceparent": f"00-{'a' * 32}-{'b' * 16}-01"})
    get(server, "/boom")
    line = server.wait_log('"GET /notes HTTP/1.1" 200')
    expected = {
        "level": "INFO", "logger": "access", "service": "sample_service", "version": "1.0.0", "request_id": "req-7",
        "trace_id": "a" * 32, "method": "GET", "path": "/notes", "route": "list_notes", "status": 200,
        "remote_addr": "127.0.0.1", "message": '"GET /notes HTTP/1.1" 200',
    }  # fmt: skip
    assert expected.items() <= line.items()
    assert isinstance(line["duration_ms"], float)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", line["timestamp"])
    assert "ZeroDivisionError" in server.wait_log("Unexpected ZeroDivisionError")["exc_info"]
    assert "somebody@" not in server.text()
    assert server.stop() == 0
    assert not [line for line in server.logs if "raw" in line]
    assert not [line for line in server.logs if "health/live" in line["message"]], "probes are for DEBUG"


def test_metrics_are_totals_over_the_workers(sample: Sample, database_url: str) -> None:
    """Whichever worker answers the scrape, it has the requests of all and the process figures of all."""
    server = sample(DATABASE_URL=database_url)
    with ThreadPoolExecutor(8) as executor:
        assert {status for status, _ in executor.map(lambda _: get(server, "/notes"), range(60))} == {200}
    for _ in range(4):
        assert metric(server, 'sample_service_http_requests_total{endpoint="list_notes"') == 60
    wait_until(lambda: metric(server, "db_pool_size ") == 16, what="the pools of both workers")
    for name in ("cpu_seconds_total", "resident_memory_bytes", "virtual_memory_bytes", "open_fds", "max_fds"):
        assert metric(server, f"process_{name} ") > 0
    assert abs(metric(server, "process_start_time_seconds ") - time.time()) < 120


def test_a_killed_worker_takes_no_count_with_it(sample: Sample, database_url: str) -> None:
    """Counters keep what a dead worker counted, CPU time never falls, and live gauges forget it."""
    server = sample(DATABASE_URL=database_url)
    for _ in range(10):
        get(server, "/notes")
    before_s = metric(server, "process_cpu_seconds_total ")
    victim = server.workers[0]
    os.kill(victim, signal.SIGKILL)
    wait_until(lambda: victim not in server.workers and len(server.workers) == 2, timeout_s=10)
    wait_until(lambda: metric(server, "db_pool_size ") == 16, timeout_s=10)
    assert metric(server, 'sample_service_http_requests_total{endpoint="list_notes"') == 10
    assert metric(server, "process_cpu_seconds_total ") >= before_s


def test_sigterm_drains_then_finishes_then_exits_0(sample: Sample, database_url: str) -> None:
    """Ready turns 503 at once while requests are served; one in flight is finished; the exit code is 0."""
    server = sample(DATABASE_URL=database_url, DRAIN_SECONDS="2")
    assert get(server, "/health/ready")[0] == 200
    with ThreadPoolExecutor(1) as executor:
        server.signal(signal.SIGTERM)
        wait_until(lambda: get(server, "/health/ready")[0] == 503, timeout_s=1)
        assert get(server, "/notes")[0] == 200
        in_flight = executor.submit(get, server, "/slow/2.5")
        assert in_flight.result()[0] == 200
    assert server.wait(timeout_s=10) == 0


def test_sigterm_under_load_loses_no_answer(sample: Sample, database_url: str) -> None:
    """Clients that leave when ready says so, as a load balancer does, see nothing but 200."""
    server = sample(DATABASE_URL=database_url, DRAIN_SECONDS="1")
    failures: list[Any] = []
    answered = threading.Semaphore(0)

    def load() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        try:
            while True:
                connection.request("GET", "/health/ready")
                answer = connection.getresponse()
                answer.read()
                if answer.status == 503:
                    return
                connection.request("GET", "/notes")
                answer = connection.getresponse()
                answer.read()
                if answer.status != 200:
                    failures.append(answer.status)
                answered.release()
        except OSError as error:
            failures.append(error)
        finally:
            connection.close()

    clients = [threading.Thread(target=load) for _ in range(8)]
    for client in clients:
        client.start()
    for _ in range(100):
        assert answered.acquire(timeout=10)
    server.signal(signal.SIGTERM)
    for client in clients:
        client.join(10)
    assert server.wait(timeout_s=10) == 0
    assert failures == []


def test_a_stop_signal_while_workers_boot_is_obeyed(sample: Sample, database_url: str) -> None:
    """It is not lost between fork and the worker's own signal handlers, so nobody waits for a patience to end."""
    server = sample(wait=False, DATABASE_URL=database_url, STOP_TIMEOUT_SECONDS="60")
    server.wait_log("Booting worker with pid")
    server.signal(signal.SIGTERM)
    assert server.wait(timeout_s=30) == 0


def test_bytes_that_are_not_http_get_a_problem(sample: Sample, database_url: str) -> None:
    """What never reaches the application is application/problem+json all the same."""
    server = sample(DATABASE_URL=database_url)
    for request, status in (
        (b"GET / HTTP/1.1\r\nbad header\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", 414),
    ):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as wire:
            wire.sendall(request)
            head, _, body = b"".join(iter(lambda: wire.recv(65536), b"")).partition(b"\r\n\r\n")
        assert head.startswith(f"HTTP/1.1 {status} ".encode())
        assert b"Content-Type: application/problem+json" in head
        assert json.loads(body)["status"] == status


@pytest.mark.parametrize(("variable", "value"), [("PORT", "99999"), ("DB_POOL_SIZE", "many"), ("LOG_LEVEL", "LOUD")])
def test_a_bad_setting_stops_the_process_with_one_line(sample: Sample, variable: str, value: str) -> None:
    """Exit code 1 and one line that names the variable, before any worker starts."""
    server = sample(wait=False, **{variable: value})
    assert server.wait(timeout_s=20) == 1


def test_a_request_deadline_comes_from_the_header(sample: Sample, database_url: str) -> None:
    """X-Request-Timeout-Ms bounds the database: a request that has no time left is 504."""
    server = sample(DATABASE_URL=database_url)
    assert get(server, "/now")[0] == 200
    assert get(server, "/now", **{"X-Request-Timeout-Ms": "0"})[0] == 504


def test_text_format_for_people(sample: Sample, database_url: str) -> None:
    """LOG_FORMAT=text is `time - logger - level - message`."""
    server = sample(DATABASE_URL=database_url, LOG_FORMAT="text")
    get(server, "/notes")
    line = server.wait_log('"GET /notes HTTP/1.1" 200')["raw"]
    assert re.fullmatch(r'\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} - access - INFO - "GET /notes HTTP/1.1" 200', line)
