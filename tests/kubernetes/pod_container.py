"""A pod as a container: what its manifest says in words of `docker run`, and what it is asked."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

from gateway.settings import CacheSettings
from loadtest.mix import pages, send
from loadtest.openloop import Offer, Outcome, offer
from tests.containers.engine import Container
from tests.kubernetes.cgroup import Cgroup
from tests.kubernetes.kubelet import Probe
from tests.kubernetes.objects import Pod

READY_WITHIN_S = 60
TIMEOUT_S = 5.0
WORKERS = 2
"""Of every service, as long as no manifest says otherwise."""
FULL = 0.9
"""Of CACHE_BYTES: the last answer that fits leaves some room."""
_UNITS = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


class PodContainer(Container):
    """A running pod."""

    pod: Pod

    @property
    def address(self) -> str:
        """On its network."""
        (network,) = self._docker.inspect(self.id)["NetworkSettings"]["Networks"].values()
        return str(network["IPAddress"])

    @property
    def port(self) -> int:
        """Where it listens, at `address`."""
        return self.pod.ports["http"]

    @property
    def pid(self) -> int:
        """Its first process, as this machine counts."""
        return int(self.state["Pid"])

    def logs(self, *, lines: int = 20) -> str:
        """Its last words."""
        return self._docker("logs", f"--tail={lines}", self.id)

    @property
    def cgroup(self) -> Cgroup:
        """What the kernel counts of it. Raises NotSeen."""
        return Cgroup(self.pid)

    def become_ready(self) -> None:
        """Wait until it answers its readiness probe. Raises TimeoutError with its last words."""
        probe = Probe.of(self.pod, "readinessProbe")
        try:
            asyncio.run(asyncio.wait_for(probe.until(self.address, wanted=True), READY_WITHIN_S))
        except TimeoutError as error:
            raise TimeoutError(f"not ready: {self.logs()}") from error

    def send(self, request: bytes) -> tuple[int, str]:
        """Status and body of the answer to a whole request."""
        return send(request, host=self.address, port=self.port, timeout_s=TIMEOUT_S)

    def offer(
        self,
        requests: Sequence[bytes],
        *,
        per_second: float,
        seconds: float,
        warm_up_s: float = 0.0,
        connections: int = 64,
        timeout_s: float = TIMEOUT_S,
    ) -> Outcome:
        """What came of that much, from this machine."""
        return offer(
            Offer(
                host=self.address, port=self.port, requests=requests, per_second=per_second, seconds=seconds,
                warm_up_s=warm_up_s, connections=connections, timeout_s=timeout_s,
            )
        )  # fmt: skip


def fill_the_cache(gateway: PodContainer, *, within_s: float = 120) -> None:
    """Ask a gateway for ever other pages of a hundred products, until no worker has room for more. Some may not be
    answered: the pod behind has its limits too.

    Raises:
        AssertionError: there are no answers at all, or there is room after that time.
    """
    wanted = FULL * WORKERS * int(CacheSettings.model_fields["bytes"].default)
    give_up_s = time.monotonic() + within_s
    different = pages()
    while (cached := _cached(gateway)) < wanted:
        assert time.monotonic() < give_up_s, f"{cached} bytes in the cache are all that there will be"
        outcome = gateway.offer(different, per_second=40, seconds=4)
        assert outcome.statuses[200], outcome.statuses


def _cached(gateway: PodContainer) -> float:
    """Bytes in the cache of all workers."""
    _, exposition = gateway.send(b"GET /metrics HTTP/1.1\r\n\r\n")
    return sum(float(line.split()[-1]) for line in exposition.splitlines() if line.startswith("gateway_cache_bytes"))


def quantity(text: str) -> float:
    """A quantity of Kubernetes: `500m` is 0.5, `512Mi` so many bytes."""
    for unit, factor in _UNITS.items():
        if text.endswith(unit):
            return float(text.removesuffix(unit)) * factor
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)


def memory_limit(pod: Pod) -> int:
    """Bytes."""
    return int(quantity(pod.container["resources"]["limits"]["memory"]))


def options(pod: Pod, root: Path, *, memory: int | None) -> list[str]:
    """What a manifest says, in words of `docker run`."""
    everywhere, own = pod.spec["securityContext"], pod.container["securityContext"]
    limit = memory or memory_limit(pod)
    assert own["readOnlyRootFilesystem"]
    assert own["allowPrivilegeEscalation"] is False
    words = [f"--memory={limit}", f"--memory-swap={limit}", "--read-only", "--security-opt=no-new-privileges"]
    words += [f"--cap-drop={name}" for name in own["capabilities"]["drop"]]
    words += [f"--user={everywhere['runAsUser']}:{everywhere['runAsGroup']}", "--no-healthcheck"]
    for option in pod.spec["dnsConfig"]["options"]:
        words.append(f"--dns-option={option['name']}:{option['value']}")
    volumes = {volume["name"]: volume for volume in pod.spec["volumes"]}
    for mount in pod.container["volumeMounts"]:
        volume, path = volumes[mount["name"]], mount["mountPath"]
        if "emptyDir" in volume:
            words.append(f"--tmpfs={path}:size={int(quantity(volume['emptyDir']['sizeLimit']))}")
        else:
            words.append(f"--volume={root}{path}:{path}:ro")
    return words
