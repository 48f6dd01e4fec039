"""Nowhere to keep metrics: the service goes on, says so, and counts where it should again when there is room."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from chassis.metrics_files import MetricsFile
from chassis.testing import wait_until
from chassis.testing.calls import call, metric
from chassis.testing.gunicorn import GunicornProcess

COUNTED = 'sample_service_http_requests_total{endpoint="list_notes",method="GET",status="200"}'


def allow(service: GunicornProcess, size: int) -> None:
    """Let no file of a service, nor of workers that it starts from now on, become larger: as a full disk does."""
    hard = resource.prlimit(service.pid, resource.RLIMIT_FSIZE)[1]
    for pid in (service.pid, *service.workers):
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))


def stored(path: Path) -> dict[str, float]:
    """What whoever adds up the files finds in this one."""
    found = MetricsFile.read_all_values_from_file(str(path))  # type: ignore[no-untyped-call]
    return {key: value for key, value, _, _ in found}


def test_a_worker_lives_without_room_for_its_metrics(sample: Callable[..., GunicornProcess]) -> None:
    """A worker that starts on a full disk answers, `/metrics` too; with room again nothing it counted is missing."""
    service = sample(WEB_CONCURRENCY="1")
    (first,) = service.workers
    allow(service, 1)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: service.workers not in ([], [first]), what="another worker")
    service.wait_log("Metrics cannot be kept in")
    for _ in range(3):
        assert call(service, "GET", "/notes").status == 200
    assert call(service, "GET", "/metrics").status == 200
    assert metric(service, COUNTED) == 0
    allow(service, resource.RLIM_INFINITY)
    wait_until(lambda: call(service, "GET", "/notes").status == 200 and metric(service, COUNTED) > 3)
    service.wait_log("Metrics are kept in")
    assert len(service.workers) == 1


def test_who_dies_while_making_a_file_leaves_none_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty one would fail every scrape until the service starts anew; the kernel kills for memory right there."""
    seen: list[list[str]] = []
    original = os.pwrite

    def watched(file: int, data: bytes, offset: int) -> int:
        seen.append([path.name for path in tmp_path.glob("*.db")])
        return original(file, data, offset)

    monkeypatch.setattr(os, "pwrite", watched)
    MetricsFile(str(tmp_path / "counter_1.db")).close()  # type: ignore[no-untyped-call]
    assert seen == [[]]
    assert [path.name for path in tmp_path.iterdir()] == ["counter_1.db"]


def test_a_file_that_cannot_grow_goes_on_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What it had is still there for whoever reads the files; what comes later follows when there is room."""
    path = tmp_path / "counter_1.db"
    file = MetricsFile(str(path))
    monkeypatch.setattr("chassis.metrics_files.TRY_EVERY_S", 0.0)
    before, limit = 500, resource.getrlimit(resource.RLIMIT_FSIZE)
    for number in range(before):
        file.write_value(f"first-{number}", number, 0.0)
    resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size, limit[1]))
    try:
        for number in range(3000):
            file.write_value(f"second-{number}-{'x' * 100}", number, 0.0)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
    on_disk = stored(path)
    assert on_disk.items() >= {f"first-{number}": float(number) for number in range(before)}.items()
    assert len(on_disk) < before + 3000
    file.write_value("last", 1.0, 0.0)
    on_disk = stored(path)
    assert len(on_disk) == before + 3001
    assert on_disk[f"second-2999-{'x' * 100}"] == 2999
    file.close()  # type: ignore[no-untyped-call]
