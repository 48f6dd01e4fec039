"""Rendered objects, as tests ask for them: pods, what they select, what they read."""

from __future__ import annotations

import functools
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import yaml

from tests.kubernetes.tools import K8S, documents

WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
SERVICES = ("catalogue", "gateway", "links", "user")


@dataclass(frozen=True)
class Pod:
    """A kind of pod: the template of a workload."""

    kind: str
    name: str
    namespace: str
    labels: Mapping[str, str]
    spec: Mapping[str, Any]
    workload: Mapping[str, Any]

    @property
    def container(self) -> Mapping[str, Any]:
        """Its only container."""
        (container,) = self.spec["containers"]
        assert "initContainers" not in self.spec
        found: Mapping[str, Any] = container
        return found

    @property
    def ports(self) -> Mapping[str, int]:
        """Name → number."""
        return {port["name"]: port["containerPort"] for port in self.container.get("ports", ())}

    @property
    def service(self) -> str | None:
        """Which of the four services' settings it reads; None if it is something else."""
        image = self.container["image"].partition(":")[0].removeprefix("storefront-")
        return image if image in SERVICES else None


class Objects:
    """The objects of an overlay."""

    def __init__(self, overlay: str) -> None:
        self.overlay = overlay
        self.all = documents(overlay)

    def of(self, *kinds: str) -> Iterator[dict[str, Any]]:
        """The objects of these kinds."""
        return (each for each in self.all if each["kind"] in kinds)

    def names(self, kind: str) -> set[str]:
        """The names of the objects of a kind."""
        return {each["metadata"]["name"] for each in self.of(kind)}

    def one(self, kind: str, name: str) -> dict[str, Any]:
        """The object of this kind and name."""
        (found,) = (each for each in self.of(kind) if each["metadata"]["name"] == name)
        return found

    @functools.cached_property
    def pods(self) -> tuple[Pod, ...]:
        """Every kind of pod."""
        return tuple(
            Pod(
                each["kind"],
                each["metadata"]["name"],
                each["metadata"]["namespace"],
                each["spec"]["template"]["metadata"]["labels"],
                each["spec"]["template"]["spec"],
                each,
            )
            for each in self.of(*WORKLOADS)
        )

    def pod(self, name: str) -> Pod:
        """The pod of the workload of this name."""
        (found,) = (pod for pod in self.pods if pod.name == name)
        return found


@functools.cache
def objects(overlay: str) -> Objects:
    """The objects of an overlay, read once."""
    return Objects(overlay)


def selects(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    """Whether a label selector, an empty one included, takes something with these labels."""
    for label, value in selector.get("matchLabels", {}).items():
        if labels.get(label) != value:
            return False
    for term in selector.get("matchExpressions", ()):
        assert term["operator"] == "In", "no other operator is used here"
        if labels.get(term["key"]) not in term["values"]:
            return False
    return True


def secrets() -> dict[str, dict[str, str]]:
    """Name → keys and values of what k8s/secrets.sh writes."""
    text = subprocess.run(["sh", str(K8S / "secrets.sh")], capture_output=True, text=True, check=True).stdout
    return {each["metadata"]["name"]: each["stringData"] for each in yaml.safe_load_all(text)}


def config_of(objects: Objects, name: str) -> dict[str, str]:
    """Keys and values of a ConfigMap."""
    found: dict[str, str] = objects.one("ConfigMap", name)["data"]
    return found


def environment(objects: Objects, pod: Pod) -> dict[str, str]:
    """The variables that the manifest gives to the container. Raises KeyError for a key that does not exist."""
    found: dict[str, str] = {}
    for source in pod.container.get("envFrom", ()):
        found |= config_of(objects, source["configMapRef"]["name"])
    for variable in pod.container.get("env", ()):
        value = variable.get("value")
        if value is None and "configMapKeyRef" in variable["valueFrom"]:
            reference = variable["valueFrom"]["configMapKeyRef"]
            value = config_of(objects, reference["name"])[reference["key"]]
        found[variable["name"]] = value if value is not None else variable["valueFrom"]["fieldRef"]["fieldPath"]
    return found


def files(objects: Objects, pod: Pod, secret: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Path in the container → text, of every ConfigMap and Secret that is mounted. Raises KeyError for a key or an
    object that does not exist.
    """
    volumes = {volume["name"]: volume for volume in pod.spec.get("volumes", ())}
    found: dict[str, str] = {}
    for mount in pod.container.get("volumeMounts", ()):
        volume = volumes.get(mount["name"], {})  # or a claim of a StatefulSet, which has no file yet
        if "configMap" in volume:
            source, texts = volume["configMap"], config_of(objects, volume["configMap"]["name"])
        elif "secret" in volume:
            source, texts = volume["secret"], dict(secret[volume["secret"]["secretName"]])
        else:
            continue
        items = source.get("items") or [{"key": key, "path": key} for key in texts]
        for item in items:
            if "subPath" in mount:
                if item["path"] == mount["subPath"]:
                    found[mount["mountPath"]] = texts[item["key"]]
            else:
                found[f"{mount['mountPath']}/{item['path']}"] = texts[item["key"]]
    return found
