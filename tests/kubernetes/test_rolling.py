"""A rollout of everything at once, rehearsed: pods are processes, times are those of the manifests, and nobody notices.

What is real: the services with the environment and the files of their pods, the stores, probes, preStop, signals, grace
periods, the order of a rollout. What stands for something is in `stand_ins.py`; how late it is, is the worst of what
decision 70 reckons with. Processes have no limit of memory or processors here: `test_limits.py` has that.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import pytest

from chassis.servers import PostgresServer, ValkeyServer
from chassis.testing import GunicornProcess, free_port
from chassis.testing.tools import missing
from loadtest.mix import USERS, first_links, mix_of, send
from loadtest.openloop import Offer, Outcome, offer
from tests.kubernetes.kubelet import LOOK_S, Replica
from tests.kubernetes.objects import SERVICES, objects, secrets
from tests.kubernetes.rollout import Deployment
from tests.kubernetes.running import given
from tests.kubernetes.stand_ins import Names, ServiceAddress
from tests.kubernetes.test_migrations import run
from tests.kubernetes.test_pods import COREDNS_TTL_S
from tests.kubernetes.tools import ROOT

pytestmark = pytest.mark.slow

PER_SECOND = 60.0
NEW_CONNECTIONS = 0.3
"""Of all requests; the others come over connections that are kept."""
AT_MOST_S = 300.0
"""The rollout of a machine that has other things to do as well."""
MOVED_WITHIN_S = COREDNS_TTL_S + 30


class Cluster:
    """Two pods of each service, as processes. Pods of a service have one port and an address each, as in a cluster."""

    def __init__(self, directory: Path, *, postgres: PostgresServer, redis_url: str) -> None:
        self.front = ServiceAddress()
        self.processes: list[GunicornProcess] = []
        self.deployments: dict[str, Deployment] = {}
        self._names = Names(directory / "names.json", age_s=COREDNS_TTL_S)
        self._directory = directory
        self._secret = secrets()
        self.key = self._secret["gateway-admin"]["key"]
        self._ports = {service: free_port() for service in SERVICES}
        self._network = f"127.{random.randint(10, 250)}.{random.randint(0, 250)}"
        self._addresses = iter(range(1, 255))
        self._urls = {
            f"{name.upper()}_URL": f"http://{name}:{self._ports[name]}" for name in SERVICES if name != "gateway"
        }
        self._databases = {service: postgres.create_database(service) for service in SERVICES}
        self._redis_url = redis_url
        for service in SERVICES:
            code, said = run(service, self._databases[service], **(self._urls if service == "gateway" else {}))
            assert code == 0, said
        tool(self._databases["catalogue"], "catalogue", "import")
        tool(self._databases["user"], "user", "seed", "--count", str(USERS))

    async def begin(self) -> None:
        """Start two of each, the gateway last; returns when all are ready."""
        for service in SERVICES:
            self.deployments[service] = Deployment(
                objects("prod").pod(service),
                replicas=objects("dev").pod(service).workload["spec"]["replicas"],
                make=lambda name, changed, service=service: self._replica(service, name, changed),  # type: ignore[misc]
                lead_to=lambda ready, service=service: self._lead_to(service, ready),  # type: ignore[misc]
            )
        gateway = self.deployments["gateway"]
        await asyncio.gather(*(each.begin() for each in self.deployments.values() if each is not gateway))
        await gateway.begin()

    async def roll(self) -> None:
        """Exchange the pods of everything at once, as `kubectl apply -k` begins it."""
        async with asyncio.timeout(AT_MOST_S):
            await asyncio.gather(*(each.roll() for each in self.deployments.values()))

    async def all_answer(self) -> None:
        """Return once every replica there is has answered a request."""
        while not all(replica.requests for replica in self.replicas):  # noqa: ASYNC110 - by their logs
            await asyncio.sleep(LOOK_S)

    @property
    def replicas(self) -> list[Replica]:
        """All that there ever were."""
        return [replica for each in self.deployments.values() for replica in each.all]

    def stop(self) -> None:
        """End everything."""
        for replica in self.replicas:
            replica.forget()
        for process in self.processes:
            process.stop(timeout_s=0)  # what drains would take its time
        self.front.close()

    def _replica(self, service: str, name: str, changed: Callable[[], None]) -> Replica:
        address = f"{self._network}.{next(self._addresses)}"
        root = self._directory / name.replace(" ", "-")
        env = given(
            service, "prod", root=root, secret=self._secret, database_url=self._databases[service],
            redis_url=self._redis_url,
        )  # fmt: skip
        own = {"LISTEN_HOST": address, "PORT": str(self._ports[service])}
        app = f"{service}.wsgi:app"
        if service == "gateway":
            # Whoever stands in front of the gateway is here, and the names have the ports that are free here.
            own |= self._urls | self._names.env | {"TRUSTED_PROXIES": "127.0.0.0/8", "PYTHONPATH": str(ROOT)}
            app = "tests.kubernetes.named_gateway:app"
        (root / "run").mkdir(parents=True)

        def start() -> GunicornProcess:
            self.processes.append(GunicornProcess(service, directory=root / "run", env={**env, **own}, app=app))
            return self.processes[-1]

        return Replica(
            name, objects("prod").pod(service), start=start, address=address, port=self._ports[service], changed=changed
        )

    def _lead_to(self, service: str, ready: list[Replica]) -> None:
        if service == "gateway":
            self.front.lead_to((replica.address, replica.port) for replica in ready)
        else:
            self._names.lead_to(service, (replica.address for replica in ready))


def tool(database_url: str, service: str, *words: str) -> None:
    """Run `<service>-db`."""
    subprocess.run(
        [str(Path(sys.executable).with_name(f"{service}-db")), *words],
        env={"DATABASE_URL": database_url}, check=True, capture_output=True,
    )  # fmt: skip


@pytest.fixture
def cluster(servers_directory: Path, tmp_path: Path) -> Iterator[Cluster]:
    """Everything but its pods."""
    if sys.platform != "linux":
        missing("only Linux has all of 127.0.0.0/8 without being told")
    with ExitStack() as stack:
        # Eight connections of each worker of four pods of four services, if all are asked at once.
        postgres = PostgresServer(
            servers_directory / "rolling-postgres", durable=False, max_connections=400, shelter_root=servers_directory
        )
        stack.callback(postgres.destroy)
        redis = ValkeyServer(servers_directory / "rolling-valkey", durable=False, shelter_root=servers_directory)
        stack.callback(redis.destroy)
        made = Cluster(tmp_path, postgres=postgres.start(), redis_url=redis.start().url)
        stack.callback(made.stop)
        yield made


def test_a_rollout_of_everything_fails_no_request(cluster: Cluster) -> None:
    """All eight pods are exchanged by the manifests' own strategy, probes, preStop and times, under reads and writes
    over kept and new connections. Every request is answered well, every pod has had some, every old one ends by itself
    with 0 within its grace period, and no kubelet had a reason to kill a new one.
    """
    outcome = asyncio.run(rehearsed(cluster))
    assert outcome.count > PER_SECOND * 30
    assert {status for status in outcome.statuses if not 200 <= status < 400} == set(), report(cluster, outcome)
    assert outcome.missed == 0
    for deployment in cluster.deployments.values():
        assert [replica.name for replica in deployment.all if not replica.requests] == []
        ended = [replica for replica in deployment.all if replica not in deployment.new]
        assert [(replica.exit_code, replica.killed) for replica in ended] == [(0, False)] * len(ended), report(
            cluster, outcome
        )
    print(report(cluster, outcome))  # noqa: T201 - pytest shows it with -s


async def rehearsed(cluster: Cluster) -> Outcome:
    """The rollout, under load from before it until after it."""
    await cluster.begin()
    until = threading.Event()
    with ThreadPoolExecutor(1) as executor:
        try:
            loop = asyncio.get_running_loop()
            await loop.run_in_executor(executor, make_links, cluster)
            mix = mix_of("gateway", prefix="guest", key=cluster.key, new_connections=NEW_CONNECTIONS)
            what = Offer(
                port=cluster.front.port, requests=mix, per_second=PER_SECOND, seconds=AT_MOST_S,
                go_on=lambda: not until.is_set(),
            )  # fmt: skip
            load = loop.run_in_executor(executor, offer, what)
            async with asyncio.timeout(30):
                await cluster.all_answer()
            await cluster.roll()
            async with asyncio.timeout(MOVED_WITHIN_S):
                await cluster.all_answer()
        finally:
            until.set()
        return await load


def make_links(cluster: Cluster) -> None:
    """What is followed has to be there."""
    for request in first_links(key=cluster.key):
        status, body = send(request, host="127.0.0.1", port=cluster.front.port, timeout_s=10)
        assert status == 201, body


def report(cluster: Cluster, outcome: Outcome) -> str:
    """What happened when, for a person."""
    began_s = min(replica.seen["started"] for replica in cluster.replicas)
    lines = [f"{dict(outcome.statuses)} in {outcome.seconds:.1f} s, p99 {1000 * outcome.p(99):.0f} ms"]
    for replica in cluster.replicas:
        times = ", ".join(f"{what} {at_s - began_s:.1f}" for what, at_s in replica.seen.items())
        lines.append(f"{replica.name}: {replica.requests} requests; {times}; exit code {replica.exit_code}")
    failed = [index for index, (_, failed) in enumerate(outcome.timeline) if failed]
    lines.append(f"failed in tenths of a second: {Counter(failed)}")
    return "\n".join(lines)
