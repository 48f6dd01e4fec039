"""What a kubelet does with a pod, as far as a rollout depends on it: probes, preStop, SIGTERM, the grace period."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from chassis.testing import GunicornProcess
from tests.kubernetes.objects import Pod

LOOK_S = 0.05


@dataclass(frozen=True)
class Probe:
    """A probe of a manifest, asked of a port at an address as a kubelet asks it."""

    kind: str
    path: str
    port: int
    period_s: float
    timeout_s: float
    failures: int

    @classmethod
    def of(cls, pod: Pod, kind: str, *, port: int | None = None) -> Probe:
        """That of a pod; `port` is where its container's port is really found."""
        probe = pod.container[kind]
        assert set(probe) <= {"httpGet", "periodSeconds", "timeoutSeconds", "failureThreshold"}, (
            "all that is known here"
        )
        return cls(
            kind,
            probe["httpGet"]["path"],
            port or pod.ports[probe["httpGet"]["port"]],
            probe["periodSeconds"],
            probe["timeoutSeconds"],
            probe["failureThreshold"],
        )

    async def answers(self, address: str) -> bool:
        """Whether it is answered in time, with a status of 200 to 399. A connection of its own each time."""
        with suppress(OSError, TimeoutError, ValueError, IndexError):
            async with asyncio.timeout(self.timeout_s):
                reader, writer = await asyncio.open_connection(address, self.port)
                try:
                    head = f"GET {self.path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"
                    writer.write(head.encode())
                    status = int((await reader.readline()).split()[1])
                    await reader.read()
                    return 200 <= status < 400
                finally:
                    writer.close()
        return False

    async def until(self, address: str, wanted: bool) -> None:
        """Ask again and again: return at the first success, or at the last of `failures` failures in a row."""
        failed = 0
        while True:
            began_s = time.monotonic()
            if await self.answers(address):
                failed = 0
                if wanted:
                    return
            else:
                failed += 1
                if not wanted and failed >= self.failures:
                    return
                if wanted and self.kind == "startupProbe" and failed >= self.failures:
                    raise AssertionError(f"{self.path} at {address} has failed {failed} times: it would be killed")
            await asyncio.sleep(self.period_s - (time.monotonic() - began_s))


class Replica:
    """A pod: a process, and a kubelet that looks after it.

    Args:
        name: for messages.
        start: starts the process.
        address: where it listens, at `port`.
        changed: called when it gets ready, stops being ready, is told to end, has ended.

    Attributes:
        ready: whether it is to get requests, by its readiness probe; False from when it is told to end.
        lost: why a kubelet would have killed it while it was wanted; "" if it would not.
        killed: whether it had not ended at the end of its grace period.
    """

    def __init__(
        self,
        name: str,
        pod: Pod,
        *,
        start: Callable[[], GunicornProcess],
        address: str,
        port: int,
        changed: Callable[[], None],
    ) -> None:
        self.name = name
        self.address = address
        self.port = port
        self.ready = False
        self.lost = ""
        self.killed = False
        self.exit_code: int | None = None
        self.seen: dict[str, float] = {}
        self._pod = pod
        self._changed = changed
        self._probes = {
            kind: Probe.of(pod, kind, port=port) for kind in ("startupProbe", "livenessProbe", "readinessProbe")
        }
        self._saw("started")
        self.process = start()
        self._tasks = [asyncio.create_task(self._watch())]

    @property
    def requests(self) -> int:
        """How many it has answered so far, probes aside."""
        return sum('"duration_ms"' in line and "/health/" not in line for line in list(self.process.lines))

    async def _watch(self) -> None:
        try:
            await self._probes["startupProbe"].until(self.address, True)
        except AssertionError as error:
            self.lost = str(error)
            return
        self._saw("startup probe answered")
        self._tasks.append(asyncio.create_task(self._live()))
        readiness = self._probes["readinessProbe"]
        while True:
            await readiness.until(self.address, True)
            self._saw("ready")
            self.ready = True
            self._changed()
            await readiness.until(self.address, False)
            self.ready = False
            self._saw("not ready")
            self._changed()

    async def _live(self) -> None:
        await self._probes["livenessProbe"].until(self.address, False)
        self.lost = f"{self.name} has not answered its liveness probe"

    async def end(self) -> None:
        """As when a pod is deleted: it leaves the endpoints, preStop, SIGTERM, and SIGKILL after the grace period."""
        for task in self._tasks:
            task.cancel()
        self.ready = False
        self._saw("deleted")
        self._changed()
        grace_ends_s = time.monotonic() + self._pod.spec["terminationGracePeriodSeconds"]
        await asyncio.sleep(_pre_stop_s(self._pod.container))
        self._saw("SIGTERM")
        self.process.signal(signal.SIGTERM)
        while self.exit_code is None:
            with suppress(TimeoutError):
                self.exit_code = self.process.wait(timeout_s=0)
            if self.exit_code is None and time.monotonic() > grace_ends_s and not self.killed:
                self.killed = True
                self.process.signal(signal.SIGKILL)
            await asyncio.sleep(LOOK_S)
        self._saw("ended")
        self._changed()

    def forget(self) -> None:
        """Look after it no longer."""
        for task in self._tasks:
            task.cancel()

    def _saw(self, what: str) -> None:
        self.seen[what] = time.monotonic()


def _pre_stop_s(container: Mapping[str, Any]) -> float:
    hook = container["lifecycle"]["preStop"]
    assert set(hook) == {"sleep"}, "no other hook is known here"
    return float(hook["sleep"]["seconds"])
