"""Starting, stopping, settings: the service as a process."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable
from contextlib import closing
from itertools import count

import psycopg2
import pytest
from flask import Flask

from chassis.servers import PostgresServer
from chassis.settings import SettingsError
from chassis.testing import Meanwhile, wait_until
from chassis.testing.calls import call
from chassis.testing.gunicorn import GunicornProcess

USERS = "/api/v1/users"
MakeApp = Callable[..., Flask]
StartUser = Callable[..., GunicornProcess]


def attempts(service: GunicornProcess) -> int:
    """How many failed attempts to reach the database were logged as warnings."""
    return sum(
        "Database is not there" in str(line.get("message")) and line["level"] == "WARNING" for line in service.logs
    )


def test_it_waits_for_a_database_that_comes_late(user: StartUser, postgres: PostgresServer) -> None:
    """The first attempt fails and is logged; the second, 2 s later, finds it; nothing listened meanwhile."""
    postgres.stop()
    service = user(DATABASE_URL=postgres.url, wait=False)
    service.wait_log("Database is not there yet")
    with pytest.raises(OSError, match="refused"):
        call(service, "GET", "/health/live")
    postgres.start()
    service.wait_alive()
    assert attempts(service) == 1
    assert call(service, "GET", USERS).status == 200


@pytest.mark.slow
def test_without_a_database_it_ends_with_one_clear_error(user: StartUser, free_port: int) -> None:
    """Five attempts within 30 s, each a warning; then one error that says where it looked, and exit code 1."""
    began_s = time.monotonic()
    service = user(DB_HOST="127.0.0.1", DB_PORT=str(free_port), DB_PASSWORD="hidden", wait=False)
    assert service.wait(timeout_s=60) == 1
    assert 29 < time.monotonic() - began_s < 45
    assert attempts(service) == 5
    errors = [line for line in service.logs if line.get("level") in ("ERROR", "CRITICAL")]
    assert len(errors) == 1
    assert f"127.0.0.1:{free_port}/storefront" in errors[0]["message"]
    assert "hidden" not in service.text()
    assert "Traceback" not in service.text()


def test_it_starts_without_redis(user: StartUser, database_url: str, free_port: int) -> None:
    """The cache is optional: degraded, ready, and answering."""
    service = user(DATABASE_URL=database_url, REDIS_URL=f"redis://127.0.0.1:{free_port}/0")
    assert call(service, "GET", USERS).status == 200
    wait_until(lambda: call(service, "GET", "/health").body["status"] == "degraded")
    assert call(service, "GET", "/health/ready").status == 200


def test_no_cache_configured_is_no_fault(user: StartUser, database_url: str) -> None:
    """Without REDIS_URL the service is healthy, and does not boast of a cache."""
    body = call(user(DATABASE_URL=database_url), "GET", "/health").body
    assert (body["status"], body["features"]) == ("healthy", ["pagination", "idempotency"])


def test_a_bad_setting_stops_the_process_with_one_line(user: StartUser) -> None:
    """It names the variable, what it got and what it wants."""
    service = user(USER_CACHE_TTL_SECONDS="soon", wait=False)
    assert service.wait() == 1
    lines = [line for line in service.lines if line]
    assert len(lines) == 1
    assert lines[0].startswith("USER_CACHE_TTL_SECONDS: got 'soon', want ")


def test_requests_under_way_are_answered_when_it_stops(user: StartUser, database_url: str, redis_url: str) -> None:
    """SIGTERM under load: every request is answered, writes that were answered are there, the exit code is 0."""
    service = user(DATABASE_URL=database_url, REDIS_URL=redis_url, WEB_CONCURRENCY="2", DRAIN_SECONDS="1")
    answered: list[str] = []
    failed: list[object] = []
    numbers = count()

    def load(ending: threading.Event) -> None:
        while not ending.is_set():
            name = f"user-{next(numbers)}"
            answer = call(service, "POST", USERS, {"username": name, "email": f"{name}@example.com"})
            (answered if answer.status == 201 else failed).append(name)

    with Meanwhile(load, threads=4):
        wait_until(lambda: len(answered) > 40)
        service.signal(signal.SIGTERM)
        wait_until(lambda: call(service, "GET", "/health/ready").status == 503, timeout_s=1)
        before = len(answered)
        wait_until(lambda: len(answered) > before + 5, timeout_s=1, what="requests answered while it drains")
    # the load balancer has seen the 503 and sends nothing more
    assert service.wait() == 0
    assert not failed
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT username FROM users")
        assert {row[0] for row in cursor.fetchall()} == set(answered)


def test_debug_mode_is_for_development_alone(make_app: MakeApp, database_url: str) -> None:
    """FLASK_ENV=development switches it on; nothing else does."""
    assert not make_app(DATABASE_URL=database_url).debug
    assert make_app(DATABASE_URL=database_url, FLASK_ENV="development").debug
    with pytest.raises(SettingsError, match="FLASK_ENV"):
        make_app(DATABASE_URL=database_url, FLASK_ENV="debug")


def test_flask_debug_does_not_switch_debug_mode_on(
    make_app: MakeApp, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not even Flask's own variable."""
    monkeypatch.setenv("FLASK_DEBUG", "1")
    assert not make_app(DATABASE_URL=database_url).debug


def test_health_says_what_it_is(user: StartUser, database_url: str, redis_url: str) -> None:
    """Service, version, features, both checks, and the pool."""
    service = user(DATABASE_URL=database_url, REDIS_URL=redis_url, APP_VERSION="9.8.7")
    body = call(service, "GET", "/health").body
    assert body == {
        "status": "healthy", "service": "user", "version": "9.8.7",
        "features": ["pagination", "idempotency", "cache"], "database": "connected",
    }  # fmt: skip
    checks = call(service, "GET", "/health/ready").body["checks"]
    assert checks["cache"]["status"] == checks["database"]["status"] == "healthy"
    assert set(checks["database"]["pool"]) == {"size", "in_use", "available", "waiting"}


def test_metrics_are_those_of_all_workers(user: StartUser, database_url: str, redis_url: str) -> None:
    """Requests by route's name, never by path, added up over the workers."""
    service = user(DATABASE_URL=database_url, REDIS_URL=redis_url, WEB_CONCURRENCY="2")
    for _ in range(20):
        call(service, "GET", USERS)
    call(service, "GET", f"{USERS}/12345")
    text = call(service, "GET", "/metrics").body
    assert 'user_http_requests_total{endpoint="list_users",method="GET",status="200"} 20.0' in text
    assert 'endpoint="get_user"' in text
    assert "12345" not in text
    for name in ("db_pool_size", "db_queries_total", "cache_connected", "cache_requests_total", "app_uptime_seconds",
                 "process_resident_memory_bytes", "db_pool_wait_seconds_bucket", "build_info"):  # fmt: skip
        assert f"\n{name}" in text
