"""`make sizing`: what one pod of each service does within the limits of overlays/prod: requests a second, memory, CPU.

Each pod is a container of Docker with exactly its manifest's limits, mounts and environment (tests/kubernetes/node.py),
asked by an open loop. The pod that is measured has a core to itself, of which its limit gives it a part; stores,
generator and, behind the gateway, the other services share the rest, and have no limit that could be taken for its.

Writes loadtest/results/<date>-<commit>-sizing.json, from which `make docs` fills the table of docs/kubernetes.md.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from chassis.children import wait_until
from loadtest import command, machine
from loadtest.errors import BenchError
from loadtest.evidence.knee import IN_TIME, WITHIN_S, Step, knee
from loadtest.machine import Cores
from loadtest.mix import Mix, first_links, mix_of
from loadtest.openloop import Outcome
from tests.containers.engine import Docker
from tests.kubernetes.cgroup import Cgroup, NotSeen
from tests.kubernetes.node import Node, Place
from tests.kubernetes.objects import SERVICES
from tests.kubernetes.pod_container import WORKERS, PodContainer, fill_the_cache, memory_limit, quantity

RESULTS = Path(__file__).with_name("results")
FIRST = 50.0
"""Requests a second at first; twice as many each time until answers are late, then ever closer to where that begins."""
MOST = 10_000.0
"""No pod of half a processor does that."""
COARSE_S, FINE_S, QUICK_S = 2.0, 3.0, 1.0
CLOSER, QUICK_CLOSER = 4, 1
"""Times that what lies between is halved: from twice as many to 4 %."""
OVERLOAD = 2.0
"""Times the rate at which answers were late."""
AT_REST, REST_WITHIN_S, LOOK_S = 0.1, 15.0, 0.25
"""A pod rests when it uses no more of a processor than that, over LOOK_S."""
WARM_UP_S = 1.0
REST_S = 5.0
"""What is started comes to rest; not a condition that could be awaited."""
_MIB = 2**20
_LINKS_WITHIN_S = 30


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write. 0: it was measured; 2: it could not be."""
    parser = argparse.ArgumentParser(prog="sizing", description="What does a pod of each service do, here?")
    parser.add_argument("--quick", action="store_true", help="about a minute: a look, not a result")
    parser.add_argument("--services", default=",".join(SERVICES), help=f"of {','.join(SERVICES)}")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the result is written")
    options = parser.parse_args(arguments)

    def work(console: Console) -> int:
        record = run(options.services.split(","), quick=options.quick, console=console)
        path = command.result_path(record, options.out, kind="sizing")
        path.write_text(json.dumps(record, separators=(",", ":")) + "\n", encoding="utf-8")
        console.print(f"The data: {path}", highlight=False)
        return 0

    return command.run("sizing", work)


def run(services: Sequence[str], *, quick: bool, console: Console) -> dict[str, Any]:
    """Measure those; the whole record.

    Raises:
        BenchError: it cannot be measured here, or a pod did not do what it should.
    """
    if unknown := set(services) - set(SERVICES):
        raise BenchError(f"--services takes {', '.join(SERVICES)}, not {', '.join(sorted(unknown))}")
    client = shutil.which("docker")
    if client is None:
        raise BenchError("docker is not installed, and pods are its containers here")
    commit = machine.commit()
    cores = machine.split_cores()
    if not cores.pinned:
        console.print("No core can be set aside for the pod here: figures are rougher.", style="yellow")
    began_s = time.monotonic()
    pods = []
    with _explained(), Node(Docker(client), others=_beside(cores)) as node:
        pods += [_one(service, node, cores=cores, quick=quick, say=console.print) for service in services]
    return {
        "kind": "sizing",
        "taken_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": commit,
        "quick": quick,
        "complete": set(services) == set(SERVICES),
        "took_s": round(time.monotonic() - began_s),
        "machine": machine.facts(cores),
        "in_time": {"percent": IN_TIME, "within_ms": WITHIN_S * 1000},
        "pods": pods,
    }


def _one(service: str, node: Node, *, cores: Cores, quick: bool, say: Callable[..., None]) -> dict[str, Any]:
    """One pod: at rest, in an overload, at rising rates, and with all that it keeps."""
    own = Place(cpuset="" if cores.server is None else str(cores.server))
    with ExitStack() as stack:
        if service == "gateway":
            behind = [stack.enter_context(node.run(each, place=_beside(cores))) for each in SERVICES if each != service]
            for other in behind:
                other.become_ready()
        pod = stack.enter_context(node.run(service, place=own))
        cgroup = pod.cgroup
        pod.become_ready()
        time.sleep(REST_S / 5 if quick else REST_S)
        rest = cgroup.working_set
        if service in ("links", "gateway"):
            _make_links(pod, key=node.key if service == "gateway" else "")
        mix = mix_of(service, prefix=f"size-{service}", key=node.key)
        steps, seen = _rising(pod, mix, cgroup, quick=quick, say=say)
        _, overload = _step(
            pod, mix, cgroup, key="overload", per_second=OVERLOAD * steps[-1].rate, seconds=QUICK_S if quick else FINE_S
        )
        say(f"{service}: {overload['answered_per_second']:.0f} a second of {overload['rate']:.0f}", highlight=False)
        if service == "gateway":
            fill_the_cache(pod)
        if cgroup.killed or not pod.state["Running"]:
            raise BenchError(f"{service} was killed for want of memory")
        found = knee(steps)
        at_knee = next((each for each in reversed(seen) if each["rate"] == found), None)
        limits = pod.pod.container["resources"]["limits"]
        return {
            "service": service,
            "workers": WORKERS,
            "cpu_limit": quantity(limits["cpu"]),
            "memory_limit_mib": memory_limit(pod.pod) // _MIB,
            "knee_per_second": found,
            "most_per_second": max(each["answered_per_second"] for each in (*seen, overload)),
            "knee_cpus": at_knee and at_knee["cpus"],
            "knee_p99_ms": at_knee and at_knee["p99_ms"],
            "rest_mib": round(rest / _MIB, 1),
            "peak_mib": round(cgroup.peak / _MIB, 1),
            "image_revision": node.docker.inspect(pod.id)["Config"]["Labels"]["org.opencontainers.image.revision"],
            "overload": overload,
            "steps": seen,
        }


