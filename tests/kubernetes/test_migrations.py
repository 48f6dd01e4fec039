"""The Jobs that come before a rollout: safe to run twice, and beside the pods of the release before."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import psycopg2
import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, event

from chassis import migrations
from chassis.settings import load
from chassis.testing import Meanwhile, wait_until
from chassis.testing.calls import call
from chassis.testing.plugin import StartGunicorn
from tests.kubernetes.expanding import breaks, is_earlier
from tests.kubernetes.objects import SERVICES, environment, objects
from tests.kubernetes.settings import CLASSES, bare
from tests.kubernetes.tools import ROOT

pytestmark = pytest.mark.kubernetes

Sql = Callable[..., list[tuple[Any, ...]]]
SCHEMA = """
SELECT table_name, column_name, data_type, column_default, is_nullable FROM information_schema.columns
WHERE table_schema = 'public' ORDER BY 1, 2
"""


def job(service: str, overlay: str = "prod/migrations") -> list[str]:
    """The command of the service's Job, with the tools of this virtual environment."""
    tool, *arguments = objects(overlay).pod(f"{service}-migrate").container["args"]
    return [str(Path(sys.executable).with_name(tool)), *arguments]


def start(service: str, database_url: str, **more: str) -> subprocess.Popen[str]:
    """Begin the Job of a service on this database."""
    env = {"PATH": os.environ["PATH"], "DATABASE_URL": database_url, **more}
    return subprocess.Popen(job(service), env=env, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def run(service: str, database_url: str, **more: str) -> tuple[int, str]:
    """Exit status and last words of the Job."""
    process = start(service, database_url, **more)
    _, said = process.communicate(timeout=60)
    return process.returncode, said


@pytest.mark.parametrize("service", SERVICES)
def test_a_job_may_run_twice_and_beside_another(service: str, database_url: str, sql: Sql) -> None:
    """Three at once on an empty database, and another one after them: all end well, and the schema is the same."""
    started = [start(service, database_url) for _ in range(3)]
    said = [process.communicate(timeout=60)[1] for process in started]
    assert [process.returncode for process in started] == [0, 0, 0], said
    before = sql(SCHEMA)
    assert before
    assert run(service, database_url)[0] == 0
    assert sql(SCHEMA) == before


def test_old_pods_go_on_while_a_job_runs(database_url: str, gunicorn: StartGunicorn) -> None:
    """Sign-ups and lists are answered while the Job runs, again and again."""
    assert run("user", database_url)[0] == 0
    service = gunicorn("user", DATABASE_URL=database_url, WEB_CONCURRENCY="1", DB_OPERATION_TIMEOUT_MS="8000")
    statuses: Counter[int] = Counter()

    def visit(ending: threading.Event) -> None:
        for number in range(100_000):
            new = {"username": f"visitor-{number}", "email": f"visitor-{number}@example.com"}
            statuses[call(service, "POST", "/api/v1/users", body=new).status] += 1
            statuses[call(service, "GET", "/api/v1/users").status] += 1
            if ending.is_set():
                return

    with Meanwhile(visit):
        wait_until(lambda: statuses[201] > 5, what="visitors are at work")
        assert [run("user", database_url)[0] for _ in range(3)] == [0, 0, 0]
    assert set(statuses) == {200, 201}


def test_a_job_does_not_wait_for_a_table_that_is_in_use(database_url: str, sql: Sql) -> None:
    """While somebody holds the table of the former catalogue, the Job fails with a line and changes nothing; others who
    read are not kept waiting. Then it succeeds.
    """
    sql("CREATE TABLE products (id SERIAL PRIMARY KEY, description TEXT, image_url VARCHAR(255), name VARCHAR(255))")
    before = sql(SCHEMA)
    holder = psycopg2.connect(database_url)
    try:
        holder.cursor().execute("SELECT count(*) FROM products")  # a lock until the end of its transaction
        code, said = run("catalogue", database_url)
        assert (code, said) == (1, "catalogue-db: The database said no: canceling statement due to lock timeout\n")
        assert sql(SCHEMA) == before
    finally:
        holder.close()
    assert run("catalogue", database_url)[0] == 0


def test_a_migration_waits_for_another_longer_than_for_a_table(database_url: str) -> None:
    """The time limit is for tables: who comes second waits for the first to end."""
    first = psycopg2.connect(database_url)
    try:
        first.cursor().execute("SELECT pg_advisory_xact_lock(%s)", (migrations.LOCK_KEY,))
        second = start("links", database_url)
        with pytest.raises(subprocess.TimeoutExpired):
            second.wait(4)
    finally:
        first.close()
    assert second.communicate(timeout=30)[0] is None
    assert second.returncode == 0


@pytest.mark.parametrize("service", SERVICES)
def test_a_migration_only_adds(service: str, database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every revision after the first adds. One that takes away says so, with the release in which nothing uses it any
    more (`contracts = "1.1.0"` in its module), and that is one before this.
    """
    bare(monkeypatch)
    config = Config()
    config.set_main_option(
        "script_location", str(Path(str(importlib.import_module(service).__file__)).parent / "migrations")
    )
    revisions = list(ScriptDirectory.from_config(config).walk_revisions())[::-1]
    assert revisions[0].down_revision is None
    assert all(later.down_revision == earlier.revision for earlier, later in pairwise(revisions))
    found = objects("prod")
    current = environment(found, found.pod("catalogue"))["APP_VERSION"]
    settings = load(CLASSES[service], database_url=database_url).db
    for number, revision in enumerate(revisions):
        said: list[str] = []

        def listen(_connection: Any, _cursor: Any, statement: str, *_rest: Any, said: list[str] = said) -> None:
            said.append(statement)

        event.listen(Engine, "before_cursor_execute", listen)
        try:
            migrations.upgrade(service, settings, revision=revision.revision)
        finally:
            event.remove(Engine, "before_cursor_execute", listen)
        assert said
        broken = [what for statement in said for what in breaks(statement)] if number else []
        release = getattr(revision.module, "contracts", None)
        if release is None:
            assert broken == [], f"{revision.path}: expand first, contract in a later release"
        else:
            assert is_earlier(release, current), f"{revision.path} comes a release too early"


@pytest.mark.parametrize(
    ("statement", "count"),
    [
        ("ALTER TABLE users ADD COLUMN nick text", 0),
        ("ALTER TABLE users ADD COLUMN nick text NOT NULL DEFAULT ''", 0),
        ("CREATE TABLE notes (id bigint PRIMARY KEY, text text NOT NULL)", 0),
        ("CREATE INDEX users_by_nick ON users (nick)", 0),
        ("ALTER TABLE users ADD CONSTRAINT nick_is_short CHECK (length(nick) < 9) NOT VALID", 0),
        ("COMMENT ON TABLE users IS 'nobody will DROP TABLE it'", 0),
        ("ALTER TABLE users ADD COLUMN nick text NOT NULL", 1),
        ("ALTER TABLE users DROP COLUMN full_name", 1),
        ("alter table users rename column full_name to name", 1),
        ("ALTER TABLE users ALTER COLUMN full_name SET NOT NULL", 1),
        ("ALTER TABLE users ALTER full_name TYPE varchar(9)", 1),
        ("DROP TABLE users_total; TRUNCATE users", 2),
        ("ALTER TABLE users ADD CONSTRAINT nick_is_short CHECK (length(nick) < 9)", 1),
    ],
)
def test_what_breaks_old_code(statement: str, count: int) -> None:
    """The rule knows what adds from what takes away."""
    assert len(breaks(statement)) == count


def test_releases_are_compared_by_number() -> None:
    """1.10 comes after 1.9, and no release before itself."""
    assert is_earlier("1.9.0", "1.10.0")
    assert not is_earlier("1.0.0", "1.0.0")


def test_migrations_are_applied_before_the_rollout() -> None:
    """A migration has the image, the Secrets and the configuration of the rollout, which has no Job itself."""
    for before, after in (("dev/migrations", "dev"), ("prod/migrations", "prod")):
        jobs, pods = objects(before), objects(after)
        assert not [pod for pod in pods.pods if pod.kind == "Job"]
        for service in SERVICES:
            job_pod, pod = jobs.pod(f"{service}-migrate"), pods.pod(service)
            assert job_pod.container["image"] == pod.container["image"]
            assert job_pod.spec["restartPolicy"] == "OnFailure"
            given, wanted = environment(jobs, job_pod), environment(pods, pod)
            assert given.items() <= wanted.items()
            assert {volume["name"] for volume in job_pod.spec["volumes"]} <= {
                volume["name"] for volume in pod.spec["volumes"]
            }
    assert (ROOT / "k8s" / "migrations" / "kustomization.yaml").is_file()
