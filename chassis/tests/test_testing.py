"""The fixtures give what they promise, each test its own."""

import os
import signal
import threading
import urllib.request
from contextlib import closing
from pathlib import Path

import psutil
import psycopg2
import pytest
import redis

from chassis.testing import GunicornProcess, Meanwhile, require, wait_until

_CONF = """
import os
bind = f"127.0.0.1:{os.environ['PORT']}"
workers = 2
control_socket_disable = True
"""
_APP = """
import json, os
def app(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    print(json.dumps({"message": environ["PATH_INFO"]}), flush=True)
    return [",".join(sorted(os.environ)).encode()]
"""


@pytest.mark.parametrize("_turn", [1, 2])
def test_a_test_has_an_empty_database(database_url: str, _turn: int) -> None:
    """What a test leaves in its database, the next one does not find."""
    with closing(psycopg2.connect(database_url)) as connection, connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE left_behind (n int)")


@pytest.mark.parametrize("_turn", [1, 2])
def test_a_test_has_an_empty_redis(redis_url: str, _turn: int) -> None:
    """What a test leaves in its Redis database, the next one does not find."""
    with redis.Redis.from_url(redis_url) as client:
        assert client.dbsize() == 0
        client.set("left", "behind")


@pytest.fixture
def dummy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A service package with next to nothing in it."""
    package = tmp_path / "dummy"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "gunicorn_conf.py").write_text(_CONF)
    (package / "wsgi.py").write_text(_APP)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    monkeypatch.setenv("DATABASE_URL", "of the machine, not of the test")
    return package.name


def test_a_service_runs_under_gunicorn(dummy: str, tmp_path: Path) -> None:
    """It is alive, has its workers, knows only the environment that it was given, logs, and ends with 0."""
    with GunicornProcess(dummy, directory=tmp_path, env={"GIVEN": "1"}) as service:
        wait_until(lambda: len(service.workers) == 2)
        with urllib.request.urlopen(f"{service.url}/some/where") as answer:
            names = answer.read().decode().split(",")
        assert "GIVEN" in names
        assert "DATABASE_URL" not in names
        assert service.wait_log("/some/where") == {"message": "/some/where"}
        workers = [psutil.Process(pid) for pid in service.workers]
        service.signal(signal.SIGTERM)
        assert service.wait() == 0
    assert not [worker for worker in workers if worker.is_running()]


def test_a_service_that_ends_shows_its_log(dummy: str, tmp_path: Path) -> None:
    """If it never becomes alive, the error has what it wrote."""
    (tmp_path / dummy / "gunicorn_conf.py").write_text("raise SystemExit('BAD_SETTING: got x, want y')")
    with pytest.raises(RuntimeError, match="BAD_SETTING"), GunicornProcess(dummy, directory=tmp_path, env={}):
        pass


def test_a_missing_tool(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test that needs a tool is skipped without it, and fails if CI is set."""
    assert require("sh").endswith("/sh")
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="no-such-tool"):
        require("no-such-tool")
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="no-such-tool"):
        require("no-such-tool")


def test_what_fails_beside_a_test_ends_the_rest_and_is_raised() -> None:
    """A test that waits for what the others do would wait for ever; one that does not look would pass."""
    turn = iter(range(3))

    def work(ending: threading.Event) -> None:
        if next(turn) == 2:
            raise ValueError("of no use")
        assert ending.wait(10)

    with pytest.raises(ValueError, match="of no use"), Meanwhile(work, threads=3) as others:
        assert others.ending.wait(10)
