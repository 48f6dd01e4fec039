"""`gateway keys`: made, shown once, listed, taken back."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing

import orjson
import psycopg2
import pytest
import redis

from chassis.console import Failed
from chassis.servers import PostgresServer
from gateway import cli
from gateway.registry.keys import digest
from gateway.registry.mirror import CHANNEL

Run = Callable[[str], str]


@pytest.fixture(scope="session")
def database_template(registry_template: str) -> str:
    """`database_url` is a copy of it."""
    return registry_template


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, database_url: str) -> Iterator[Run]:
    """`run("keys list")` does what the command line does, in the test's database; returns the last line of stderr."""
    monkeypatch.setenv("DATABASE_URL", database_url)
    yield lambda line: cli.run(line.split())
    psycopg2.extensions.set_wait_callback(None)


def test_a_key_is_printed_once_and_only_its_digest_is_kept(
    run: Run, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key alone on stdout; in the database its SHA-256, its scopes once each, its limit."""
    said = run("keys create --name ci --scope routes:write --scope routes:read --scope routes:write --limit 600/min")
    key = capsys.readouterr().out
    assert key.startswith("sf_")
    assert key.count("\n") == 1
    assert key.strip() not in said
    with closing(psycopg2.connect(database_url)) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT name, digest, scopes, rate_limit FROM api_keys")
        rows = [(name, bytes(stored), scopes, limit) for name, stored, scopes, limit in cursor.fetchall()]
    assert rows == [("ci", digest(key.strip()), ["routes:read", "routes:write"], "600/min")]


def test_keys_are_listed_without_themselves(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    """Name, scopes, limit, times; a revoked one shows when."""
    run("keys create --name b --scope admin")
    run("keys create --name a --scope users:read --limit 5/sec")
    assert "revoked" in run("keys revoke b")
    secrets = capsys.readouterr().out.split()
    assert run("keys list") == "2 keys, 1 of them hold"
    listed = capsys.readouterr().out
    rows = [line.split() for line in listed.splitlines()]
    assert [row[:3] for row in rows] == [["NAME", "SCOPES", "LIMIT"], ["a", "users:read", "5/sec"], ["b", "admin", "-"]]
    assert (rows[1][-1], rows[2][-1] != "-") == ("-", True)
    assert not any(secret in listed for secret in secrets)


def test_revoking_again_is_no_error_and_a_stranger_is_one(run: Run) -> None:
    """The remedy is in the line."""
    run("keys create --name ci --scope admin")
    run("keys revoke ci")
    assert "was revoked before" in run("keys revoke ci")
    with pytest.raises(Failed, match="keys list"):
        run("keys revoke nobody")


@pytest.mark.parametrize("name", ["ci", "bootstrap", "admin"])
def test_a_name_that_means_somebody_else_is_refused(run: Run, name: str) -> None:
    """Names stand in the history: none is given twice, nor those that the gateway uses itself."""
    run("keys create --name ci --scope admin")
    with pytest.raises(Failed, match="choose another one"):
        run(f"keys create --name {name} --scope admin")


@pytest.mark.parametrize(
    "line",
    ["", "keys", "keys drop", "keys create --name x", "keys create --scope admin", "keys create --name x --scope root",
     "keys create --name a/b --scope admin", "keys create --name x --scope admin --limit 5", "keys revoke"],
)  # fmt: skip
def test_a_bad_command_line_says_what_it_wants(run: Run, line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit status 2 and a usage line, before anything is touched."""
    with pytest.raises(SystemExit) as error:
        run(line)
    assert error.value.code == 2
    assert "usage: gateway" in capsys.readouterr().err


def test_gateways_are_told_by_redis(run: Run, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The change is on the channel when the command ends."""
    monkeypatch.setenv("REDIS_URL", redis_url)
    with closing(redis.Redis.from_url(redis_url)) as client, closing(client.pubsub()) as channel:  # type: ignore[no-untyped-call]
        channel.subscribe(CHANNEL)
        assert channel.get_message(timeout=5)["type"] == "subscribe"
        run("keys create --name ci --scope admin")
        heard = channel.get_message(timeout=5)
    assert heard["type"] == "message"
    assert orjson.loads(heard["data"])["keys"][0]["name"] == "ci"


def test_redis_away_is_no_failure(
    run: Run, free_port: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The key is made and printed, and a line says that the gateways will see it by themselves."""
    monkeypatch.setenv("REDIS_URL", f"redis://127.0.0.1:{free_port}/0")
    run("keys create --name ci --scope admin")
    captured = capsys.readouterr()
    assert captured.out.startswith("sf_")
    assert "see it by themselves" in captured.err


def test_the_command_ends_with_a_status(postgres_server: PostgresServer) -> None:
    """Without a schema: 1, nothing on stdout, and one line that says what to run first."""
    url = postgres_server.create_database("gateway_keys_bare")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "gateway.cli", "keys", "list"],
            env={**os.environ, "DATABASE_URL": url}, capture_output=True, text=True, check=False,
        )  # fmt: skip
    finally:
        postgres_server.drop_database("gateway_keys_bare")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "gateway: There is no table of keys yet: run `gateway-db create` first\n"
