"""The recorded lines, and what a collector makes of them.

recorded/compose.log is from the containers of `docker compose up`, through a store's outage, names of the project
shortened and repetitions left out; odd.log from a container that writes what a service may write in the worst case;
foreign.log from containers of somebody else; documented.log is written after the documentation of programs whose images
were not at hand. All are lines of Docker's json-file driver.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.observability.pipelines import FILES, Collector, alloy, promtail
from tests.observability.stages import Entry, Pipeline

RECORDED = Path(__file__).with_name("recorded")
OURS = ("compose.log", "odd.log", "documented.log")
NOW_NS = 1


@dataclass(frozen=True)
class Written:
    """What a container wrote: one of Docker's lines, taken apart. A line that was too long comes in pieces."""

    raw: str
    service: str
    text: str
    time: str
    ends: bool


def written(*names: str) -> Iterator[Written]:
    """The lines of these files under recorded/, in order."""
    for name in names:
        for raw in (RECORDED / name).read_text("utf-8").splitlines():
            line = json.loads(raw)
            service = line.get("attrs", {}).get("tag", "//").split("/")[1]
            yield Written(raw, service, line["log"].removesuffix("\n"), line["time"], line["log"].endswith("\n"))


def collectors(place: str) -> dict[str, Collector]:
    """Both collectors' configurations for `compose` or `kubernetes`."""
    promtail_path, alloy_path = FILES[place]
    return {"promtail": promtail(promtail_path), "alloy": alloy(alloy_path)}


def of_compose(collector: Collector, lines: Iterator[Written]) -> list[Entry | None]:
    """What is sent for each line, None where nothing is."""
    pipeline = Pipeline(collector.stages)
    return [pipeline.run(Entry(line.raw, _labels(collector, {}), NOW_NS)) for line in lines]


def of_kubernetes(collector: Collector, lines: Iterator[Written]) -> list[Entry | None]:
    """The same lines as containerd writes them, each from a pod of its service."""
    pipeline = Pipeline(collector.stages)
    return [
        pipeline.run(
            Entry(
                f"{line.time} stdout {'F' if line.ends else 'P'} {line.text}",
                _labels(collector, discovered(line.service)),
                NOW_NS,
            )
        )
        for line in lines
    ]


def discovered(app: str | None) -> dict[str, str]:
    """What Kubernetes' discovery says of a container of a pod with this label `app`."""
    labels = {
        "__meta_kubernetes_namespace": "storefront",
        "__meta_kubernetes_pod_name": f"{app}-6c9f7d5b8-x2x4q",
        "__meta_kubernetes_pod_container_name": str(app),
        "__meta_kubernetes_pod_uid": "0b1c",
        "__meta_kubernetes_pod_node_name": "node-1",
    }
    return labels if app is None else {**labels, "__meta_kubernetes_pod_label_app": app}


def _labels(collector: Collector, found: Mapping[str, str]) -> dict[str, str]:
    target = collector.target(found) or {}
    path = target.pop("__path__")
    return {**target, "filename": path.replace("*", "x")}
