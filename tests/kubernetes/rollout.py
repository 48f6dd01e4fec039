"""What the controllers of a cluster do in a rollout: a Deployment exchanges its pods, endpoints follow them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from tests.kubernetes.kubelet import LOOK_S, Replica
from tests.kubernetes.objects import Pod

ENDPOINTS_S = 2.0
"""Until a change of a pod has reached whoever leads to it: the controller of EndpointSlices gathers changes for up to
1 s, and kube-proxy (minSyncPeriod) or DNS, which watch them, take up to another one."""


class Deployment:
    """Pods of one kind, exchanged as `strategy.rollingUpdate` says.

    Args:
        replicas: how many there are to be.
        make: a new one.
        lead_to: told, `ENDPOINTS_S` late, which of them are ready.
    """

    def __init__(
        self,
        pod: Pod,
        *,
        replicas: int,
        make: Callable[[str, Callable[[], None]], Replica],
        lead_to: Callable[[list[Replica]], None],
    ) -> None:
        self.old: list[Replica] = []
        self.new: list[Replica] = []
        self.all: list[Replica] = []
        self._pod = pod
        self._replicas = replicas
        self._make = make
        self._lead_to = lead_to
        self._published: list[Replica] = []
        self._endings: list[asyncio.Task[None]] = []
        update = pod.workload["spec"]["strategy"]["rollingUpdate"]
        self._surge, self._unavailable = int(update["maxSurge"]), int(update["maxUnavailable"])

    @property
    def ready(self) -> list[Replica]:
        """Those that are to get requests."""
        return [replica for replica in self.all if replica.ready]

    async def begin(self) -> None:
        """Have as many as there are to be, all ready, and endpoints for them."""
        self.old = [self._one("old") for _ in range(self._replicas)]
        while len(self.ready) < self._replicas:
            self._check()
            await asyncio.sleep(LOOK_S)
        self._published = self.ready
        self._lead_to(self._published)

    async def roll(self) -> None:
        """Exchange them all; returns when the last old one has ended."""
        while self.old or len(self.new) < self._replicas:
            self._check()
            while len(self.new) < self._replicas and len(self.old) + len(self.new) < self._replicas + self._surge:
                self.new.append(self._one("new"))
            available = len(self.ready)
            while self.old and available > self._replicas - self._unavailable:
                self._endings.append(asyncio.create_task(self.old.pop(0).end()))
                available -= 1
            await asyncio.sleep(LOOK_S)
        await asyncio.gather(*self._endings)
        self._check()

    def _one(self, age: str) -> Replica:
        replica = self._make(f"{self._pod.name} {age} {len(self.all)}", self._changed)
        self.all.append(replica)
        return replica

    def _changed(self) -> None:
        if self._published:
            asyncio.get_running_loop().call_later(ENDPOINTS_S, self._publish, self.ready)

    def _publish(self, ready: list[Replica]) -> None:
        if ready != self._published:
            self._published = ready
            self._lead_to(ready)

    def _check(self) -> None:
        for replica in self.all:
            assert not replica.lost, f"{replica.lost}\n{replica.process.text()[-3000:]}"
