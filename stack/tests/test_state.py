"""The directory `.run`."""

import os
import stat
from pathlib import Path

import pytest

from stack.plan import StackError, make_plan
from stack.state import admin_key_file, config_directory, only_one


def test_a_second_run_learns_who_and_where(tmp_path: Path) -> None:
    """While one run holds the directory another is refused, told the process and the address; then it is free."""
    plan = make_plan(tmp_path / ".run", {"GATEWAY_PORT": "1234"})
    with only_one(plan):
        wanted = rf"already running as process {os.getpid()} on http://127.0.0.1:1234"
        with pytest.raises(StackError, match=wanted), only_one(plan):
            pass
    with only_one(plan):
        pass


def test_a_stale_lock_file_stops_nobody(tmp_path: Path) -> None:
    """What a killed run left in the file does not count: the lock is the kernel's."""
    plan = make_plan(tmp_path / ".run", {})
    plan.directory.mkdir()
    (plan.directory / "lock").write_text('{"pid": 1, "url": "http://gone"}')
    with only_one(plan):
        assert str(os.getpid()) in (plan.directory / "lock").read_text()


def test_the_admin_key_is_made_once(tmp_path: Path) -> None:
    """It is long, only the user can read it, and it stays."""
    file = admin_key_file(tmp_path)
    key = file.read_text()
    assert len(key) >= 43
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert admin_key_file(tmp_path).read_text() == key


def test_tools_find_the_stores_of_this_run_and_no_others(tmp_path: Path) -> None:
    """What the last run left is gone; what is there only the user can read."""
    config_directory(tmp_path, {"DATABASE_URL": "old", "REDIS_URL": "old"})
    secrets = config_directory(tmp_path, {"DATABASE_URL": "new"}) / "secrets"
    assert {file.name: file.read_text() for file in secrets.iterdir()} == {"database_url": "new"}
    assert stat.S_IMODE((secrets / "database_url").stat().st_mode) == 0o600