def _rising(
    pod: PodContainer, mix: Mix, cgroup: Cgroup, *, quick: bool, say: Callable[..., None]
) -> tuple[list[Step], list[dict[str, Any]]]:
    """The steps, the one at which answers are late last of those that only rise; and all that was seen. What is late is
    asked once more: it may have been the machine.
    """
    steps: list[Step] = []
    seen: list[dict[str, Any]] = []

    def fine(rate: float, *, seconds: float) -> bool:
        for again in (True, False):
            step, facts = _step(pod, mix, cgroup, key=f"{rate:.0f}", per_second=rate, seconds=seconds)
            seen.append(facts)
            say(
                f"{pod.pod.name}: {rate:.0f} a second, p99 {facts['p99_ms']:.0f} ms, {facts['cpus']:.2f} processors, "
                f"{facts['held_back']:.0%} of periods held back {step.outcome.void}",
                highlight=False,
            )
            well = step.counts and step.in_time
            if not well:
                _let_rest(cgroup)
            if well or quick or not again:
                steps.append(step)
                return well
        raise AssertionError("the second is the last")

    pod.offer(mix, per_second=FIRST, seconds=COARSE_S)  # until every worker has done everything once
    _let_rest(cgroup)
    good, bad = FIRST / 2, FIRST
    while bad < MOST and fine(bad, seconds=QUICK_S if quick else COARSE_S):
        good, bad = bad, 2 * bad
    late = steps[-1]
    for _ in range(QUICK_CLOSER if quick else CLOSER):
        between = math.sqrt(good * bad)
        if fine(between, seconds=QUICK_S if quick else FINE_S):
            good = between
        else:
            bad = between
    steps.sort(key=lambda step: step is late)
    return steps, seen


def _let_rest(cgroup: Cgroup) -> None:
    """Return once the pod has done with what was asked of it in vain, after some seconds at the latest."""
    end_s = time.monotonic() + REST_WITHIN_S
    while time.monotonic() < end_s:
        before_s = cgroup.cpu_s
        time.sleep(LOOK_S)  # the time over which its work is looked at
        if cgroup.cpu_s - before_s < AT_REST * LOOK_S:
            return


def _step(
    pod: PodContainer, mix: Mix, cgroup: Cgroup, *, key: str, per_second: float, seconds: float
) -> tuple[Step, dict[str, Any]]:
    """One rate: what came of it, and what it took."""
    before_s, periods, held = cgroup.cpu_s, *cgroup.held_back
    began_s = time.monotonic()
    outcome = pod.offer(mix, per_second=per_second, seconds=seconds, warm_up_s=WARM_UP_S)
    took_s = time.monotonic() - began_s
    _refuse_mistakes(outcome)
    periods_after, held_after = cgroup.held_back
    seen = {
        "rate": outcome.offered,
        "cpus": round((cgroup.cpu_s - before_s) / took_s, 3),
        "held_back": round((held_after - held) / max(periods_after - periods, 1), 3),
        "p99_ms": round(outcome.p(99) * 1000, 1),
        "working_set_mib": round(cgroup.working_set / _MIB, 1),
        "answered_per_second": round(outcome.answered_per_second, 1),
        "outcome": outcome.record(),
    }
    return Step(key=key, outcome=outcome), seen


def _refuse_mistakes(outcome: Outcome) -> None:
    wrong = {status: times for status, times in outcome.statuses.items() if 400 <= status < 500}
    if wrong:
        raise BenchError(f"requests that a pod refuses say nothing of what it can do: {wrong}")


def _make_links(pod: PodContainer, *, key: str) -> None:
    """What is followed has to be there; a gateway may not know at once where its services are."""
    for request in first_links(key=key):
        wait_until(
            lambda request=request: pod.send(request)[0] in (201, 409),  # type: ignore[misc]
            timeout_s=_LINKS_WITHIN_S, interval_s=0.2, what="a link can be made",
        )  # fmt: skip


def _beside(cores: Cores) -> Place:
    """Where everything is that is not measured."""
    return Place(cpuset=",".join(map(str, sorted(cores.others or ()))), limited=False)


@contextmanager
def _explained() -> Iterator[None]:
    """What the machinery of the tests has to say, as this command says it."""
    try:
        yield
    except (pytest.skip.Exception, pytest.fail.Exception) as error:
        raise BenchError(str(error.msg)) from error
    except (AssertionError, NotSeen, TimeoutError) as error:
        raise BenchError(str(error)) from error


if __name__ == "__main__":
    sys.exit(main())
