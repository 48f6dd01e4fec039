"""The directory `.run`: who runs in it, the admin key, and how command line tools find the stores."""

import fcntl
import json
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from stack.plan import Plan, StackError


@contextmanager
def only_one(plan: Plan) -> Iterator[None]:
    """Hold `.run/lock`, which the kernel frees when we end, however. Raises StackError if another run has it."""
    plan.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (plan.directory / "lock").open("a+", encoding="utf-8") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StackError(f"already running{_who(plan.directory / 'lock')}: stop it with Ctrl-C first") from None
        lock.truncate(0)
        json.dump({"pid": os.getpid(), "url": plan.url}, lock)
        lock.flush()
        yield
        lock.truncate(0)


def is_running(directory: Path) -> bool:
    """Whether a run has `.run/lock`."""
    try:
        with (directory / "lock").open(encoding="utf-8") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def store_urls(directory: Path) -> dict[str, str]:
    """The variables that `config_directory` has kept: where the stores of the run are that the user has not named."""
    folder = directory / "config" / "secrets"
    return {file.name.upper(): file.read_text(encoding="utf-8") for file in folder.glob("*")}


def _who(lock: Path) -> str:
    try:
        found = json.loads(lock.read_text(encoding="utf-8"))
        return f" as process {found['pid']} on {found['url']}"
    except (ValueError, KeyError, TypeError):  # it has only just begun, or is ending
        return ""


def admin_key_file(directory: Path) -> Path:
    """The file with the admin key, of mode 0600; made at the first run."""
    file = directory / "admin-key"
    if not file.exists():
        _write_private(file, secrets.token_urlsafe(32))
    return file


def admin_key(file: Path) -> str:
    """The key in the file."""
    return file.read_text(encoding="ascii")


def config_directory(directory: Path, urls: Mapping[str, str]) -> Path:
    """A `CONFIG_DIR` with these variables as secret files of mode 0600 and no others, for the gateway's tools."""
    folder = directory / "config" / "secrets"
    folder.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        file.unlink()
    for variable, url in urls.items():
        _write_private(folder / variable.lower(), url)
    return folder.parent


def _write_private(file: Path, text: str) -> None:
    with open(file, "x", encoding="utf-8", opener=lambda path, flags: os.open(path, flags, 0o600)) as stream:
        stream.write(text)
