"""What the rehearsals stand on does what it stands for."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from chassis.testing import wait_until
from tests.kubernetes.cgroup import Cgroup, NotSeen
from tests.kubernetes.stand_ins import Names, ServiceAddress, look_up

pytestmark = pytest.mark.kubernetes

OLD = {
    "memory/docker/one/memory.limit_in_bytes": "536870912",
    "memory/docker/one/memory.usage_in_bytes": "5000000",
    "memory/docker/one/memory.max_usage_in_bytes": "6000000",
    "memory/docker/one/memory.stat": "cache 7\ntotal_inactive_file 1000000",
    "memory/docker/one/memory.failcnt": "3",
    "memory/docker/one/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 1",
    "cpu/docker/one/cpu.cfs_quota_us": "50000",
    "cpu/docker/one/cpu.cfs_period_us": "100000",
    "cpu/docker/one/cpu.stat": "nr_periods 31\nnr_throttled 14\nthrottled_time 100",
    "cpuacct/docker/one/cpuacct.usage": "755821448",
}
NEW = {
    "docker-one.scope/memory.max": "536870912",
    "docker-one.scope/memory.current": "5000000",
    "docker-one.scope/memory.peak": "6000000",
    "docker-one.scope/memory.stat": "anon 4000000\nfile 2\ninactive_file 1000000",
    "docker-one.scope/memory.events": "low 0\nhigh 0\nmax 3\noom 1\noom_kill 1\noom_group_kill 0",
    "docker-one.scope/cpu.max": "50000 100000",
    "docker-one.scope/cpu.stat": "usage_usec 755821\nuser_usec 1\nnr_periods 31\nnr_throttled 14\nthrottled_usec 1",
}


@pytest.mark.parametrize(
    ("files", "lines"),
    [
        (OLD, "4:memory:/docker/one\n2:cpuacct:/docker/one\n1:cpu:/docker/one\n0::/docker/one\n"),
        (OLD, "4:memory:/docker/one\n1:cpu,cpuacct:/docker/one\n"),
        (NEW, "0::/docker-one.scope\n"),
    ],
)
def test_both_versions_of_cgroups_are_read_alike(files: dict[str, str], lines: str, tmp_path: Path) -> None:
    """The same figures come from the files of either."""
    for name, text in {**files, "processes/7/cgroup": lines}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    found = Cgroup(7, root=tmp_path, processes=tmp_path / "processes")
    assert (found.memory_limit, found.working_set, found.peak) == (536870912, 4000000, 6000000)
    assert (found.limit_met, found.killed, found.cpus, found.held_back) == (3, 1, 0.5, (31, 14))
    assert found.cpu_s == pytest.approx(0.755821, abs=1e-5)
    with pytest.raises(NotSeen):
        Cgroup(8, root=tmp_path, processes=tmp_path / "processes")


@contextmanager
def saying(word: bytes) -> Iterator[tuple[str, int]]:
    """A server that answers everything with a word."""
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))

        def serve(connection: socket.socket) -> None:
            with connection:
                while connection.recv(100):
                    connection.sendall(word)

        def accept() -> None:
            while True:
                try:
                    connection, _ = listener.accept()
                except OSError:
                    return
                threading.Thread(target=serve, args=(connection,), daemon=True).start()

        threading.Thread(target=accept, daemon=True).start()
        stack.callback(listener.shutdown, socket.SHUT_RDWR)
        yield listener.getsockname()


def test_a_connection_stays_where_it_was_made() -> None:
    """As through kube-proxy: new connections go to the endpoints of now, and where there is none nobody answers."""

    def asked(connection: socket.socket) -> bytes:
        connection.sendall(b"who?")
        return connection.recv(100)

    with saying(b"old") as old, saying(b"new") as new, ServiceAddress() as front:
        front.lead_to([old])
        with socket.create_connection(("127.0.0.1", front.port)) as kept:
            assert asked(kept) == b"old"
            front.lead_to([new])
            with socket.create_connection(("127.0.0.1", front.port)) as another:
                assert asked(another) == b"new"
            assert asked(kept) == b"old"
        front.lead_to([])
        with socket.create_connection(("127.0.0.1", front.port)) as nowhere:
            assert nowhere.recv(100) == b""


def test_a_name_leads_where_it_led_some_time_ago(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first addresses have always been there; later ones are seen when they are as old as the cache."""

    def led_to(name: str) -> set[str]:
        return set(asyncio.run(look_up(name, 80)))

    names = Names(tmp_path / "names.json", age_s=0.3)
    for name, value in names.env.items():
        monkeypatch.setenv(name, value)
    names.lead_to("user", ["127.0.0.2", "127.0.0.3"])
    assert led_to("user") == {"127.0.0.2", "127.0.0.3"}
    names.lead_to("user", ["127.0.0.4"])
    assert led_to("user") == {"127.0.0.2", "127.0.0.3"}
    wait_until(lambda: led_to("user") == {"127.0.0.4"}, what="the cache has forgotten")
    with pytest.raises(OSError, match="leads nowhere"):
        led_to("links")
