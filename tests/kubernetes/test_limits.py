"""Each service in the memory and the processors that its manifest gives it, under load: the limits are enough."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import PurePosixPath
from typing import NamedTuple

import psutil
import pytest

from chassis.testing import wait_until
from chassis.testing.tools import missing
from loadtest.mix import first_links, mix_of
from tests.containers.engine import Docker
from tests.kubernetes.cgroup import Cgroup, NotSeen
from tests.kubernetes.kubelet import Probe
from tests.kubernetes.node import Node
from tests.kubernetes.objects import SERVICES
from tests.kubernetes.pod_container import WORKERS, PodContainer, fill_the_cache, memory_limit, quantity

pytestmark = pytest.mark.containers

PER_SECOND, SECONDS = 60.0, 8.0
"""What a pod has time for, on a machine that has other things to do as well: every answer is a good one."""
OVERLOAD, OVERLOAD_S = 4000.0, 3.0
"""What no pod has time for, over so many connections: most is turned away or comes late, and nothing is killed."""
CONNECTIONS = 256


class Running(NamedTuple):
    """A node with a pod of each service."""

    node: Node
    pods: Mapping[str, PodContainer]


class Watch:
    """Asks a pod its probes, as a kubelet does, while something else goes on. A context manager.

    Attributes:
        failed: the probes that failed so often in a row that the kubelet would have done something.
    """

    def __init__(self, container: PodContainer, *kinds: str) -> None:
        self.failed: list[str] = []
        self._probes = [Probe.of(container.pod, kind) for kind in kinds]
        self._address = container.address
        self._loop = asyncio.new_event_loop()
        self._tasks: list[asyncio.Task[None]] = []
        self._thread = threading.Thread(target=self._run, name="kubelet")

    def _run(self) -> None:
        self._tasks = [self._loop.create_task(self._ask(probe)) for probe in self._probes]
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.close()

    async def _ask(self, probe: Probe) -> None:
        while True:
            await probe.until(self._address, wanted=False)
            self.failed.append(probe.kind)

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._loop.call_soon_threadsafe(lambda: [task.cancel() for task in self._tasks])
        self._thread.join()


@pytest.fixture(scope="module")
def running(docker: str, images: Mapping[str, str]) -> Iterator[Running]:
    """All four pods, ready by their own probes."""
    with ExitStack() as stack:
        node = stack.enter_context(Node(Docker(docker)))
        pods = {service: stack.enter_context(node.run(service)) for service in SERVICES}
        assert {service: pod.pod.container["image"] for service, pod in pods.items()} == dict(images)
        try:
            _ = pods["gateway"].cgroup
        except NotSeen as error:
            missing(str(error))
        for service in SERVICES:
            pods[service].become_ready()
        for request in first_links(key=node.key):
            wait_until(lambda request=request: pods["gateway"].send(request)[0] == 201, what="a link")  # type: ignore[misc]
        yield Running(node, pods)


def workers(container: PodContainer) -> list[int]:
    """The process ids of gunicorn's workers, as this machine counts."""
    return sorted(child.pid for child in psutil.Process(container.pid).children())


@contextmanager
def unharmed(container: PodContainer, cgroup: Cgroup) -> Iterator[None]:
    """Nothing is killed or started anew meanwhile, and the memory limit is not even met."""
    before = workers(container)
    assert len(before) == WORKERS
    yield
    state = container.state
    assert state["Running"], container.logs()
    assert not state["OOMKilled"]
    assert cgroup.killed == 0, "processes were killed for want of memory"
    assert workers(container) == before, container.logs()
    assert cgroup.limit_met == 0, f"memory has been at its limit {cgroup.limit_met} times"
    assert cgroup.peak < cgroup.memory_limit


@pytest.mark.parametrize("service", SERVICES)
def test_a_pod_is_held_as_its_manifest_says(running: Running, service: str) -> None:
    """The kernel's limits are those of the manifest, the account has no right, and the root cannot be written to."""
    container = running.pods[service]
    cgroup = container.cgroup
    limits = container.pod.container["resources"]["limits"]
    assert cgroup.memory_limit == memory_limit(container.pod)
    assert cgroup.cpus == pytest.approx(quantity(limits["cpu"]))
    engine = running.node.docker.inspect(container.id)["HostConfig"]
    assert engine["ReadonlyRootfs"]
    assert engine["CapDrop"] == ["ALL"]
    assert container.run("id", "-u") == "10001"
    words = "import os; print([path for path in ('/', '/app', '/app/secrets', '/etc') if os.access(path, os.W_OK)])"
    assert container.run("python", "-c", words) == "[]"


@pytest.mark.parametrize("service", sorted(SERVICES, key=lambda service: service == "gateway"))
def test_the_limits_are_enough(running: Running, service: str) -> None:
    """Under a load that it has time for, a pod answers everything well, its probes too. Under more than it has time
    for, it is not killed, neither by the kernel nor for its liveness probe, and is as before afterwards. The gateway's
    cache is full by then, in each worker.
    """
    container = running.pods[service]
    cgroup = container.cgroup
    mix = mix_of(service, prefix=f"limits-{service}", key=running.node.key)
    with unharmed(container, cgroup):
        if service == "gateway":
            fill_the_cache(container)
        with Watch(container, "livenessProbe", "readinessProbe") as kubelet:
            outcome = container.offer(mix, per_second=PER_SECOND, seconds=SECONDS)
        assert {status for status in outcome.statuses if not 200 <= status < 400} == set(), outcome.statuses
        assert outcome.count > PER_SECOND * SECONDS / 2
        assert kubelet.failed == []
        with Watch(container, "livenessProbe") as kubelet:
            overload = container.offer(mix, per_second=OVERLOAD, seconds=OVERLOAD_S, connections=CONNECTIONS)
        assert kubelet.failed == []
        assert overload.answered_per_second < 0.9 * OVERLOAD, "it was no overload"
        container.become_ready()
        afterwards = container.offer(mix, per_second=PER_SECOND / 2, seconds=2)
        assert {status for status in afterwards.statuses if not 200 <= status < 400} == set(), afterwards.statuses
    assert written(running, container) == []
    print(  # noqa: T201 - pytest shows it with -s
        f"{service}: peak {cgroup.peak >> 20} MiB of {cgroup.memory_limit >> 20}, now {cgroup.working_set >> 20}; "
        f"{dict(outcome.statuses)} p99 {1000 * outcome.p(99):.0f} ms; "
        f"in overload {overload.answered_per_second:.0f} a second, {dict(overload.statuses)}"
    )


def written(running: Running, container: PodContainer) -> list[str]:
    """What is different in the container's root, but for places to mount something at."""
    mounts = {PurePosixPath(mount["mountPath"]) for mount in container.pod.container["volumeMounts"]}
    places = mounts | {parent for mount in mounts for parent in mount.parents}
    changed = [line.split(" ", 1)[1] for line in running.node.docker("diff", container.id).splitlines()]
    return [path for path in changed if PurePosixPath(path) not in places]
