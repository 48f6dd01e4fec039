"""`chassis.serve` and `chassis.probe`: how a container starts a service, and looks whether it is alive."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from chassis.testing import wait_until


def probe(env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """What the health check of a container with this environment finds."""
    command = [sys.executable, "-m", "chassis.probe"]
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)


@pytest.mark.slow
def test_a_service_is_served_probed_and_ended(tmp_path: Path, free_port: int) -> None:
    """The service that SERVICE names is alive on the port that its settings name, wherever they are; then it is not."""
    (tmp_path / "config.json").write_text(f'{{"port": {free_port}, "drain_seconds": 0}}')
    env = {"SERVICE": "catalogue", "CONFIG_DIR": str(tmp_path), "PATH": os.defpath, "TMPDIR": str(tmp_path)}
    server = subprocess.Popen([sys.executable, "-m", "chassis.serve"], env=env, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: probe(env).returncode == 0, timeout_s=30, what="the service is alive")
        assert probe({**env, "PORT": str(free_port)}).stdout == "HTTP/1.1 200 OK\n"
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=20) == 0
    finally:
        server.kill()
    found = probe({**env, "PORT": str(free_port)})
    assert (found.returncode, found.stdout.partition(":")[0]) == (1, "ConnectionRefusedError")


@pytest.mark.slow
@pytest.mark.parametrize("service", ["", "no/service"])
def test_serve_names_what_it_was_given(service: str) -> None:
    """Without the name of a service there is one line that says so, and status 1."""
    command = [sys.executable, "-m", "chassis.serve"]
    done = subprocess.run(command, env={"SERVICE": service}, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stderr) == (1, f"SERVICE: got {service!r}, want the name of a service\n")
