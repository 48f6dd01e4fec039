"""Where a server that may not be root keeps its data when we are root.

PostgreSQL refuses to run as root, so root runs it as `postgres` or `nobody`. That user may be unable to reach
the data directory or the binaries (a checkout under /root or in a `mktemp -d`). Opening those parents to
everybody is not ours to decide; instead both move to a directory of root's under /var/tmp, and a symbolic link
stays where they were asked for.
"""

import hashlib
import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from chassis.children import Account

SHELTER_ROOT = Path("/var/tmp")  # noqa: S108 - survives a reboot; `open_shelter` checks what it finds there


class ShelterError(RuntimeError):
    """A directory cannot be used; the message says what to do."""


def service_account(data: Path) -> Account | None:
    """Whom to run a server as whose files are in `data` (which need not exist); None: as ourselves.

    Only root has a choice: the owner of the data, else `postgres`, else `nobody`. Raises ShelterError if the data
    is somebody else's, or if root finds no such user.
    """
    owner = data.stat().st_uid if data.exists() else None
    if os.geteuid() != 0:
        if owner not in (None, os.geteuid()):
            raise ShelterError(f"{data} belongs to user {_name(owner)}: run as that user, or remove it to start anew")
        return None
    for user in ([owner] if owner else []) + ["postgres", "nobody"]:
        try:
            entry = pwd.getpwuid(user) if isinstance(user, int) else pwd.getpwnam(user)
        except KeyError:
            continue
        return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)
    raise ShelterError("PostgreSQL does not run as root, and there is no user `postgres` or `nobody` to run it as")


def can_use(account: Account | None, directory: Path) -> bool:
    """True if `account` can enter `directory` and write there. The kernel is asked, as ACLs may have a say."""
    return _succeeds(account, ["/bin/sh", "-c", 'cd "$1" && test -w .', "sh", directory])


def can_run(account: Account | None, binary: Path) -> bool:
    """True if `account` can execute `binary`; for ourselves that is taken for granted."""
    return account is None or _succeeds(account, [binary, "--version"])


def shelter_of(directory: Path, *, root: Path = SHELTER_ROOT) -> Path:
    """The path of the shelter for `directory`; it need not exist."""
    return root / f"chassis-{hashlib.sha256(os.fsencode(directory.resolve())).hexdigest()[:16]}"


def open_shelter(directory: Path, *, root: Path = SHELTER_ROOT) -> Path:
    """Create the shelter for `directory` unless it exists; return its path.

    Raises ShelterError if somebody else made it, or could write in it: /var/tmp is open to all.
    """
    shelter = shelter_of(directory, root=root)
    try:
        shelter.mkdir(mode=0o700)
        shelter.chmod(0o711)  # whatever the umask
    except FileExistsError:
        check_shelter(shelter)
    return shelter


def check_shelter(shelter: Path) -> None:
    """Raise ShelterError unless `shelter` is a directory of ours in which nobody else can write."""
    found = shelter.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o022:
        user = _name(os.geteuid())
        raise ShelterError(f"{shelter} is not a directory that only {user} can write: look at it, then remove it")


def copy_binaries(site: Path, trees: list[str], shelter: Path) -> Path:
    """Copy those of `trees` that exist from `site` into `shelter`, readable by all, side by side as they were.

    Returns the copy of `site`. The copy of an earlier call is used again if it is of the same files.
    """
    sources = [site / tree for tree in trees if (site / tree).exists()]
    state = repr([(str(source.resolve()), source.stat().st_mtime_ns) for source in sources])
    copy = shelter / f"bin-{hashlib.sha256(state.encode()).hexdigest()[:16]}"
    if not copy.exists():
        for leftover in shelter.glob("bin-*"):
            shutil.rmtree(leftover)
        partial = shelter / "bin-partial"
        for source in sources:
            shutil.copytree(
                source, partial / source.relative_to(site), symlinks=True, ignore=shutil.ignore_patterns("include")
            )
        for path in [partial, *partial.rglob("*")]:
            if not path.is_symlink():
                path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        partial.rename(copy)
    return copy


def _succeeds(account: Account | None, command: list[str | Path]) -> bool:
    try:
        return (
            subprocess.run(
                command,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                check=False,
            ).returncode
            == 0
        )
    except PermissionError:
        return False


def _name(uid: int | None) -> str:
    try:
        return pwd.getpwuid(uid or 0).pw_name
    except KeyError:
        return str(uid)
