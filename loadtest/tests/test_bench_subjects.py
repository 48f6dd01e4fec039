"""What is measured against what, and with which requests."""

from __future__ import annotations

import random
import stat
from pathlib import Path

import pytest

from loadtest import traffic
from loadtest.baseline import nginx
from loadtest.errors import BenchError
from loadtest.generator import run_wrk
from loadtest.subjects import COMPARISONS, SUBJECTS, chosen, gateway, require_nginx, write_admin_key


def test_a_comparison_names_subjects_that_there_are() -> None:
    """No demand is about a subject that is never measured."""
    named = {name for comparison in COMPARISONS for name in (comparison.subject, comparison.reference)}
    assert named <= set(SUBJECTS)


def test_a_chosen_subject_brings_what_it_is_compared_with() -> None:
    """`--only` measures both sides of every comparison of that subject."""
    names, comparisons = chosen(["edge-hit"])
    assert set(names) == {"edge-hit", "bare-asgi", "nginx-cache"}
    assert {comparison.reference: comparison.wanted for comparison in comparisons} == {
        "bare-asgi": 0.75,
        "nginx-cache": None,
    }
    with pytest.raises(BenchError, match="edge-miss"):
        chosen(["edge-miss"])


def test_a_gateway_under_test_takes_the_key_and_limits_nobody(tmp_path: Path) -> None:
    """The key's file is ours alone; the requests of a bench are more than any limit allows."""
    key = write_admin_key(tmp_path / "key")
    launch = gateway(
        "gateway-x", catalogue="http://a:1", user="http://b:2", admin_key=tmp_path / "key", CACHE_BYTES="0"
    )
    assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600
    assert (tmp_path / "key").read_text() == key
    assert launch.env["GATEWAY_ADMIN_KEY_FILE"] == str(tmp_path / "key")
    assert (launch.env["RATE_LIMITS"], launch.env["CACHE_BYTES"]) == ("off", "0")


def test_wrk_sends_the_headers_that_are_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is one `-H`, and the address comes last."""
    report = '{"requests": 1, "duration_us": 1, "p50_us": 1, "p99_us": 1, "max_us": 1, "bad_status": 0,'
    script = tmp_path / "wrk"
    script.write_text(
        f"#!/bin/sh\nprintf '%s\\n' \"$@\" > {tmp_path}/arguments\n"
        f'echo \'WRK {report} "socket_errors": 0, "timeouts": 0}}\'\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    run_wrk("http://a/", seconds=1, connections=2, headers={"X-API-Key": "sf_x"})
    arguments = (tmp_path / "arguments").read_text().splitlines()
    assert arguments[arguments.index("-H") + 1] == "X-API-Key: sf_x"
    assert arguments[-1] == "http://a/"


def test_only_what_needs_a_key_has_one() -> None:
    """Through the gateway requests for users and routes have the key, as shoppers' have none."""
    dice = random.Random(1)
    requests = [traffic.gateway_request(dice, number, key={"X-API-Key": "sf_x"}) for number in range(2000)]
    keyed = {request.path.split("?")[0].split("/")[3] for request in requests if "/api/v1/" in request.path}
    assert keyed == {"users", "routes"}
    for request in requests:
        if request.path.startswith("/api/v1/"):
            assert request.headers["X-API-Key"] == "sf_x"
        if request.path.startswith("/api/products"):
            assert "X-API-Key" not in request.headers


def test_a_missing_nginx_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Before anything is measured, with the remedy."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(nginx, "ELSEWHERE", str(tmp_path))
    with pytest.raises(BenchError, match="apt-get install nginx-light"):
        require_nginx()


@pytest.mark.parametrize("cache", [False, True])
def test_nginx_writes_nowhere_else(tmp_path: Path, cache: bool) -> None:
    """Its pid, temporary files and cache lie in the directory of the bench; one worker, no access log."""
    text = nginx.configuration(port=1234, upstream="127.0.0.1:9", directory=tmp_path, cache=cache, as_root=False)
    lines = [line.strip() for line in text.splitlines()]
    assert {"worker_processes 1;", "access_log off;", "listen 127.0.0.1:1234 backlog=1024;"} <= set(lines)
    for line in lines:
        if line.startswith("pid ") or "_temp_path" in line or "_cache_path" in line:
            assert line.split()[1].startswith(str(tmp_path))
    assert ("proxy_cache answers;" in lines) is cache
    assert "$upstream_cache_status" in text or not cache
    assert "user root;" in nginx.configuration(port=1, upstream="a:9", directory=tmp_path, cache=cache, as_root=True)
